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
from medsegdiff.orientation import turn

if TYPE_CHECKING:
    from medsegdiff.slices import VolumeSegmentation

__all__ = ["planes"]

_MOST = 128  # voxels shown along a side; of longer ones every second, third ... is left out
_BODY = "LPS"  # the axes of the viewer
_ENDS = ("LR", "PA", "SI")
_PLANES = ("sagittal", "coronal", "axial")
_UNORIENTED = ("column", "row", "frame")  # planes of a file that does not give the direction of its axes


def planes(
    cached_volume: CachedVolume, how: SliceView, result: "VolumeSegmentation", words: Words
) -> dict[str, Any] | None:
    """Build the value of the planes component: a volume in the window of a view, and its mask.

    The planes meet where most is marked. DICOM frames are turned to the axes of the body, if the file gives their direction.
    None for what is no volume in space: colour, a single slice, or frames that follow each other in time.
    """
    volume = cached_volume.volume
    if how.shown is None or volume.count(2) == 1 or not volume.stacked:
        return None
    before = volume.axes if volume.oriented else _BODY
    order = [next(i for i, letter in enumerate(before) if letter in ends) for ends in _ENDS]
    counts, spacing = ([of[i] for i in order] for of in ([volume.count(axis) for axis in (0, 1, 2)], volume.spacing))
    steps = [-(-count // _MOST) for count in counts]
    thinned = tuple(slice(None, None, step) for step in steps[::-1])
    grey = windowed(turn(volume.array, before, _BODY)[thinned], how.shown)
    labels = np.ascontiguousarray(turn(result.labels, before, _BODY)[thinned])
    if volume.inverted:
        grey = 255 - grey
    sides = list(grey.shape[::-1])
    columns = math.ceil(math.sqrt(sides[2]))
    marked = [np.count_nonzero(labels, axis=tuple(i for i in range(3) if i != 2 - axis)) for axis in (0, 1, 2)]
    at = [int(axis.argmax()) if axis.any() else len(axis) // 2 for axis in marked]
    sentences = {key: words.sentences[f"planes.{key}"] for key in ("slice", "covers", "opacity", "help")}
    return {
        "size": sides,
        "counts": counts,
        "steps": steps,
        "reversed": [before[i] != letter for i, letter in zip(order, _BODY, strict=True)],
        "spacing": [gap * step for gap, step in zip(spacing, steps, strict=True)],
        "columns": columns,
        "picture": paint.data_uri(paint.grey(_mosaic(grey, columns))),
        "labels": paint.png_uri(_mosaic(labels, columns)),
        "colours": list(map(paint.rgb, paint.CLASSES)),
        "at": at,
        "names": [words(f"planes.{name}") for name in (_PLANES if volume.oriented else _UNORIENTED)],
        "letters": ["A", "R", "R"] if volume.oriented else None,  # the side of the body at the left of each plane
        "words": sentences | {"help": sentences["help"] + (f" {words('planes.letters')}" if volume.oriented else "")},
    }


def _mosaic(values: UInt8[ndarray, "z y x"], columns: int) -> UInt8[ndarray, "h w"]:
    """Arrange the slices row by row; the last row is filled with zeros."""
    count, height, width = values.shape
    rows = -(-count // columns)
    filled = np.zeros((rows * columns, height, width), np.uint8)
    filled[:count] = values
    return filled.reshape(rows, columns, height, width).transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
