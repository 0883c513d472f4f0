"""DICOM files: validate the structure before decoding, and read grey scale, window and spacing from the header.

A DICOM file is a list of elements with a length each, and decoders allocate memory for the stated lengths. The list is
therefore parsed first: no element may be longer than the file, no compressed frame larger than the header's rows and
columns, and the number of frames must match. Only then is the file decoded by ITK.

References:
    DICOM PS3.5 sections 7 (elements) and A.4 (compressed frames),
    https://dicom.nema.org/medical/dicom/current/output/chtml/part05/PS3.5.html
    JPEG frame headers, ITU-T T.81 section B.2.2; JPEG 2000 image size, ITU-T T.800 section A.5.1
"""

import math
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medsegdiff.image_ref import PictureError, Volume, check_sides, damaged, robust_window

__all__ = ["as_header_means", "check_elements"]

_Tag = tuple[int, int]

_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_PIXELS, _SYNTAX = (0x7FE0, 0x0010), (0x0002, 0x0010)
_COUNTS = _SAMPLES, _FRAMES, _ROWS, _COLUMNS, _BITS = tuple((0x0028, n) for n in (0x02, 0x08, 0x10, 0x11, 0x100))
_NESTED = b"\xfe\xff\x00\xe0"  # an item's tag: how a sequence of implicit kind begins
_UNDEFINED = 0xFFFFFFFF  # a length that ends with a delimiter
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")  # 32-bit lengths
_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_HEAD = 4096  # bytes within which a compressed frame must state its size
_NO_SIZE = (0xC4, 0xC8, 0xCC)  # JPEG markers between SOF0 and SOF15 that are not frame headers


def check_elements(path: Path, most: int) -> None:
    """Raise PictureError for a file whose elements exceed its content, before it is decoded.

    Arguments:
        path: of a DICOM file.
        most: limit in bytes of its pixels as float32.

    Raises:
        PictureError: an element, a frame or their number is too large, or the file is deflated.
    """
    sides: dict[_Tag, int] = {}
    frames, held = 0, None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for tag, length, value in _elements(data):
                if tag in _COUNTS:  # those of the image precede those of an icon
                    text = tag == _FRAMES
                    sides.setdefault(tag, int(value) if text else int.from_bytes(value[:2], "little"))
                elif tag == _PIXELS:
                    held = length  # the last belongs to the image, after that of an icon
                elif tag == _ITEM:
                    frames += 1  # including the offset table, which comes first
                    size = _frame_size(value)
                    _require(size is None or size == (sides.get(_ROWS), sides.get(_COLUMNS)))
        except PictureError:
            raise
        except (struct.error, IndexError, ValueError):
            _require(False)
    if frames or held is not None:
        needed = _pixels(sides, most) * sides.get(_BITS, 8)
        _require(frames > sides.get(_FRAMES, 1) or 16 * (held or 0) >= needed)  # half the bits: colours may be thinned


def _pixels(sides: dict[_Tag, int], most: int) -> int:
    """Return the number of samples of all frames."""
    rows, columns, frames = sides.get(_ROWS, 0), sides.get(_COLUMNS, 0), sides.get(_FRAMES, 1)
    check_sides(rows, columns, least=1)
    count = rows * columns * frames * sides.get(_SAMPLES, 1)
    if 4 * count > most:
        raise PictureError(
            "dicom.frames",
            "the file has {frames} frames of {rows} x {columns} pixels; export at most {most} million pixels",
            frames=frames,
            rows=rows,
            columns=columns,
            most=round(most / 4e6),
        )
    return count


def _require(holds: bool) -> None:
    if not holds:
        raise damaged("dicom")


