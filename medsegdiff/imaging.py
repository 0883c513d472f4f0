"""Files <-> pictures, safely and without loss.

A file is known by its content, not by its name. Its header is read first and its size checked; only then is anything
decoded, by Pillow (PNG, JPEG, TIFF) or by SimpleITK (DICOM, NIfTI, NRRD, MHA). Whatever is wrong with it becomes one
sentence, a PictureError that never repeats the file's name. Of a DICOM header only the sampling, the grey scale, the
modality and the word on burnt-in text are read; no tag travels on, and nothing written carries text.

References:
    DICOM PS3.3 C.7.6.3 and C.11.2, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/PS3.3.html
    NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov
    NRRD, https://teem.sourceforge.net/nrrd/format.html;  MetaImage, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import gzip
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Integer, UInt8
from PIL import ExifTags, Image, ImageOps

from medsegdiff.geometry import (
    MAX_PIXELS,
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

__all__ = [
    "Geometry",
    "Picture",
    "PictureError",
    "Volume",
    "read",
    "read_volume",
    "to_network",
    "to_original",
    "write_labels",
    "write_probability",
    "write_volume",
]

_MAX_BYTES = 512 * 2**20  # of a file, and of a volume as float32
_HEAD = 64 * 2**10  # bytes in which a header must end
_READABLE = "PNG, JPEG, TIFF, DICOM, NIfTI (.nii, .nii.gz), NRRD or MHA"
_READERS = {"dicom": "GDCMImageIO", "nifti": "NiftiImageIO", "nrrd": "NrrdImageIO", "mha": "MetaImageIO"}
# Bytes of a voxel by the header's word for its type.
_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}
_MET_BYTES = {b"CHAR": 1, b"UCHAR": 1, b"SHORT": 2, b"USHORT": 2, b"INT": 4, b"UINT": 4, b"LONG": 4, b"ULONG": 4}
_MET_BYTES |= {b"LONG_LONG": 8, b"ULONG_LONG": 8, b"FLOAT": 4, b"DOUBLE": 8}
# Nothing but `key = value` lines up to the first ElementDataFile, and that LOCAL: no reader finds another file in it.
_MHA_LINE = rb"([!-9;<>-~][\t -9;<>-~]*)=([\t -~\x80-\xff]*)\r?\n"
_MHA_HEADER = re.compile(rb"((?!ElementDataFile)%b)+ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n" % _MHA_LINE)
_CUT_SHORT = "the file begins as {} but is damaged or cut short; export it again"
_ONE_AT_A_TIME = threading.Lock()  # warnings.catch_warnings belongs to no thread, and decoded volumes are large


def read(
    path: str | PathLike[str],
    *,
    axis: int = 2,
    index: int | None = None,
    window: tuple[float, float] | None = None,
) -> Picture:
    """Read a picture, a page of a TIFF, a frame of a DICOM or a slice of a volume.

    Arguments:
        path: PNG, JPEG, TIFF, DICOM, NIfTI, NRRD or MHA, at most 512 MiB and 4096 x 4096 pixels a slice.
        axis: 0 sagittal, 1 coronal, 2 axial; only volumes have more than the last.
        index: from the patient's right, front or feet, or of the page or frame; None is the middle.
        window: grey values shown as 0 and 255. None takes 8-bit pictures as they are, a DICOM's own window, else
            percentiles 0.5 and 99.5 (of the page or volume).

    Raises PictureError for a file that cannot be shown, ValueError for a window or axis that the file does not have.
    """
    kind, head = _recognize(Path(path))
    if kind in _READERS:
        return _read_itk(Path(path), kind, head).slice(axis, index, window)
    if axis != 2:
        raise ValueError(f"axis is {axis}, but this file is a flat picture; leave it at 2")
    return _read_raster(Path(path), kind, index, window)


def read_volume(path: str | PathLike[str]) -> Volume:
    """Read DICOM, NIfTI, NRRD or MHA as a stack of slices; other errors as `read`.

    Volumes are turned to LPS, right to left, front to back, feet to head, by permuting and flipping axes only. A DICOM
    file keeps its frames.
    """
    kind, head = _recognize(Path(path))
    if kind not in _READERS:
        raise PictureError(f"this is a flat picture ({kind}), not a volume; give DICOM, NIfTI, NRRD or MHA")
    return _read_itk(Path(path), kind, head)


def write_labels(path: str | PathLike[str], labels: UInt8[np.ndarray, "h w"]) -> None:
    """Write a label image as 8-bit grey PNG: the very numbers, no metadata."""
    Image.fromarray(labels).save(path, format="PNG")


def write_probability(path: str | PathLike[str], probability: Float[np.ndarray, "h w"]) -> None:
    """Write a map in [0, 1] as 16-bit grey PNG, 65535 for one, no metadata."""
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("the map leaves [0, 1]; a 16-bit PNG holds probabilities only")
    Image.fromarray(np.rint(probability.astype(np.float64) * 65535).astype(np.uint16)).save(path, format="PNG")


def write_volume(labels: Integer[np.ndarray, "z y x"], like: Volume, path: str | PathLike[str]) -> None:
    """Write labels 0..255 as NIfTI (.nii.gz) on the voxels of the file that `like` was read from, without any text."""
    if not str(path).endswith(".nii.gz"):
        raise ValueError("label volumes are written as NIfTI; end the name in .nii.gz")
    if labels.shape != like.array.shape[:3]:
        raise ValueError(f"the labels are {labels.shape} but the volume is {like.array.shape[:3]}; give one per voxel")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; a label volume holds 0 to 255")
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(like.spacing)
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction)
    sitk.WriteImage(sitk.DICOMOrient(image, like.orientation), str(path), True)


@contextmanager
def _decoding(kind: str) -> Iterator[None]:
    """Keep decoders silent, and turn whatever they raise on damaged or hostile bytes into one sentence."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            yield
        except PictureError:
            raise
        except Image.DecompressionBombError:
            raise PictureError("the picture has hundreds of millions of pixels; scale it down to 4096 x 4096") from None
        except Exception:
            raise PictureError(_CUT_SHORT.format(kind)) from None


