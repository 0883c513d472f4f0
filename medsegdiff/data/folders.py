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

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True, slots=True)
class Case:
    """A picture file and, if there is one, its mask file."""

    name: str  # the file name without its ending
    image: Path
    mask: Path | None

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        """Read the picture."""
        return read(self.image).pixels

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
    with Image.open(path, formats=("PNG", "TIFF", "BMP")) as file:
        if file.mode not in ("L", "P", "1", "I", "I;16"):
            raise ValueError(f"{path} has mode {file.mode}; a mask is a one-channel label picture (0 background, 1..K)")
        labels = np.asarray(file).astype(np.int64)
    if classes == 1 and set(np.unique(labels)) <= {0, 255}:
        labels //= 255
    if labels.max(initial=0) > classes:
        raise ValueError(f"{path} has label {labels.max()}, but there are only classes 0 to {classes}; check the task")
    return labels.astype(np.uint8)


def cases(folder: Path | str, split: str = "val") -> list[Case]:
    """List a split's cases by name; masks may be missing (segmenting needs none).

    Raises:
        ValueError: the folder holds no pictures in the layout above.
    """
    root = Path(folder)
    root = root / split if (root / split).is_dir() else root
    found = list(_pairs(root))
    if not found:
        raise ValueError(
            f"{root} holds no pictures; expected images/NAME.png (or .jpg, .tif, .dcm) and masks/NAME.png in it"
        )
    return found


def _pairs(root: Path) -> Iterator[Case]:
    for image in sorted((root / "images").glob("*")):
        if image.suffix.lower() in _PICTURES:
            masks = [
                m for m in (root / "masks").glob(f"{image.stem}.*") if m.suffix.lower() in (".png", ".tif", ".tiff")
            ]
            yield Case(image.stem, image, masks[0] if masks else None)