def _elements(data: mmap.mmap) -> Iterator[tuple[_Tag, int, bytes]]:
    """Yield tag, length and first bytes of every element, nested ones too; ITEM stands for a compressed frame."""
    at, explicit, order, syntax = 132, True, "<", ""
    outer: list[tuple[bool, bool]] = []  # state before each sequence of undefined length
    frames = False  # inside compressed pixels
    while at < len(data):
        group, number = struct.unpack_from(order + "HH", data, at)
        if (group, number) == (0, 0) and not data[at:].strip(b"\0"):
            return  # padding
        if group != 2 and syntax:  # after the file meta header, which is always explicit little endian
            if syntax == _DEFLATED:
                raise PictureError(
                    "dicom.deflated", "this DICOM file is deflated as a whole; export it uncompressed, or as JPEG"
                )
            explicit = (
                syntax != _IMPLICIT and data[at + 4 : at + 6].isalpha()
            )  # some files wrongly claim to be explicit
            order, syntax = ">" if syntax == _BIG else "<", ""
            group, number = struct.unpack_from(order + "HH", data, at)
        tag, kind, length, at = (group, number), *_length(data, at + 4, explicit and group != 0xFFFE, order)
        if tag == _SEQUENCE_END:
            _require(bool(outer))
            explicit, frames = outer.pop()
        elif length == _UNDEFINED:
            if tag != _ITEM:
                outer.append((explicit, frames))
                explicit, frames = explicit and kind != b"UN", tag == _PIXELS  # sequences of unknown VR are implicit
        else:
            _require(length <= len(data) - at)
            if frames or not (
                tag in (_ITEM, _ITEM_END) or kind == b"SQ" or (not kind and data[at : at + 4] == _NESTED)
            ):
                value = data[at : at + min(length, _HEAD)]
                if tag == _SYNTAX:
                    syntax = value.decode("ascii", "replace").strip(" \0")
                yield tag, length, value[::-1] if order == ">" and kind == b"US" else value
                at += length  # nested elements are parsed instead


def _length(data: mmap.mmap, at: int, explicit: bool, order: str) -> tuple[bytes, int, int]:
    """Return an element's VR (empty if implicit), its length, and the offset of its value."""
    if not explicit:
        return b"", struct.unpack_from(order + "I", data, at)[0], at + 4
    kind = data[at : at + 2]
    _require(kind.isalpha() and kind.isupper())
    if kind in _LONG:
        return kind, struct.unpack_from(order + "I", data, at + 4)[0], at + 8
    return kind, struct.unpack_from(order + "H", data, at + 2)[0], at + 4


def _frame_size(head: bytes) -> tuple[int, int] | None:
    """Return rows and columns from the start of a compressed frame; None if it is no kind of JPEG."""
    if (siz := head.find(b"\xff\x4f\xff\x51")) >= 0 and (siz == 0 or head[4:8] == b"jP  "):
        width, height, left, top = struct.unpack_from(">4I", head, siz + 8)
        return height - top, width - left
    if not head.startswith(b"\xff\xd8"):
        return None
    at = 2
    while True:
        while head[at + 1] == 0xFF:  # fill bytes
            at += 1
        _require(head[at] == 0xFF)
        marker, length = head[at + 1], struct.unpack_from(">H", head, at + 2)[0]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_SIZE):
            height, width = struct.unpack_from(">2H", head, at + 5)
            return height, width
        at += 2 + length


def as_header_means(volume: Volume, reader: sitk.ImageFileReader) -> Volume:
    """Apply a DICOM header's grey scale, window and spacing to a volume decoded by ITK."""

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
    if inverted:  # ITK inverts stored values before rescaling; undo it
        highest = -1 if number("0028|0103") == 1 else 2 ** number("0028|0101") - 1
        array = np.float32(number("0028|1053", 1) * highest + 2 * number("0028|1052", 0)) - array
    centre, width = number("0028|1050"), number("0028|1051")
    if grey and abs(centre) < 1e30 and 1 <= width < 1e30:
        low = centre - 0.5 - (width - 1) / 2
        window = (low, low + max(width - 1, 1e-3))
    elif grey and reader.GetPixelID() != sitk.sitkUInt8:
        window = robust_window(array)
    modality = text("0008|0060")
    unsure = text("0018|1164") or text(
        "0028|0034"
    )  # spacing at the detector, or an aspect ratio, is not the spacing in the body
    return replace(
        volume,
        array=array,
        window=window,
        measured=bool(text("0028|0030")) or (volume.spacing[:2] != (1, 1) and not unsure),
        inverted=inverted,
        modality=modality if re.fullmatch("[A-Z0-9_]{1,16}", modality) else None,
        burned_in={"YES": True, "NO": False}.get(text("0028|0301")),
    )
