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
_HEADER = 4 * 2**20  # bytes in which a header must end; tracked ultrasound has several lines for each frame
# Only `key = value` lines up to the first ElementDataFile, which is LOCAL: the header cannot name another file.
_MHA_LINE = rb"[!-9;<>-~][\t -9;<>-~]*[:=][\t -~\x80-\xff]*\r?\n"
_MHA_HEADER = re.compile(
    rb"(?:(?!ElementDataFile)%b)+ElementDataFile[ \t]*[:=][ \t]*(?:LOCAL|Local|local)[ \t]*\r?\n" % _MHA_LINE
)
# The fields of a header; neither comments nor, with `:=`, the key/value pairs of NRRD.
_FIELD = re.compile(r"(?m)^(?!#)([^:=\n]+)[:=](?!=)(.*)$")
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3}
# A direction in the patient; NRRD has other spaces, and MetaImage assumes one where none is stated.
_ANATOMICAL = r"(?i)[lr][ap]s\b|(left|right)-(anterior|posterior)-superior"
_MHA_DIRECTION = {"transformmatrix", "orientation", "rotation", "anatomicalorientation"}
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


def read_itk(path: Path, kind: str, most: int) -> Volume:
    """Read a file of a known format; its voxels may take `most` bytes as float32."""
    with path.open("rb") as file:
        header = _header(kind, file.read(_HEADER))
    fields = _fields(header)
    _check_fields(kind, fields)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(READERS[kind])
    reader.ReadImageInformation()
    grey = _check_header(reader, most)
    if kind == "mha":
        _check_complete(path, header, reader)
    if grey:
        reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    measured, unit = _distances(kind, dict(fields), reader.GetDimension())
    affine[:3] *= unit
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
        measured=measured,
        oriented=_is_oriented(kind, dict(fields)),
    )


def _header(kind: str, head: bytes) -> bytes:
    """Return the header at the beginning of a file, and raise PictureError if it does not end there."""
    if kind == "mha":
        found = _MHA_HEADER.match(head)
        header = found[0] if found else b""
    else:
        header, blank, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
        header = header if blank else b""
    if not header:
        raise _elsewhere(kind)
    return header


def _fields(header: bytes) -> list[tuple[str, str]]:
    """List the fields of a header: their names in lower case without blanks, and their values."""
    lines = header.decode("latin-1").replace("\r", "\n")  # NRRD ends a line at either
    return [("".join(name.split()).lower(), value.strip()) for name, value in _FIELD.findall(lines)]


def _distances(kind: str, fields: dict[str, str], rank: int) -> tuple[bool, float]:
    """Return whether a header states the distances between voxels, and their unit in mm."""
    if kind == "mha":
        return _count(fields.get("elementspacing") or fields.get("elementsize", "")) >= rank, 1.0
    stated = "spacedirections" in fields or _count(fields.get("spacings", "")) >= rank
    units = set(re.findall('"([^"]*)"', (fields.get("spaceunits") or fields.get("units", "")).lower())) - {""} or {"mm"}
    unit = _MILLIMETRES.get(units.pop()) if len(units) == 1 else None
    return stated and unit is not None, unit or 1.0


def _count(numbers: str) -> int:
    """Count the finite numbers in a text; NRRD writes NaN for axes that are not spatial."""
    return sum(re.fullmatch(r"[-+.\deE]+", number) is not None for number in numbers.split())


def _is_oriented(kind: str, fields: dict[str, str]) -> bool:
    """Return whether a header states the direction of its axes in the patient."""
    if kind == "mha":
        return not _MHA_DIRECTION.isdisjoint(fields)
    return re.match(_ANATOMICAL, fields.get("space", "")) is not None


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


def _check_fields(kind: str, fields: list[tuple[str, str]]) -> None:
    """Raise PictureError if a NRRD header names another file, because SimpleITK would open any, or bzip2."""
    if kind != "nrrd":
        return
    if any("datafile" in name or ("skip" in name and value != "0") for name, value in fields):
        raise _elsewhere(kind)
    if dict(fields).get("encoding", "").lower() in ("bzip2", "bz2"):
        raise PictureError(
            "volume.encoding", "this NRRD is compressed with bzip2, which cannot be read here; save it with gzip or raw"
        )


def _elsewhere(kind: str) -> PictureError:
    return PictureError(
        "volume.other_file",
        "this {kind} file keeps its pixels in another file; save header and pixels as one",
        kind=kind,
    )


def _check_complete(path: Path, header: bytes, reader: sitk.ImageFileReader) -> None:
    """Raise PictureError if an MHA file is too short for its voxels; SimpleITK would return uninitialised memory."""
    channels = reader.GetNumberOfComponents()
    voxel = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID(), channels)
    values = math.prod(reader.GetSize()) * channels
    needed = values * voxel.GetSizeOfPixelComponent()
    held = path.stat().st_size - len(header)
    if re.search(rb"(?m)^BinaryData[ \t]*[:=][ \t]*[^Tt1\s]", header):  # voxels are numbers in text
        held, needed = _numbers(path, len(header)), values
    elif re.search(rb"(?im)^CompressedData[ \t]*[:=][ \t]*T", header):
        held, inflate = 0, zlib.decompressobj(wbits=47)  # zlib or gzip, as its header says
        with path.open("rb") as file:
            file.seek(len(header))
            while held < needed and (part := file.read(2**16)):
                held += len(inflate.decompress(part))
    if held < needed:
        raise damaged("mha")


def _numbers(path: Path, start: int) -> int:
    """Count the words of a file from a byte on, without keeping it in memory."""
    count, inside = 0, False
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(2**20):
            count += len(part.split()) - (inside and not part[:1].isspace())
            inside = not part[-1:].isspace()
    return count
