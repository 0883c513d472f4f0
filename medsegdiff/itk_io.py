"""NRRD and MHA through SimpleITK, in a process with limits (`medsegdiff.reader`).

Two things SimpleITK does not check: a header may point at another file, whatever it is, and fewer voxels may follow than
it states, which leaves the rest of the array undefined. Both are refused here. Volumes are turned to LPS by permuting and
flipping axes only; labels return the same way.

References:
    NRRD, https://teem.sourceforge.net/nrrd/format.html;  MetaImage, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

from medsegdiff.image_ref import PictureError, Volume, check_sides, check_voxels, damaged, robust_window
from medsegdiff.orientation import axes_of, place_of, turn, turn_affine

__all__ = ["READERS", "decoding", "read_itk"]

READERS = {"nrrd": "NrrdImageIO", "mha": "MetaImageIO"}
# Only `key = value` lines up to the first ElementDataFile, which is LOCAL: the header cannot name another file.
_MHA_LINE = rb"([!-9;<>-~][\t -9;<>-~]*)=([\t -~\x80-\xff]*)\r?\n"
_MHA_HEADER = re.compile(rb"((?!ElementDataFile)%b)+ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n" % _MHA_LINE)
_SHORT_OF_MEMORY = ("allocate", "bad_alloc", "std::bad_array_new_length")


@contextmanager
def decoding(kind: str) -> Iterator[None]:
    """Convert any error of a decoder to a PictureError of one sentence, or to MemoryError if memory is short."""
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


def read_itk(path: Path, kind: str, head: bytes, most: int) -> Volume:
    """Read a file of a known format, given its first bytes; its voxels may take `most` bytes as float32."""
    _check_self_contained(kind, head)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[kind])
    reader.ReadImageInformation()
    grey = _check_header(reader, most)
    if kind == "mha":
        _check_complete(path, head, reader)
    if grey:
        reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    axes = axes_of(affine)
    array = turn(sitk.GetArrayFromImage(image), axes, "LPS")
    spacing, origin, direction = place_of(turn_affine(affine, image.GetSize(), axes, "LPS"))
    return Volume(
        array=array,
        spacing=spacing,
        origin=origin,
        direction=direction,
        orientation=axes,
        window=robust_window(array) if grey else (0.0, 255.0),
        source_kind=kind,
        measured=re.search(rb"(?i)spacings?\b|space directions", head) is not None,
    )


def _check_header(reader: sitk.ImageFileReader, most: int) -> bool:
    """Raise PictureError before decoding if the image is too large or of another kind; return whether it is grey."""
    size, channels, kind = reader.GetSize(), reader.GetNumberOfComponents(), reader.GetPixelID()
    if len(size) not in (2, 3):
        raise PictureError(
            "volume.dimensions", "the file has {count} dimensions; extract one 3-D volume", count=len(size)
        )
    check_sides(size[1], size[0], least=0)
    check_voxels(size, channels, most=most)
    colour = kind == sitk.sitkVectorUInt8 and channels == 3
    if not colour and (channels > 1 or kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)):
        what = f"{channels} x {sitk.GetPixelIDValueAsString(kind)}"
        raise PictureError("volume.voxel_type", "a voxel holds {what}; give grey or 8-bit RGB", what=what)
    return not colour


def _check_self_contained(kind: str, head: bytes) -> None:
    """Raise PictureError if the header names another file, because SimpleITK would open any file."""
    header, blank, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    elsewhere = {
        "nrrd": not blank or re.search(rb"(?i)data ?file|(line|byte) ?skip", header) is not None,
        "mha": _MHA_HEADER.match(head) is None,
    }
    if elsewhere[kind]:
        raise PictureError(
            "volume.other_file",
            "this {kind} file keeps its pixels in another file; save header and pixels as one",
            kind=kind,
        )


def _check_complete(path: Path, head: bytes, reader: sitk.ImageFileReader) -> None:
    """Raise PictureError if an MHA file is too short for its voxels; SimpleITK would return uninitialised memory."""
    header, channels = _MHA_HEADER.match(head), reader.GetNumberOfComponents()
    assert header is not None
    voxel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID(), channels)
    needed = math.prod(reader.GetSize()) * channels * voxel.GetSizeOfPixelComponent()
    held = path.stat().st_size - len(header[0])
    if re.search(rb"(?im)^CompressedData[ \t]*=[ \t]*T", header[0]):
        held, inflate = 0, zlib.decompressobj(wbits=47)  # zlib or gzip, as its header says
        with path.open("rb") as file:
            file.seek(len(header[0]))
            while held < needed and (part := file.read(2**16)):
                held += len(inflate.decompress(part))
    if held < needed:
        raise damaged("mha")
