"""Read images and volumes from files, and write masks and maps.

Files are decoded in a separate process (`medsegdiff.reader`), so a malicious file can crash that process but not this one. A
file that cannot be read raises a PictureError of one sentence, without the file's name. Text of a file's header is not kept,
and the files written contain no text.
"""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt, UInt8
from PIL import Image

from medsegdiff import reader
from medsegdiff.atomic import replacing
from medsegdiff.errors import InputError
from medsegdiff.image_ref import MAX_BYTES, Intensity, Picture, PictureError, Volume, Windowing
from medsegdiff.nifti import write_map, write_volume
from medsegdiff.reader import GENEROUS, VISITOR, Limits

__all__ = [
    "GENEROUS",
    "VISITOR",
    "Intensity",
    "Limits",
    "Picture",
    "PictureError",
    "Series",
    "Volume",
    "is_volume",
    "open",
    "read",
    "read_series",
    "read_volume",
    "series_in",
    "stem",
    "write_labels",
    "write_map",
    "write_probability",
    "write_volume",
]

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")
_ENDINGS = (*_VOLUMES, ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom", ".ima")


def open(
    path: str | PathLike[str],
    *,
    page: int | None = None,
    window: Windowing = None,
    stack: bool = True,
    most: int = MAX_BYTES,
    limits: Limits = GENEROUS,
) -> Picture | Volume:
    """Open a file of any supported format as a 2-D picture, or as a volume of which slices and windows can be chosen.

    DICOM, NIfTI, NRRD and MHA are volumes. They are turned to LPS, right to left, front to back, feet to head, by
    permuting and flipping axes only; a DICOM file keeps its frames.

    Arguments:
        path: PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MHA, at most 512 MiB and 4096 x 4096 pixels a slice, or the
            folder of one DICOM series.
        page: of a TIFF; None is the middle.
        window: of a flat picture, grey values shown as 0 and 255, or how a checkpoint finds them; None takes 8-bit pictures as
            they are, others from percentile 0.5 to 99.5.
        stack: return a flat picture of more than 8 bits as a volume of one slice, to window it later.
        most: bytes that a volume may take in memory, four a voxel.
        limits: memory and time that decoding may take.

    Raises PictureError for a file that cannot be shown, ValueError for a window that it does not have.
    """
    if Path(path).is_dir():
        return read_series(_only_series(Path(path), limits), most=most, limits=limits)
    found = reader.decode(Path(path), page=page, most=most, limits=limits)
    if isinstance(found, Volume):
        return found
    return found.volume() if found.deep and stack else found.picture(window)


def read(
    path: str | PathLike[str],
    *,
    axis: int = 2,
    index: int | None = None,
    window: Windowing = None,
    most: int = MAX_BYTES,
    limits: Limits = GENEROUS,
) -> Picture:
    """Read a picture, a page of a TIFF, a frame of a DICOM or a slice of a volume; otherwise as `open`.

    Arguments:
        path: as of `open`.
        axis: 0 sagittal, 1 coronal, 2 axial; only volumes have more than the last.
        index: from the patient's right, front or feet, or of the page or frame; None is the middle.
        window: grey values shown as 0 and 255, or how a checkpoint finds them. None takes 8-bit pictures as they are, a
            DICOM's own window, else percentiles 0.5 and 99.5 (of the page or volume).
        most: as of `open`.
        limits: as of `open`.

    Raises PictureError for a file that cannot be shown, ValueError for a window or axis that the file does not have.
    """
    if Path(path).is_dir():
        return read_series(_only_series(Path(path), limits), most=most, limits=limits).slice(axis, index, window)
    found = reader.decode(Path(path), page=index, most=most, limits=limits)
    if isinstance(found, Volume):
        return found.slice(axis, index, window)
    if axis != 2:
        raise InputError("image.axis", "axis is {axis}, but this file is a flat picture; leave it at 2", axis=axis)
    return found.picture(window)


@dataclass(frozen=True, slots=True)
class Series:
    """The files of a DICOM series, one slice each, in the order of their positions."""

    folder: Path
    number: int  # Series Number of DICOM
    modality: str | None
    files: tuple[Path, ...]
    name: str  # of its results: that of the folder, and the number if the folder holds several

    def __str__(self) -> str:
        return f"{self.folder} (series {self.number}, {len(self.files)} files)"


def series_in(folder: str | PathLike[str], *, limits: Limits = GENEROUS) -> list[Series]:
    """List the DICOM series in a folder, including the folders in it.

    Raises:
        PictureError: there is none.
    """
    folder = Path(folder)
    found = reader.find_series(folder, limits=limits)
    if not found:
        raise PictureError("series.none", "this folder holds no DICOM series; give its files, or another folder")
    numbers = [int(one["number"]) for one in found]
    series = []
    for index, (one, number) in enumerate(zip(found, numbers, strict=True)):
        label = number if numbers.count(number) == 1 else f"{number}-{numbers[:index].count(number) + 1}"
        name = folder.resolve().name if len(found) == 1 else f"{folder.resolve().name}_{label}"
        modality = None if one["modality"] is None else str(one["modality"])[:16]
        series.append(Series(folder, number, modality, tuple(map(Path, one["files"])), name))
    return series


def read_series(series: Series, *, most: int = MAX_BYTES, limits: Limits = GENEROUS) -> Volume:
    """Read a DICOM series as a volume in LPS; otherwise as `open`.

    Uneven distances between slices and a gantry tilt are in `Volume.remarks`.
    """
    return reader.decode_series(series.files, most=most, limits=limits)


def _only_series(folder: Path, limits: Limits) -> Series:
    found = series_in(folder, limits=limits)
    if len(found) > 1:
        raise PictureError(
            "series.several",
            "this folder holds {count} DICOM series; choose one with series_in and read_series",
            count=len(found),
        )
    return found[0]


def read_volume(path: str | PathLike[str], *, most: int = MAX_BYTES, limits: Limits = GENEROUS) -> Volume:
    """Read DICOM, NIfTI, NRRD or MHA as a stack of slices; otherwise as `open`."""
    if Path(path).is_dir():
        return read_series(_only_series(Path(path), limits), most=most, limits=limits)
    found = reader.decode(Path(path), most=most, limits=limits)
    if isinstance(found, Volume):
        return found
    raise PictureError(
        "image.not_a_volume",
        "this is a flat picture ({kind}), not a volume; give DICOM, NIfTI, NRRD or MHA",
        kind=found.kind,
    )


def is_volume(path: Path) -> bool:
    """Tell by its name whether a file holds a volume rather than a picture; a DICOM file counts as a picture."""
    return path.name.lower().endswith(_VOLUMES)


def stem(path: Path) -> str:
    """Return a file's name without the ending of its format, in upper or lower case; `.nii.gz` is one ending.

    What follows a dot in other names belongs to the name, as in DICOM's UIDs: 1.2.840.113619.1 and 1.2.840.113619.2 differ.
    """
    longest = max((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), key=len, default="")
    return path.name[: len(path.name) - len(longest)] or path.name


def write_labels(path: str | PathLike[str], labels: UInt8[np.ndarray, "h w"]) -> None:
    """Write a label image as 8-bit grey PNG: the very numbers, no metadata."""
    _write_png(path, labels)


def write_probability(path: str | PathLike[str], probability: Float[np.ndarray, "h w"]) -> None:
    """Write a map in [0, 1] as 16-bit grey PNG, 65535 for one, no metadata.

    Little compression: three times as fast, and a third larger, than the usual.
    """
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the map leaves [0, 1]; a 16-bit PNG holds probabilities only")
    _write_png(path, np.rint(probability.astype(np.float64) * 65535).astype(np.uint16), level=1)


def _write_png(path: str | PathLike[str], values: UInt[np.ndarray, "h w"], level: int = 6) -> None:
    with replacing(path) as draft:
        Image.fromarray(values).save(draft, format="PNG", compress_level=level)
