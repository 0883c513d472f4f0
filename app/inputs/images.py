"""What is segmented: a drawn phantom, a borrowed picture, or a visitor's own, and of a volume the slice that is looked at."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import UInt8
from numpy import ndarray

from app.core import catalogue, frames
from app.core.frames import Opening
from app.inputs.sample_images import pixels, sample_images
from app.inputs.uploads import temporary_upload

if TYPE_CHECKING:
    from medsegdiff.image_ref import Picture

__all__ = ["InputImage", "SliceView", "phantom", "upload"]


@dataclass(frozen=True, slots=True)
class SliceView:
    """How a volume is looked at, and what there is to choose."""

    key: str  # on the shelf
    axes: tuple[int, ...]  # to choose from; of DICOM frames and flat pictures the last alone
    axis: int
    index: int
    counts: tuple[int, int, int]
    window: tuple[float, float] | None  # None: frames in colour
    own: tuple[float, float] | None  # the window it opened with
    ends: tuple[float, float]  # of the values
    hounsfield: bool

    @property
    def slices(self) -> int:
        """How many there are along the axis looked along."""
        return self.counts[self.axis]

    def along(self, axis: int) -> "SliceView":
        """Look along another axis, at its middle slice."""
        return replace(self, axis=axis, index=self.counts[axis] // 2)


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """A picture to segment. A phantom knows its seed and its truth; others have neither, and an uploaded one no name."""

    picture: "Picture"
    reference: tuple[UInt8[ndarray, "h w"], ...] = ()
    seed: int | None = None
    slice_view: SliceView | None = None  # of a volume: where it lies and how it is looked at
    sample_images: str = ""  # key of the words of a picture that an installed package carries

    @property
    def opening(self) -> Opening:
        """The picture alone, at screen size."""
        return Opening(frames.thumbnail(self.picture.pixels), tuple(frames.thumbnail(t) for t in self.reference), ())


@lru_cache(maxsize=32)
def phantom(seed: int, task: str = catalogue.TASK) -> InputImage:
    """Draw the phantom of a seed, or read the picture borrowed for the task that has this number.

    A task that nobody draws has the phantoms of the page's first.
    """
    from medsegdiff.data.synthetic import TASKS, draw
    from medsegdiff.image_ref import Picture

    row = next((row for row in sample_images(task) if row.number == seed), None)
    if row is not None:
        return InputImage(Picture(pixels(row, task)), sample_images=row.key)
    drawn = draw(task if task in TASKS else catalogue.TASK, seed)
    return InputImage(Picture(drawn.image), (drawn.labels,), seed)


def upload(path: str, task: str = "") -> InputImage:
    """Read a file that a visitor gave; the copy on disk is deleted, whatever came of it.

    Of a volume, the middle slice along the axis that the task wants.

    Raises:
        ValueError: it is no picture that can be read here.
    """
    from medsegdiff.data.tasks import axis_of
    from medsegdiff.imaging import is_volume, read

    with temporary_upload(path):
        return InputImage(read(path, axis=axis_of(task) if is_volume(Path(path)) else 2))
