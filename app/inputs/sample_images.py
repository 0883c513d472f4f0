"""Real pictures that an installed package carries under a free licence: read from there when asked for, never copied here.

A row names the package, the file in it and, task by task, what of the picture a checkpoint expects to see. The package is
looked up and not imported. Where it is not installed, or carries another file by that name, the picture is not offered.

scikit-image is one such package; requirements.txt lists it for this picture alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

__all__ = ["BORROWED", "Box", "SampleImage", "missed", "pixels", "sample_images"]

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; the last two are outside


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One picture; its truth is not known."""

    number: int  # stands for it where a drawn picture has its seed; beyond all seeds that are drawn by chance
    key: str  # of its words: what it shows, whose it is, its licence
    package: str  # as it is installed
    file: str  # from the folder that packages are installed in
    sha256: str  # of the file
    crops: Mapping[str, Box]  # by task

    @property
    def path(self) -> Path | None:
        """Where it lies; None where it does not."""
        return _path(self.package, self.file, self.sha256)


BORROWED: tuple[SampleImage, ...] = (
    SampleImage(
        990_001,
        "retina",
        "scikit-image",
        "skimage/data/retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        # 1411 x 1411 pixels; the disc lies at (238, 649) and is 185 wide. Crops of the task are three discs wide.
        {"optic-disc": (0, 0, 1411, 1411), "optic-disc-cup": (0, 371, 556, 927)},
    ),
)


@cache
def _path(package: str, file: str, sha256: str) -> Path | None:
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    same = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return path if same else None


def sample_images(task: str, rows: tuple[SampleImage, ...] = BORROWED) -> tuple[SampleImage, ...]:
    """Find the pictures that are here for a task."""
    return tuple(row for row in rows if task in row.crops and row.path is not None)


def missed(seed: int) -> SampleImage | None:
    """Find the picture that was meant by the seed of a drawn one, which then stands in for it; mostly none was."""
    return next((row for row in BORROWED if row.number == seed), None)


def pixels(row: SampleImage, task: str) -> UInt8[ndarray, "h w 3"]:
    """Read what a task sees of a picture that is here."""
    assert row.path is not None
    with Image.open(row.path) as image:
        return np.array(image.convert("RGB").crop(row.crops[task]))
