"""Offer real images that installed packages contain under a free licence; none is copied into this project.

Each entry names the package, the file, and the crop for each task. The file is located without importing the package. If
the package is not installed, or the file has another checksum, the image is not offered.

requirements.txt lists scikit-image only for its image of a retina; pydicom and nibabel also read uploads.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from medsegdiff.image_ref import robust_window, windowed
from medsegdiff.imaging import read

__all__ = ["SAMPLES", "Box", "SampleImage", "missing", "pixels", "sample_images"]

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are exclusive


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One sample image; it has no reference mask."""

    number: int  # used in place of a phantom seed; above all seeds that are generated at random
    key: str  # of its caption: subject, author, licence
    package: str  # distribution name
    file: str  # path below site-packages
    sha256: str  # of the file
    crops: Mapping[str, Box]  # by task
    slice_index: int = 0  # of a NIfTI volume: the axial slice, of the first volume in time

    @property
    def path(self) -> Path | None:
        """Path of the installed file, or None if it is missing."""
        return _path(self.package, self.file, self.sha256)


SAMPLES: tuple[SampleImage, ...] = (
    SampleImage(
        990_001,
        "retina",
        "scikit-image",
        "skimage/data/retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        # 1411 x 1411 pixels; the disc is centred at (238, 649), 185 pixels wide. The crop is three disc diameters wide.
        {"optic-disc": (0, 0, 1411, 1411), "optic-disc-cup": (0, 371, 556, 927)},
    ),
    SampleImage(
        990_002,
        "liver",
        "pydicom",
        "pydicom/data/test_files/examples_overlay.dcm",
        "112539bc17c0e281987397e827dff9e99890109866d570f08761f83b8f55c277",
        {"abdomen-mr": (0, 0, 484, 300)},
    ),
    SampleImage(
        990_003,
        "lymph_node",
        "pydicom",
        "pydicom/data/test_files/examples_rgb_color.dcm",
        "bdd7f166ccef2dbd7ea9fc601ac25811f45aa623493b86cec0979b47109b83d4",
        {"breast-ultrasound": (0, 0, 320, 240)},  # deliberately not what the checkpoint was trained on
    ),
    SampleImage(
        990_004,
        "heart",
        "pydicom",
        "pydicom/data/test_files/examples_ybr_color.dcm",
        "6fa3a087d3c631b43216a8abec8aac8d2d73751c5bf5885708d1150b09283f72",
        {"thyroid-nodule": (0, 0, 320, 240)},  # of 30 frames the middle one; deliberately of another organ
    ),
    SampleImage(
        990_005,
        "head",
        "nibabel",
        "nibabel/tests/data/example4d.nii.gz",
        "42097dfbab9d2a036b41ae5c97a359591cf2cf5c3f8dc6ca6455c0b8a7f22696",
        {"brain-flair": (16, 0, 112, 96)},  # deliberately of another contrast
        slice_index=14,
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


def sample_images(task: str, rows: tuple[SampleImage, ...] = SAMPLES) -> tuple[SampleImage, ...]:
    """List the sample images that are installed for a task."""
    return tuple(row for row in rows if task in row.crops and row.path is not None)


def missing(seed: int) -> SampleImage | None:
    """Return the sample image that has this number and that a phantom replaces, or None for an ordinary seed."""
    return next((row for row in SAMPLES if row.number == seed), None)


def pixels(row: SampleImage, task: str) -> UInt8[ndarray, "h w 3"]:
    """Read a sample image, cropped for a task."""
    assert row.path is not None
    left, top, right, bottom = row.crops[task]
    if row.path.suffix == ".dcm":
        return read(row.path).pixels[top:bottom, left:right].copy()
    if row.path.suffix == ".gz":
        import nibabel as nib  # 30 MB, for this image alone

        held = cast(nib.Nifti1Image, nib.load(row.path)).dataobj[:, :, row.slice_index, 0]
        values = np.rot90(held)  # from axes towards the left and the front: front upwards
        grey = windowed(values, robust_window(values))
        return np.repeat(grey[top:bottom, left:right, None], 3, axis=2)
    with Image.open(row.path) as image:
        return np.array(image.convert("RGB").crop((left, top, right, bottom)))
