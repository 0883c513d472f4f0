"""Is this a picture of the kind a checkpoint was trained on? What can be told of it before a run.

A checkpoint knows the mean and standard deviation of its training pictures, channel by channel, how large they were and what
they were of. A picture far from them is not refused, it is spoken of: a network answers everything with the same face. That
nothing is found proves nothing, for a photograph of a table may have the colours of skin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.catalogue import Card
from app.inputs.images import InputImage

__all__ = ["Finding", "check"]

_FAR = 1.5  # standard deviations of training pixels between a picture's mean and theirs
_FLAT = 0.3  # share of their contrast below which a picture is nearly empty
_LONG = 2.0  # longer to shorter side: squeezed to a square, shapes are no longer theirs
_WORDS = {"CT": ("CT",), "MR": ("MR",), "US": ("ultrasound",), "OP": ("fundus",)}  # DICOM's code, the card's words


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that speaks against a picture."""

    key: str  # of its words: "modality", "grey", "colour", "far", "flat", "small", "long"
    values: dict[str, Any]


def check(card: Card, image: InputImage) -> tuple[Finding, ...]:
    """Compare a picture with what a checkpoint was trained on."""
    picture, found = image.picture, []
    told = _WORDS.get(picture.modality or "")
    if picture.modality and not (told and any(word in card.modality for word in told)):
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