def _recognize(path: Path) -> tuple[str, bytes]:
    """Return the kind of file, judged by its content, and its first bytes (inflated)."""
    if not path.is_file():
        raise PictureError(f"there is no such file; give the path of a {_READABLE} file")
    if path.stat().st_size == 0:
        raise PictureError(f"the file is empty; give a {_READABLE} file")
    if path.stat().st_size > _MAX_BYTES:
        raise PictureError(f"the file is larger than {_MAX_BYTES >> 20} MiB; crop it or scale it down")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    zipped = head.startswith(b"\x1f\x8b")
    if zipped:
        with _decoding("gzip"), gzip.open(path) as file:
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


def _read_raster(path: Path, kind: str, index: int | None, window: tuple[float, float] | None) -> Picture:
    notes = []
    with _decoding(kind), Image.open(path, formats=(kind.upper(),)) as image:
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
    if not grey and window is not None:
        raise ValueError("a window maps grey values, but this picture is in colour; leave the window out")
    if deep:
        window = window or robust_window(values)
    elif halved and not grey:
        window = (0.0, 65535.0)  # of 16-bit colour Pillow keeps the upper byte
    return Picture(
        grey_pixels(values, window or (0, 255)) if grey else values,
        channels=1 if grey else 3,
        window=window,
        slice_index=index,
        slice_count=count,
        source_kind=kind,
        notes=tuple(notes),
    )


def _read_itk(path: Path, kind: str, head: bytes) -> Volume:
    _check_whole(path, kind, head)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[kind])
    try:
        with _decoding(kind):
            reader.ReadImageInformation()
            grey = _check_header(reader)
            if grey:
                reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except PictureError:
        if kind == "dicom" and b"\xe0\x7f\x10\x00" not in path.read_bytes():
            raise PictureError("this DICOM file holds no picture; choose an image of the series") from None
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
        with _decoding(kind):
            return _as_dicom_means(volume, reader)
    return replace(volume, window=robust_window(volume.array)) if grey else volume


def _check_header(reader: sitk.ImageFileReader) -> bool:
    """Refuse what is too large or no picture before any pixel is decoded; True for grey, False for 8-bit colour."""
    size, channels, kind = reader.GetSize(), reader.GetNumberOfComponents(), reader.GetPixelID()
    if len(size) not in (2, 3):
        raise PictureError(f"the file has {len(size)} dimensions; extract one 3-D volume")
    if size[0] * size[1] > MAX_PIXELS:
        check_sides(size[1], size[0])
    _check_voxels(size, channels)
    colour = kind == sitk.sitkVectorUInt8 and channels == 3
    if not colour and (channels > 1 or kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)):
        raise PictureError(f"a voxel holds {channels} x {sitk.GetPixelIDValueAsString(kind)}; give grey or 8-bit RGB")
    return not colour


def _check_voxels(size: tuple[int, ...], channels: int = 1) -> None:
    if math.prod(size) * channels * 4 > _MAX_BYTES:
        raise PictureError(f"the volume has {size} voxels; crop it to at most {_MAX_BYTES // 4 / 1e6:.0f} million")


