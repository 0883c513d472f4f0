"""DICOM, NIfTI, NRRD and MHA through SimpleITK, in a process with limits (`medsegdiff.reader`).

Two things SimpleITK does not check: a header may point at another file, whatever it is, and fewer voxels may follow than
it states, which leaves the rest of the array undefined. Both are refused here.

Volumes are turned to LPS by permuting and flipping axes only; labels return the same way.

References:
    NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov
    NRRD, https://teem.sourceforge.net/nrrd/format.html;  MetaImage, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import gzip
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Integer
from PIL import Image

from medsegdiff.dicom import as_header_means
from medsegdiff.image_ref import MAX_BYTES, MAX_PIXELS, PictureError, Volume, check_sides, damaged, robust_window

__all__ = ["READERS", "decoding", "read_itk", "write_map", "write_volume"]

READERS = {"dicom": "GDCMImageIO", "nifti": "NiftiImageIO", "nrrd": "NrrdImageIO", "mha": "MetaImageIO"}
# Nothing but `key = value` lines up to the first ElementDataFile, and that LOCAL: no reader finds another file in it.
_MHA_LINE = rb"([!-9;<>-~][\t -9;<>-~]*)=([\t -~\x80-\xff]*)\r?\n"
_MHA_HEADER = re.compile(rb"((?!ElementDataFile)%b)+ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n" % _MHA_LINE)
# The element TransferSyntaxUID of an uncompressed DICOM file: implicit or explicit little endian, or big endian.
_UNCOMPRESSED = re.compile(rb"(?s)\x02\0\x10\0UI..1\.2\.840\.10008\.1\.2(\.[12])?[\0 ]?[^\d.]")
_SHORT_OF_MEMORY = ("allocate", "bad_alloc", "std::bad_array_new_length")


def _on_the_voxels_of(values: np.ndarray, like: Volume) -> sitk.Image:
    """Give values in LPS the place in space of the file that `like` was read from, and its order of axes."""
    if values.shape != like.array.shape[:3]:
        raise ValueError(f"the labels are {values.shape} but the volume is {like.array.shape[:3]}; give one per voxel")
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(like.spacing)
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction)
    return sitk.DICOMOrient(image, like.orientation)


def write_map(values: Float[np.ndarray, "z y x"], like: Volume, path: str | PathLike[str]) -> None:
    """Write a map as float32 NIfTI on the voxels of the file that `like` was read from, without any text."""
    sitk.WriteImage(_on_the_voxels_of(values.astype(np.float32), like), str(path), True)


def write_volume(labels: Integer[np.ndarray, "z y x"], like: Volume, path: str | PathLike[str]) -> None:
    """Write labels 0..255 as NIfTI (.nii.gz) on the voxels of the file that `like` was read from, without any text."""
    if not str(path).endswith(".nii.gz"):
        raise ValueError("label volumes are written as NIfTI; end the name in .nii.gz")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; a label volume holds 0 to 255")
    sitk.WriteImage(_on_the_voxels_of(labels.astype(np.uint8), like), str(path), True)


@contextmanager
def decoding(kind: str) -> Iterator[None]:
    """Turn whatever decoders raise on damaged or hostile bytes into one sentence; MemoryError where they get too little."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            yield
        except (PictureError, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise PictureError(
                "image.too_many_pixels", "the picture has hundreds of millions of pixels; scale it down to 4096 x 4096"
            ) from None
        except Exception as error:
            if any(sign in str(error) for sign in _SHORT_OF_MEMORY):
                raise MemoryError from None
            raise damaged(kind) from None


def read_itk(path: Path, kind: str, head: bytes, most: int = MAX_BYTES) -> Volume:
    """Read a file of a known kind, given its first bytes; `most` bytes is what its voxels may take as float32."""
    _check_self_contained(path, kind, head)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[kind])
    try:
        with decoding(kind):
            reader.ReadImageInformation()
            grey = _check_header(reader, most)
            _check_complete(path, kind, head, reader)
            if grey:
                reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except PictureError:
        if kind == "dicom" and b"\xe0\x7f\x10\x00" not in path.read_bytes():
            raise PictureError(
                "dicom.no_image", "this DICOM file holds no picture; choose an image of the series"
            ) from None
        raise
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    if kind != "dicom":  # whose frames are stored as they are meant to be seen
        image = sitk.DICOMOrient(image, "LPS")
    volume = Volume(
        array=sitk.GetArrayFromImage(image),
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
        orientation=orientation,
        window=(0.0, 255.0),
        source_kind=kind,
        measured=kind == "nifti" or re.search(rb"(?i)spacings?\b|space directions", head) is not None,
    )
    if kind == "dicom":
        with decoding(kind):
            return as_header_means(volume, reader)
    return replace(volume, window=robust_window(volume.array)) if grey else volume


