"""Decode untrusted image files to arrays and a few attributes of their headers.

A file is recognised by its content, not by its name, and decoded by Pillow (PNG, JPEG, TIFF, WebP, BMP), pydicom, nibabel
(NIfTI) or SimpleITK (NRRD, MHA). These are pure functions without state. A crafted file can crash such a decoder or make it
take any amount of memory and time, so they run in a process of their own with limits: `medsegdiff.reader` calls them,
nothing else does.

Of a DICOM header only spacing and position, grey scale, modality and Burned In Annotation are read, and for a segmentation the
attributes that `dicom_seg` lists.

References:
    DICOM PS3.3 C.7.6.3 and C.11.2, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/PS3.3.html
    Exif orientation, https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf
"""

import gzip
import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from medsegdiff.image_ref import MAX_BYTES, PictureError, Raster, Volume, check_index, check_sides
from medsegdiff.itk_io import READERS, decoding, read_itk

__all__ = ["decode", "decode_layer"]

_WHITE_IS_ZERO = 0  # Photometric Interpretation of a TIFF whose low values are bright
_PAGES = 1000  # of a TIFF; each takes a millisecond to find
_HEAD = 64 * 2**10  # bytes in which a header must end
_READABLE = "PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI (.nii, .nii.gz), NRRD, MHA"  # also in sentences in Chinese
# Tags of elements with which a DICOM file without the preamble begins, and their explicit types or lengths.
_BARE_DICOM = re.compile(
    rb"(\x02\0\0\0|\x02\0[\x01\x02\x03\x10]\0|\x08\0[\0\x05\x08\x16\x18]\0)([A-Z]{2}|.\0\0\0)", re.S
)


def decode(path: Path, page: int | None = None, most: int = MAX_BYTES) -> Raster | Volume:
    """Decode a file.

    Arguments:
        path: PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MHA, at most 512 MiB and 4096 x 4096 pixels a slice.
        page: of a TIFF; None is the middle.
        most: bytes that a volume may take in memory, four a voxel.

    Raises PictureError for a file that cannot be shown, MemoryError where a decoder gets less than it needs.
    """
    kind, head = _recognize(path)
    with decoding(kind):
        # Imported late: most files need one of these libraries at most, and each takes a part of a second.
        if kind == "dicom":
            from medsegdiff.dicom import read_dicom

            return read_dicom(path, most)
        if kind == "nifti":
            from medsegdiff.nifti import read_nifti

            return read_nifti(path, head, most)
        return read_itk(path, kind, head, most) if kind in READERS else _decode_raster(path, kind, page)


def decode_layer(path: Path) -> UInt8[np.ndarray, "h w 4"]:
    """Decode a picture with its transparency, as a canvas sends it: PNG, JPEG or WebP, RGBA."""
    with decoding("an image"), Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
        check_sides(image.height, image.width, least=1)
        return np.array(image.convert("RGBA"))


def _recognize(path: Path) -> tuple[str, bytes]:
    """Return the kind of file, judged by its content, and its first bytes (inflated)."""
    if not path.is_file():
        raise PictureError(
            "image.missing", "there is no such file; give the path of an image file ({readable})", readable=_READABLE
        )
    if path.stat().st_size == 0:
        raise PictureError("image.empty", "the file is empty; give an image file ({readable})", readable=_READABLE)
    if path.stat().st_size > MAX_BYTES:
        raise PictureError(
            "image.file_size", "the file is larger than {size} MiB; crop it or scale it down", size=MAX_BYTES >> 20
        )
    with path.open("rb") as file:
        head = file.read(_HEAD)
    zipped = head.startswith(b"\x1f\x8b")
    if zipped:
        with decoding("gzip"), gzip.open(path) as file:
            head = file.read(_HEAD)
    kinds = {
        "nifti": head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0",
        "dicom": head[128:132] == b"DICM" or _BARE_DICOM.match(head) is not None,
        "png": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "jpeg": head.startswith(b"\xff\xd8\xff"),
        "webp": head.startswith(b"RIFF") and head[8:12] == b"WEBP",
        "bmp": head.startswith(b"BM"),
        "tiff": head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        "nrrd": head.startswith(b"NRRD000"),
        "mha": head.startswith((b"ObjectType", b"NDims")),
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise PictureError(
            "volume.nifti_pair", "this NIfTI is a pair of files, .hdr and .img; save it as one .nii or .nii.gz file"
        )
    if kind is None or (zipped and kind != "nifti"):
        raise PictureError(
            "image.format",
            "by its content the file is none that can be read here; convert it to one of {readable}",
            readable=_READABLE,
        )
    return kind, head


def _decode_raster(path: Path, kind: str, index: int | None) -> Raster:
    notes = []
    with Image.open(path, formats=(kind.upper(),)) as image:
        count = _pages(image) if kind == "tiff" else 1  # an animated PNG is the picture it opens with
        index = check_index(index, count)
        if count > 1:
            image.seek(index)
        check_sides(image.height, image.width)
        halved = any(";16" in str(tile.args) for tile in image.tile)
        deep = image.mode.startswith(("I", "F"))
        if kind == "tiff" and deep and image.getexif().get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
            notes.append("inverted")  # Pillow inverts such values of 8 bits only
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            notes.append("turned")
        image = ImageOps.exif_transpose(image)
        grey = deep or image.mode in ("1", "L", "LA", "La")
        if image.has_transparency_data and not deep:
            image = image.convert("RGBA")
            if np.array(image.getchannel("A")).min() < 255:
                notes.append("transparency over black")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        values = np.array(image if deep else image.convert("L" if grey else "RGB"))
    return Raster(values, kind, deep, halved, index, count, tuple(notes))


def _pages(image: Image.Image) -> int:
    for page in range(1, _PAGES + 1):  # one by one: to whoever seeks beyond the last, Pillow miscounts them
        try:
            image.seek(page)
        except EOFError:
            return page
    raise PictureError(
        "image.pages", "the TIFF has more than {count} pages; extract the page to be segmented", count=_PAGES
    )
