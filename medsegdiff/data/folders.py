"""Folders of pictures and masks: `images/NAME.*` beside `masks/NAME.*`, labels 0..K in a lossless picture.

A data folder holds `train/` and `val/`, each such a pair; a folder that is itself such a pair is one split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medsegdiff.imaging import read

__all__ = ["Case", "cases", "read_labels"]

_MASKS = (".png", ".tif", ".tiff")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True, slots=True)
class Case:
    """A picture file and, if there is one, its mask file."""

    name: str  # the file name without its ending
    image: Path
    mask: Path | None

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """Read the picture."""
        try:
            return read(self.image).pixels
        except ValueError as error:
            raise ValueError(f"{self.image}: {error}") from error

    def labels(self, classes: int) -> UInt8[np.ndarray, "h w"]:
        """Read the mask.

        Raises:
            ValueError: there is no mask, it is unreadable, or a label lies outside 0..classes; the file is named.
        """
        if self.mask is None:
            raise ValueError(
                f"{self.image} has no mask of the same name in {self.image.parent.parent / 'masks'}; add it"
            )
        return read_labels(self.mask, classes)


def read_labels(path: Path, classes: int) -> UInt8[np.ndarray, "h w"]:
    """Read a label picture; a 0/255 mask of one class counts as 0/1."""
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as file:
            mode, labels = file.mode, np.asarray(file).astype(np.int64)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as PNG or TIFF ({error}); save it again") from error
    if mode not in ("L", "P", "1", "I", "I;16"):
        raise ValueError(f"{path} has mode {mode}; a mask is a one-channel label picture (0 background, 1..K)")
    if classes == 1 and set(np.unique(labels)) <= {0, 255}:
        labels //= 255
    if wrong := [int(label) for label in np.unique(labels) if not 0 <= label <= classes]:
        raise ValueError(f"{path} has label {wrong[-1]}, but there are only classes 0 to {classes}; check the task")
    return labels.astype(np.uint8)


def cases(folder: Path | str, split: str = "val") -> list[Case]:
    """List a split's cases by name; masks may be missing (segmenting needs none).

    Raises:
        ValueError: the folder holds no pictures in the layout above.
    """
    root = Path(folder)
    if (root / "train").is_dir() and not (root / split).is_dir():
        raise ValueError(f"{root} has train/ but no {split}/; add it, or choose another split")
    root = root / split if (root / split).is_dir() else root
    found = list(_pairs(root))
    if not found:
        raise ValueError(
            f"{root} holds no pictures; expected images/NAME.png (or .jpg, .tif, .dcm) and masks/NAME.png in it"
        )
    return found


def _pairs(root: Path) -> Iterator[Case]:
    masks = {path.stem: path for path in sorted((root / "masks").glob("*")) if path.suffix.lower() in _MASKS}
    for image in sorted((root / "images").glob("*")):
        if image.suffix.lower() in _PICTURES:
            yield Case(image.stem, image, masks.get(image.stem))
