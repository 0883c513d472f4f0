"""Represent the image to segment: a phantom, a sample image, an upload, or one slice of an uploaded volume."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray

from app.core import catalogue, frames
from app.core.catalogue import Card
from app.core.frames import Opening
from app.inputs.sample_images import pixels, sample_images
from app.inputs.uploads import MOST, temporary_upload
from medsegdiff import imaging
from medsegdiff.data.synthetic import draw
from medsegdiff.image_ref import Intensity, Picture

__all__ = ["InputImage", "SliceView", "open_image", "phantom", "upload"]


@dataclass(frozen=True, slots=True)
class SliceView:
    """A view of a volume: axis, slice and window, and the available choices."""

    key: str  # in the volume cache
    axes: tuple[int, ...]  # available axes; for DICOM frames and 2-D images only the last
    axis: int
    index: int
    counts: tuple[int, int, int]
    window: tuple[float, float] | Intensity  # grey values shown as black and white, or how to find them
    shown: tuple[float, float] | None  # the grey values that this slice shows so; None for colour frames
    trained: Intensity  # how the checkpoint windows this volume; empty if that is the file's own window
    ends: tuple[float, float]  # smallest and largest value
    hounsfield: bool
    array_axes: str = "LPS"  # directions of the volume's x, y, z; DICOM frames keep those of their file

    @property
    def slices(self) -> int:
        """Number of slices along the current axis."""
        return self.counts[self.axis]

    def along(self, axis: int) -> "SliceView":
        """Return the view of the middle slice along another axis."""
        return replace(self, axis=axis, index=self.counts[axis] // 2)


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """An image to segment. Only phantoms have a seed and a reference mask.

    The file name of an upload is shown and names the downloads; no file and no report contains it.
    """

    picture: Picture
    reference: tuple[UInt8[ndarray, "h w"], ...] = ()
    seed: int | None = None
    slice_view: SliceView | None = None  # for a slice of a volume
    sample: str = ""  # key of a sample image, for its caption
    name: str = ""  # file name of an upload

    @property
    def opening(self) -> Opening:
        """The image and its reference mask at display size."""
        return Opening(frames.thumbnail(self.picture.pixels), tuple(frames.thumbnail(t) for t in self.reference), ())

    def stem(self, task: str) -> str:
        """Return the start of the names of the files made from this image, safe as a file name."""
        if not self.name:
            return f"{_file_name(task)}-{self.sample or self.seed}"
        kept, picture = _file_name(Path(self.name.removesuffix(".gz")).stem), self.picture
        return f"{kept}-slice-{picture.slice_index + 1}" if picture.slice_count > 1 else kept


def _file_name(text: str) -> str:
    """Replace the characters of a text that a file name should not contain, and shorten it."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text)[:60].strip("-") or "image"


@lru_cache(maxsize=32)
def phantom(seed: int, task: str = catalogue.TASK) -> InputImage:
    """Generate the phantom of a seed, or read the sample image with this number.

    Tasks without phantoms of their own use those of the default task.
    """
    row = next((row for row in sample_images(task) if row.number == seed), None)
    if row is not None:
        return InputImage(Picture(pixels(row, task)), sample=row.key)
    drawn = draw(catalogue.phantom_task(task), seed)
    return InputImage(Picture(drawn.image), drawn.references, seed)


def upload(path: str, card: Card | None = None) -> InputImage:
    """Read an uploaded image, or the middle slice of a volume as a checkpoint takes it; the copy on disk is deleted.

    Raises:
        ValueError: The file cannot be read as an image.
    """
    with temporary_upload(path):
        return open_image(path, card)


def open_image(path: str, card: Card | None = None) -> InputImage:
    """Read an image, or the middle slice of a volume as a checkpoint takes it, within a visitor's limits.

    Raises:
        ValueError: The file cannot be read as an image.
    """
    window = card.intensity if card else None
    found = imaging.open(path, window=window, stack=False, most=MOST, limits=imaging.VISITOR)
    if isinstance(found, Picture):
        return InputImage(found)
    return InputImage(found.slice(found.slice_axis(card.axis if card else 2), None, window))