def _check_header(reader: sitk.ImageFileReader, most: int) -> bool:
    """Refuse what is too large or no picture before any pixel is decoded; True for grey, False for 8-bit colour."""
    size, channels, kind = reader.GetSize(), reader.GetNumberOfComponents(), reader.GetPixelID()
    if len(size) not in (2, 3):
        raise PictureError(
            "volume.dimensions", "the file has {count} dimensions; extract one 3-D volume", count=len(size)
        )
    if size[0] * size[1] > MAX_PIXELS:
        check_sides(size[1], size[0])
    if min(size) < 1:
        raise PictureError(
            "volume.no_voxels", "the volume has {size} voxels, that is none; export it again", size=str(size)
        )
    if math.prod(size) * channels * 4 > most:
        raise PictureError(
            "volume.too_many_voxels",
            "the volume has {size} voxels; crop it to at most {most} million",
            size=str(size),
            most=round(most / 4e6),
        )
    colour = kind == sitk.sitkVectorUInt8 and channels == 3
    if not colour and (channels > 1 or kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)):
        what = f"{channels} x {sitk.GetPixelIDValueAsString(kind)}"
        raise PictureError("volume.voxel_type", "a voxel holds {what}; give grey or 8-bit RGB", what=what)
    return not colour


def _check_self_contained(path: Path, kind: str, head: bytes) -> None:
    """Refuse a header that names another file, which SimpleITK would open, whatever it is."""
    header, blank, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    elsewhere = {
        "nrrd": not blank or re.search(rb"(?i)data ?file|(line|byte) ?skip", header) is not None,
        "mha": _MHA_HEADER.match(head) is None,
    }
    if elsewhere.get(kind):
        raise PictureError(
            "volume.other_file",
            "this {kind} file keeps its pixels in another file; save header and pixels as one",
            kind=kind,
        )
    endings = (".nii.gz",) if _zipped(path) else (".nii", ".nii.gz")
    if kind == "nifti" and not path.name.lower().endswith(endings):
        raise PictureError(
            "volume.nifti_name", "by its content this is NIfTI; let its name end in {suffix}", suffix=endings[0]
        )


def _zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _check_complete(path: Path, kind: str, head: bytes, reader: sitk.ImageFileReader) -> None:
    """Refuse a file with fewer bytes than its voxels need, where SimpleITK would return memory as it finds it."""
    count, held = math.prod(reader.GetSize()), path.stat().st_size
    match kind:
        case "nifti":
            order = "<" if head[0] else ">"  # the header opens with its own size, 348 or 540
            needed = 352 + count * struct.unpack_from(order + "h", head, 14 if head[4:8] == b"n+2\0" else 72)[0] // 8
            if _zipped(path):
                with gzip.open(path) as file:
                    held = _counted(iter(lambda: file.read(2**20), b""), needed)
        case "mha":
            channels = reader.GetNumberOfComponents()
            voxel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID(), channels)
            needed = count * channels * voxel.GetSizeOfPixelComponent()
            header = _MHA_HEADER.match(head)
            assert header is not None
            held -= len(header[0])
            if re.search(rb"(?im)^CompressedData[ \t]*=[ \t]*T", header[0]):
                inflate = zlib.decompressobj(wbits=47)  # zlib or gzip, as its header says
                with path.open("rb") as file:
                    file.seek(len(header[0]))
                    held = _counted((inflate.decompress(part) for part in iter(lambda: file.read(2**16), b"")), needed)
        case "dicom" if _UNCOMPRESSED.search(head):
            bits = [int(reader.GetMetaData(tag)) for tag in ("0028|0100", "0028|0002") if reader.HasMetaDataKey(tag)]
            needed = count * math.prod(bits) // 16  # half the bits: colours may be thinned
        case _:  # those readers count themselves
            return
    if held < needed:
        raise damaged(kind)


def _counted(parts: Iterator[bytes], enough: int) -> int:
    """Count the bytes of parts, until there are enough."""
    count = 0
    for part in parts:
        count += len(part)
        if count >= enough:
            break
    return count