def _check_whole(path: Path, kind: str, head: bytes) -> None:
    """Refuse a header that points out of its file or promises more than follows.

    SimpleITK would open that other file, whatever it is, and would fill a short NIfTI with whatever lies in memory.
    """
    elsewhere = PictureError(f"this {kind} file keeps its pixels in another file; save header and pixels as one")
    match kind:
        case "nifti":
            with _decoding(kind):
                _check_nifti(path, head)
        case "nrrd":
            header, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
            if not end or re.search(rb"(?i)data ?file|(line|byte) ?skip", header):
                raise elsewhere
        case "mha":
            header = _MHA_HEADER.match(head)
            if header is None:
                raise elsewhere
            with _decoding(kind):
                _check_mha(path, header[0])


def _check_mha(path: Path, header: bytes) -> None:
    lines = re.findall(rb"(?m)^" + _MHA_LINE, header)
    fields = {key.strip(): value.strip() for key, value in lines}
    if len(fields) < len(lines):
        raise PictureError("this MHA header says something twice; save it again")
    size = tuple(map(int, fields[b"DimSize"].split()))
    _check_voxels(size)
    needed = math.prod(size) * int(fields.get(b"ElementNumberOfChannels", 1)) * _MET_BYTES[fields[b"ElementType"][4:]]
    held = path.stat().st_size - len(header)
    if fields.get(b"CompressedData", b"").lower() == b"true":
        held, inflate = 0, zlib.decompressobj(wbits=47)  # zlib or gzip, as its header says
        with path.open("rb") as file:
            file.seek(len(header))
            while held < needed and (chunk := file.read(2**16)):
                held += len(inflate.decompress(chunk))
    if held < needed:
        raise PictureError(_CUT_SHORT.format("mha"))


def _check_nifti(path: Path, head: bytes) -> None:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if not path.name.lower().endswith((".nii.gz",) if zipped else (".nii", ".nii.gz")):
        raise PictureError(f"by its content this is NIfTI; let its name end in {'.nii.gz' if zipped else '.nii'}")
    order = "<" if head[0] else ">"  # the header opens with its own size, 348 or 540
    if head[4:8] == b"n+2\0":
        voxel, rank, *sides, offset = struct.unpack_from(order + "h2x8q88xq", head, 12)
    else:
        rank, *sides, voxel, offset = struct.unpack_from(order + "8h14xh36xf", head, 40)
    size = tuple(sides[:rank])
    if not 1 <= rank <= 7 or min(size) < 1 or not 0 <= offset <= _MAX_BYTES or voxel not in _NIFTI_BYTES:
        raise PictureError("this NIfTI header is damaged or of an unknown voxel type; export it again")
    _check_voxels(size)
    needed = max(int(offset), 352) + math.prod(size) * _NIFTI_BYTES[voxel]
    held = 0
    with (gzip.open if zipped else open)(path, "rb") as file:
        while held <= needed and (chunk := file.read(2**20)):
            held += len(chunk)
    if held < needed:
        raise PictureError(_CUT_SHORT.format("nifti"))


def _as_dicom_means(volume: Volume, reader: sitk.ImageFileReader) -> Volume:
    """Apply the DICOM header's grey scale, window and sampling."""

    def text(tag: str) -> str:
        return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""

    def number(tag: str, default: float = math.nan) -> float:
        try:
            return float(text(tag).split("\\")[0])
        except ValueError:
            return default

    array, window = volume.array, volume.window
    grey = array.ndim == 3
    inverted = grey and text("0028|0004") == "MONOCHROME1"
    if inverted:  # ITK has turned the stored numbers over, before rescaling them; turn them back
        highest = -1 if number("0028|0103") == 1 else 2 ** number("0028|0101") - 1
        array = np.float32(number("0028|1053", 1) * highest + 2 * number("0028|1052", 0)) - array
    centre, width = number("0028|1050"), number("0028|1051")
    if grey and abs(centre) < 1e30 and 1 <= width < 1e30:
        low = centre - 0.5 - (width - 1) / 2
        window = (low, low + max(width - 1, 1e-3))
    elif grey and reader.GetPixelID() != sitk.sitkUInt8:
        window = robust_window(array)
    modality = text("0008|0060")
    unsure = text("0018|1164") or text("0028|0034")  # a detector's spacing is not the body's; a ratio is no length
    return replace(
        volume,
        array=array,
        window=window,
        measured=bool(text("0028|0030")) or (volume.spacing[:2] != (1, 1) and not unsure),
        inverted=inverted,
        modality=modality if re.fullmatch("[A-Z0-9_]{1,16}", modality) else None,
        burned_in={"YES": True, "NO": False}.get(text("0028|0301")),
    )
