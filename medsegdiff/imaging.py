"""Files <-> pictures, safely and without loss.

A file is known by its content, not by its name. Its header is read first and its size checked; only then is anything
decoded, by Pillow (PNG, JPEG, TIFF) or by SimpleITK (DICOM, NIfTI, NRRD, MHA). Whatever is wrong with it becomes one
sentence, a PictureError that never repeats the file's name. Of a DICOM header only the sampling, the grey scale, the
modality and the word on burnt-in text are read; no tag travels on, and nothing written carries text.

References:
    DICOM PS3.3 C.7.6.3 and C.11.2, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/PS3.3.html
    Exif orientation, https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf
"""

import gzip
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps

from medsegdiff.image_ref import (
    Geometry,
    Picture,
    PictureError,
    Volume,
    check_index,
    check_sides,
    grey_pixels,
    robust_window,
    to_network,
    to_original,
)
from medsegdiff.itk_io import MAX_BYTES, READERS, decoding, read_itk, write_map, write_volume

__all__ = [
    "Geometry",
    "Picture",
    "PictureError",
    "Volume",
    "holds_slices",
    "is_volume",
    "read",
    "read_stack",
    "read_volume",
    "stem",
    "to_network",
    "to_original",
    "write_labels",
    "write_map",
    "write_probability",
    "write_volume",
]

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")
_HEAD = 64 * 2**10  # bytes in which a header must end
_READABLE = "PNG, JPEG, TIFF, DICOM, NIfTI (.nii, .nii.gz), NRRD or MHA"


def read(
    path: str | PathLike[str],
    *,
    axis: int = 2,
    index: int | None = None,
    window: tuple[float, float] | None = None,
    most: int = MAX_BYTES,
) -> Picture:
    """Read a picture, a page of a TIFF, a frame of a DICOM or a slice of a volume.

    Arguments:
        path: PNG, JPEG, TIFF, DICOM, NIfTI, NRRD or MHA, at most 512 MiB and 4096 x 4096 pixels a slice.
        axis: 0 sagittal, 1 coronal, 2 axial; only volumes have more than the last.
        index: from the patient's right, front or feet, or of the page or frame; None is the middle.
        window: grey values shown as 0 and 255. None takes 8-bit pictures as they are, a DICOM's own window, else
            percentiles 0.5 and 99.5 (of the page or volume).
        most: bytes that a volume may take in memory, four a voxel.

    Raises PictureError for a file that cannot be shown, ValueError for a window or axis that the file does not have.
    """
    kind, head = _recognize(Path(path))
    if kind in READERS:
        return read_itk(Path(path), kind, head, most).slice(axis, index, window)
    if axis != 2:
        raise ValueError(f"axis is {axis}, but this file is a flat picture; leave it at 2")
    return _read_raster(Path(path), kind, index, window)


def read_volume(path: str | PathLike[str], *, most: int = MAX_BYTES) -> Volume:
    """Read DICOM, NIfTI, NRRD or MHA as a stack of slices; other errors as `read`.

    Volumes are turned to LPS, right to left, front to back, feet to head, by permuting and flipping axes only. A DICOM
    file keeps its frames.
    """
    kind, head = _recognize(Path(path))
    if kind not in READERS:
        raise PictureError(f"this is a flat picture ({kind}), not a volume; give DICOM, NIfTI, NRRD or MHA")
    return read_itk(Path(path), kind, head, most)


def holds_slices(path: Path) -> bool:
    """Tell by its content whether a file is one that `read_volume` reads: DICOM, NIfTI, NRRD or MHA."""
    return _recognize(path)[0] in READERS


def is_volume(path: Path) -> bool:
    """Tell by its name whether a file holds a volume rather than a picture; a DICOM file counts as a picture."""
    return path.name.lower().endswith(_VOLUMES)


