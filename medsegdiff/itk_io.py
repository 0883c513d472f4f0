"""DICOM, NIfTI, NRRD and MHA through SimpleITK, whose readers trust a header more than one should.

A header is read first and held against the file: its voxels must be few enough and must follow, and no other file is
opened in its name. Volumes are turned to LPS by permuting and flipping axes only; labels return the same way.

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

from medsegdiff.dicom import as_header_means, check_elements
from medsegdiff.image_ref import MAX_BYTES, MAX_PIXELS, PictureError, Volume, check_sides, damaged, robust_window

__all__ = ["READERS", "decoding", "read_itk", "write_map", "write_volume"]

READERS = {"dicom": "GDCMImageIO", "nifti": "NiftiImageIO", "nrrd": "NrrdImageIO", "mha": "MetaImageIO"}
# Bytes of a voxel by the header's word for its type.
_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_MET_BYTES = {b"CHAR": 1, b"UCHAR": 1, b"SHORT": 2, b"USHORT": 2, b"INT": 4, b"UINT": 4, b"LONG": 4, b"ULONG": 4}
_MET_BYTES |= {b"LONG_LONG": 8, b"ULONG_LONG": 8, b"FLOAT": 4, b"DOUBLE": 8}
# Nothing but `key = value` lines up to the first ElementDataFile, and that LOCAL: no reader finds another file in it.
_MHA_LINE = rb"([!-9;<>-~][\t -9;<>-~]*)=([\t -~\x80-\xff]*)\r?\n"
_MHA_HEADER = re.compile(rb"((?!ElementDataFile)%b)+ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n" % _MHA_LINE)
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
    _check_whole(path, kind, head, most)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[kind])
    try:
        with decoding(kind):
            reader.ReadImageInformation()
            grey = _check_header(reader, most)
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
    _check_voxels(size, channels, most=most)
    colour = kind == sitk.sitkVectorUInt8 and channels == 3
    if not colour and (channels > 1 or kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)):
        what = f"{channels} x {sitk.GetPixelIDValueAsString(kind)}"
        raise PictureError("volume.voxel_type", "a voxel holds {what}; give grey or 8-bit RGB", what=what)
    return not colour


def _check_voxels(size: tuple[int, ...], channels: int = 1, *, most: int) -> None:
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


def _check_whole(path: Path, kind: str, head: bytes, most: int) -> None:
    """Refuse a header that points out of its file or promises more than follows.

    SimpleITK would open that other file, whatever it is, and would fill a short NIfTI with whatever lies in memory.
    """
    elsewhere = PictureError(
        "volume.other_file",
        "this {kind} file keeps its pixels in another file; save header and pixels as one",
        kind=kind,
    )
    match kind:
        case "dicom":
            check_elements(path, most)
        case "nifti":
            with decoding(kind):
                _check_nifti(path, head, most)
        case "nrrd":
            header, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
            if not end or re.search(rb"(?i)data ?file|(line|byte) ?skip", header):
                raise elsewhere
        case "mha":
            header = _MHA_HEADER.match(head)
            if header is None:
                raise elsewhere
            with decoding(kind):
                _check_mha(path, header[0], most)


def _check_mha(path: Path, header: bytes, most: int) -> None:
    lines = re.findall(rb"(?m)^" + _MHA_LINE, header)
    fields = {key.strip(): value.strip() for key, value in lines}
    if len(fields) < len(lines):
        raise PictureError("volume.mha_twice", "this MHA header says something twice; save it again")
    size = tuple(map(int, fields[b"DimSize"].split()))
    _check_voxels(size, most=most)
    needed = math.prod(size) * int(fields.get(b"ElementNumberOfChannels", 1)) * _MET_BYTES[fields[b"ElementType"][4:]]
    held = path.stat().st_size - len(header)
    if fields.get(b"CompressedData", b"").lower() == b"true":
        held, inflate = 0, zlib.decompressobj(wbits=47)  # zlib or gzip, as its header says
        with path.open("rb") as file:
            file.seek(len(header))
            while held < needed and (chunk := file.read(2**16)):
                held += len(inflate.decompress(chunk))
    if held < needed:
        raise damaged("mha")


def _check_nifti(path: Path, head: bytes, most: int) -> None:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if not path.name.lower().endswith((".nii.gz",) if zipped else (".nii", ".nii.gz")):
        suffix = ".nii.gz" if zipped else ".nii"
        raise PictureError(
            "volume.nifti_name", "by its content this is NIfTI; let its name end in {suffix}", suffix=suffix
        )
    order = "<" if head[0] else ">"  # the header opens with its own size, 348 or 540
    if head[4:8] == b"n+2\0":
        voxel, rank, *sides, offset = struct.unpack_from(order + "h2x8q88xq", head, 12)
    else:
        rank, *sides, voxel, offset = struct.unpack_from(order + "8h14xh36xf", head, 40)
    size = tuple(sides[:rank])
    if not 1 <= rank <= 7 or min(size) < 1 or not 0 <= offset <= MAX_BYTES or voxel not in _NIFTI_BYTES:
        raise PictureError(
            "volume.nifti_header", "this NIfTI header is damaged or of an unknown voxel type; export it again"
        )
    _check_voxels(size, most=most)
    needed = max(int(offset), 352) + math.prod(size) * _NIFTI_BYTES[voxel]
    held = 0
    with (gzip.open if zipped else open)(path, "rb") as file:
        while held <= needed and (chunk := file.read(2**20)):
            held += len(chunk)
    if held < needed:
        raise damaged("nifti")
