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
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from medsegdiff.image_ref import MAX_BYTES, PictureError, Raster, Volume, check_index, check_sides, damaged, is_dicom
from medsegdiff.itk_io import READERS, decoding, read_itk

__all__ = ["decode", "decode_layer"]

_WHITE_IS_ZERO = 0  # Photometric Interpretation of a TIFF whose low values are bright
_PAGES = 1000  # of a TIFF; each takes a millisecond to find
_PARTIAL = 0b101  # bits of New Subfile Type: a reduced copy of another page, a transparency mask
_HEAD = 64 * 2**10  # bytes by which a file is recognised
_READABLE = "PNG, JPEG, TIFF, WebP, BMP, DICOM, NIfTI (.nii, .nii.gz), NRRD, MHA"  # also in sentences in Chinese
_MHA = re.compile(rb"(Comment[ \t]*[=:][^\n]*\n)?(ObjectType|NDims)")
_TYPES = {1: "uint", 2: "int", 3: "float"}  # Sample Format of a TIFF


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
        return read_itk(path, kind, most) if kind in READERS else _decode_raster(path, kind, page)


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
        "dicom": is_dicom(head),
        "png": head.startswith(b"\x89PNG\r\n\x1a\n"),
        "jpeg": head.startswith(b"\xff\xd8\xff"),
        "webp": head.startswith(b"RIFF") and head[8:12] == b"WEBP",
        "bmp": head.startswith(b"BM"),
        "tiff": head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        "nrrd": head.startswith(b"NRRD000"),
        "mha": _MHA.match(head) is not None,
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise PictureError(
            "volume.nifti_pair", "this NIfTI is a pair of files, .hdr and .img; save it as one .nii or .nii.gz file"
        )
    if kind is None or (zipped and kind != "nifti"):
        raise PictureError(
            "image.format",
            "the content of the file is of no kind that can be read here; convert it to one of {readable}",
            readable=_READABLE,
        )
    return kind, head


def _decode_raster(path: Path, kind: str, index: int | None) -> Raster:
    notes = []
    try:
        image = Image.open(path, formats=(kind.upper(),))
    except UnidentifiedImageError:
        raise (_unreadable(_first_directory(path)) if kind == "tiff" else damaged(kind)) from None
    with image:
        # An animated PNG is the picture it opens with.
        pages = _pages(image) if isinstance(image, TiffImageFile) else [0]
        index, count, stored = check_index(index, len(pages)), len(pages), ""
        if isinstance(image, TiffImageFile):
            try:
                image.seek(pages[index])
            except SyntaxError:
                raise _unreadable(image.tag_v2) from None
            stored = _value_type(image.tag_v2)
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
    if stored == "uint32":  # Pillow decodes it as int32
        values = values.view(np.uint32)
    elif stored == "int8":  # and this as uint8
        values, deep = values.view(np.int8).astype(np.int16), True
    return Raster(values, kind, deep, halved, index, count, tuple(notes))


def _pages(image: TiffImageFile) -> list[int]:
    """List the pages of a TIFF, without reduced copies and masks of other pages."""
    partial: list[bool] = []
    for page in range(_PAGES + 1):  # in order, because Pillow miscounts the pages after a seek beyond the last one
        try:
            with suppress(SyntaxError):  # its values cannot be read; another page may be wanted
                image.seek(page)
        except EOFError:
            image.seek(0)
            return [page for page, one in enumerate(partial) if not one] or list(range(len(partial)))
        partial.append(bool(image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & _PARTIAL))
    raise PictureError(
        "image.pages", "the TIFF has more than {count} pages; extract the page to be segmented", count=_PAGES
    )


def _value_type(tags: ImageFileDirectory_v2) -> str:
    """Name the type of a TIFF's values as numpy does."""
    kind, bits = tags.get(ExifTags.Base.SampleFormat, (1,)), tags.get(ExifTags.Base.BitsPerSample, (1,))
    return f"{_TYPES.get(kind[0], 'void')}{bits[0]}"


def _first_directory(path: Path) -> ImageFileDirectory_v2:
    with path.open("rb") as file:
        start = file.read(16)
        tags = ImageFileDirectory_v2(start if start[2:4] in (b"+\0", b"\0+") else start[:8])
        file.seek(tags.next)
        tags.load(file)
    return tags


def _unreadable(tags: ImageFileDirectory_v2) -> PictureError:
    """Make the error for a page that Pillow does not read."""
    if ExifTags.Base.ImageWidth not in tags or ExifTags.Base.ImageLength not in tags:
        return damaged("tiff")
    samples = int(tags.get(ExifTags.Base.SamplesPerPixel, 1))
    return PictureError(
        "image.value_type",
        "a pixel of this TIFF is {what} (photometric interpretation {photometric}), which cannot be read here; save it as grey "
        "or RGB of 8 or 16 bits, or as grey float32",
        what=_value_type(tags) if samples == 1 else f"{samples} x {_value_type(tags)}",
        photometric=int(tags.get(ExifTags.Base.PhotometricInterpretation, 0)),
    )
