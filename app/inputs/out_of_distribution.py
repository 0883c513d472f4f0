"""Check before a run whether an image resembles the training data of a checkpoint.

The image is compared with the metadata of the checkpoint: mean and standard deviation of the training images per channel,
their size and modality. Out-of-distribution images give a warning, not an error. An image that passes may still be
unsuitable: a photograph of a wooden table can have the colours of skin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.catalogue import Card
from app.inputs.images import InputImage

__all__ = ["Finding", "check"]

_FAR = 1.5  # distance of the image mean from the training mean, in standard deviations of training pixels
_FLAT = 0.3  # share of the training contrast below which an image counts as uniform
_LONG = 2.0  # aspect ratio above which resizing to a square distorts shapes
_MODALITIES = {
    "CT": ("CT",),
    "MR": ("MR",),
    "US": ("ultrasound",),
    "OP": ("fundus",),
}  # DICOM code: words in the metadata


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between an image and the training data."""

    key: str  # of its message: "modality", "grey", "colour", "far", "flat", "small", "long"
    values: dict[str, Any]


def check(card: Card, image: InputImage) -> tuple[Finding, ...]:
    """Compare an image with the training data of a checkpoint."""
    picture, found = image.picture, []
    expected = _MODALITIES.get(picture.modality or "")
    if picture.modality and not (expected and any(word in card.modality for word in expected)):
        found.append(Finding("modality", {"modality": picture.modality}))
    pixels = picture.pixels.reshape(-1, 3)[:: max(1, picture.pixels.size // 300_000)] / 127.5 - 1
    coloured = bool(np.abs(pixels - pixels.mean(1, keepdims=True)).mean() > 0.02)
    if not coloured and "RGB" in card.modality:
        found.append(Finding("grey", {}))
    if coloured and any(word in card.modality for word in ("grey", "CT", "MR slice", "T1")):
        found.append(Finding("colour", {}))
    if len(card.mean) == 3:
        mean, std = np.array(card.mean), np.array(card.std)
        far = float((np.abs(pixels.mean(0) - mean) / std).max())
        if far > _FAR:
            found.append(Finding("far", {"far": f"{far:.1f}"}))
        if float((pixels.std(0) / std).max()) < _FLAT:
            found.append(Finding("flat", {}))
    sides = picture.height, picture.width
    if min(sides) < card.size / 2:
        found.append(Finding("small", {"height": sides[0], "width": sides[1], "size": card.size}))
    if max(sides) > _LONG * min(sides):
        found.append(Finding("long", {"height": sides[0], "width": sides[1]}))
    return tuple(found)
