"""DICOM files: grey scale, window and spacing from the header.

References:
    DICOM PS3.3 C.7.6.3 and C.11.2, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/PS3.3.html
"""

import math
import re
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from medsegdiff.image_ref import Volume, robust_window

__all__ = ["as_header_means"]


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