def stem(path: Path) -> str:
    """Return a file's name without its ending; `.nii.gz` is one ending."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def write_labels(path: str | PathLike[str], labels: UInt8[np.ndarray, "h w"]) -> None:
    """Write a label image as 8-bit grey PNG: the very numbers, no metadata."""
    Image.fromarray(labels).save(path, format="PNG")


def write_probability(path: str | PathLike[str], probability: Float[np.ndarray, "h w"]) -> None:
    """Write a map in [0, 1] as 16-bit grey PNG, 65535 for one, no metadata."""
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the map leaves [0, 1]; a 16-bit PNG holds probabilities only")
    Image.fromarray(np.rint(probability.astype(np.float64) * 65535).astype(np.uint16)).save(path, format="PNG")


def _recognize(path: Path) -> tuple[str, bytes]:
    """Return the kind of file, judged by its content, and its first bytes (inflated)."""
    if not path.is_file():
        raise PictureError(f"there is no such file; give the path of a {_READABLE} file")
    if path.stat().st_size == 0:
        raise PictureError(f"the file is empty; give a {_READABLE} file")
    if path.stat().st_size > MAX_BYTES:
        raise PictureError(f"the file is larger than {MAX_BYTES >> 20} MiB; crop it or scale it down")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    zipped = head.startswith(b"\x1f\x8b")
    if zipped:
        with decoding("gzip"), gzip.open(path) as file:
            head = file.read(_HEAD)
    kinds = {
        "nifti": head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0",
        "dicom": head[128:132] == b"DICM",
        "png": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "jpeg": head.startswith(b"\xff\xd8\xff"),
        "tiff": head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        "nrrd": head.startswith(b"NRRD000"),
        "mha": head.startswith((b"ObjectType", b"NDims")),
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    if kind is None or (zipped and kind != "nifti"):
        raise PictureError(f"by its content the file is none that can be read here; convert it to {_READABLE}")
    return kind, head


def read_stack(path: str | PathLike[str], *, most: int = MAX_BYTES) -> Volume | None:
    """Read what may be looked at through several windows or in several slices; None for other pictures.

    That is what `read_volume` reads, and a 16-bit or floating-point picture, as one slice that lies nowhere in space.
    """
    kind, head = _recognize(Path(path))
    if kind in READERS:
        return read_itk(Path(path), kind, head, most)
    raster = _decode_raster(Path(path), kind, None)
    if not raster.deep:
        return None
    array, place = raster.values[None].astype(np.float32), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    return Volume(array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), place, "LPS", robust_window(array), kind, measured=False)


@dataclass(frozen=True, slots=True)
class _Raster:
    values: np.ndarray
    grey: bool
    deep: bool  # more than 8 bits, and they are all here
    halved: bool  # of 16-bit colour Pillow keeps the upper byte
    index: int
    count: int
    notes: tuple[Literal["transparency over black", "inverted", "turned"], ...]


def _read_raster(path: Path, kind: str, index: int | None, window: tuple[float, float] | None) -> Picture:
    raster = _decode_raster(path, kind, index)
    values, grey = raster.values, raster.grey
    if not grey and window is not None:
        raise ValueError("a window maps grey values, but this picture is in colour; leave the window out")
    if raster.deep:
        window = window or robust_window(values)
    elif raster.halved and not grey:
        window = (0.0, 65535.0)
    return Picture(
        grey_pixels(values, window or (0, 255)) if grey else values,
        channels=1 if grey else 3,
        window=window,
        slice_index=raster.index,
        slice_count=raster.count,
        source_kind=kind,
        notes=raster.notes,
    )


def _decode_raster(path: Path, kind: str, index: int | None) -> _Raster:
    notes = []
    with decoding(kind), Image.open(path, formats=(kind.upper(),)) as image:
        count = getattr(image, "n_frames", 1) if kind == "tiff" else 1  # an animated PNG is the picture it opens with
        index = check_index(index, count)
        if count > 1:
            image.seek(index)
        check_sides(image.height, image.width)
        halved = any(";16" in str(tile.args) for tile in image.tile)
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            notes.append("turned")
        image = ImageOps.exif_transpose(image)
        deep = image.mode.startswith(("I", "F"))
        grey = deep or image.mode in ("1", "L", "LA", "La")
        if image.has_transparency_data and not deep:
            image = image.convert("RGBA")
            if np.array(image.getchannel("A")).min() < 255:
                notes.append("transparency over black")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        values = np.array(image if deep else image.convert("L" if grey else "RGB"))
    return _Raster(values, grey, deep, halved, index, count, tuple(notes))
