"""Prepare a segmented volume for the viewer in three planes."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.i18n import Words
from app.inputs.images import SliceView
from app.inputs.volumes import CachedVolume
from app.views import paint
from medsegdiff.image_ref import windowed

if TYPE_CHECKING:
    from medsegdiff.slices import VolumeSegmentation

__all__ = ["planes"]

_MOST = 128  # voxels shown along a side; of longer ones every second, third ... is left out
_NAMES = ("sagittal", "coronal", "axial")


def planes(
    cached_volume: CachedVolume, how: SliceView, result: "VolumeSegmentation", words: Words
) -> dict[str, Any] | None:
    """Build the value of the planes component: a volume in the window of a view, and its mask.

    The planes meet where most is marked. None for a volume without three axes: colour frames, or the frames of a DICOM file.
    """
    volume = cached_volume.volume
    if volume.flat or how.shown is None:
        return None
    steps = [-(-volume.count(axis) // _MOST) for axis in (0, 1, 2)]
    thinned = tuple(slice(None, None, step) for step in steps[::-1])
    grey = windowed(volume.array[thinned], how.shown)
    labels = np.ascontiguousarray(result.labels[thinned])
    if volume.inverted:
        grey = 255 - grey
    sides = list(grey.shape[::-1])
    columns = math.ceil(math.sqrt(sides[2]))
    marked = [np.count_nonzero(labels, axis=tuple(i for i in range(3) if i != 2 - axis)) for axis in (0, 1, 2)]
    at = [int(counts.argmax()) if counts.any() else len(counts) // 2 for counts in marked]
    return {
        "size": sides,
        "counts": [volume.count(axis) for axis in (0, 1, 2)],
        "steps": steps,
        "spacing": [gap * step for gap, step in zip(volume.spacing, steps, strict=True)],
        "columns": columns,
        "picture": paint.data_uri(paint.grey(_mosaic(grey, columns))),
        "labels": paint.png_uri(_mosaic(labels, columns)),
        "colours": [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in paint.CLASSES],
        "at": at,
        "names": [words(f"planes.{name}") for name in _NAMES],
        "letters": ["A", "R", "R"] if volume.axes == "LPS" else None,  # the side of the body at the left of each plane
        "words": {key: words.sentences[f"planes.{key}"] for key in ("slice", "covers", "opacity", "help")},
    }


def _mosaic(values: UInt8[ndarray, "z y x"], columns: int) -> UInt8[ndarray, "h w"]:
    """Arrange the slices row by row; the last row is filled with zeros."""
    count, height, width = values.shape
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, height, width), np.uint8)
    filled[:count] = values
    return filled.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
