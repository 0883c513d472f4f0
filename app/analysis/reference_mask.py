"""Score a result against a reference mask that the visitor painted or uploaded.

    Dice  2 |A & B| / (|A| + |B|)        IoU  |A & B| / |A | B|
    HD95  max( P95_{a in dA} d(a, dB), P95_{b in dB} d(b, dA) )      dA: pixels of A with a 4-neighbour outside A

The definitions, also for empty masks, are those of `medsegdiff.metrics`.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8
from numpy import ndarray

from app.inputs.images import InputImage
from app.inputs.uploads import MOST, temporary_upload
from app.views import paint
from medsegdiff import metrics
from medsegdiff.errors import InputError
from medsegdiff.image_ref import Picture, Raster, Volume, plane_of, windowed
from medsegdiff.orientation import turn
from medsegdiff.reader import VISITOR, decode, decode_layer

__all__ = ["Score", "check_canvas", "painted", "read_layer", "read_mask", "score"]

_NEAR = 8  # most grey levels by which a pixel of the same picture differs
_FEW = 0.001  # share of pixels that may differ by more


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one class; nan if the reference mask does not contain it."""

    label: str
    dice: float
    iou: float
    hd95: float  # in mm if the pixel spacing is known, else in pixels
    unit: str  # "mm" or "px"

    def facts(self) -> dict[str, Any]:
        """Return the scores as JSON types, with None for nan."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def read_mask(path: Path | str, classes: int, size: tuple[int, int], shown: InputImage) -> UInt8[ndarray, "h w"]:
    """Read an uploaded label image: 0 for background and 1..K, or 0 and 255 for a single class.

    A label image with the palette of `paint.save_labels` is read as its labels. A label volume is read at the axis and
    index of the slice shown; a file of a single slice is taken for the mask of the slice shown.

    Arguments:
        path: of the upload.
        classes: K.
        size: height and width of the result.
        shown: the image that was segmented.

    Raises:
        ValueError: The file is not an image, is in colour, has other labels, its size is not `size`, or it has several
            slices, but not as many as the volume.
    """
    with temporary_upload(path):
        values = _values(path, shown)
    if values.shape != size:
        raise InputError(
            "mask.size",
            "the mask is {width} x {height} pixels, its picture {columns} x {rows}; make them one size",
            height=values.shape[0],
            width=values.shape[1],
            rows=size[0],
            columns=size[1],
        )
    if classes == 1 and set(np.unique(values)) <= {0, 255}:
        return (values > 0).astype(np.uint8)
    if values.max() > classes:
        raise InputError(
            "mask.label",
            "the mask has the value {value}; use 0 for background and 1 to {classes} for classes",
            value=int(values.max()),
            classes=classes,
        )
    return values.copy()


def _values(path: Path | str, shown: InputImage) -> UInt8[ndarray, "h w"]:
    pixels = _pixels(path, shown)
    if pixels.ndim == 2:
        return windowed(pixels, (0, 255))
    values = paint.labels_of(pixels)
    if values is None and (pixels == pixels[..., :1]).all():
        values = pixels[..., 0]
    if values is None:
        raise InputError(
            "mask.colour", "the mask is in colour; give a grey label image, 0 for background and 1, 2, ... for classes"
        )
    return values


def _pixels(path: Path | str, shown: InputImage) -> Num[ndarray, "h w *c"]:
    """Read the pixels of a mask, at the slice or page that is shown of the image."""
    found, picture, view = decode(Path(path), most=MOST, limits=VISITOR), shown.picture, shown.slice_view
    if isinstance(found, Volume):
        # A DICOM image keeps the axes of its file, while a label volume is read in LPS.
        array = turn(found.array, found.axes, view.array_axes) if view else found.array
        axis = 2 if len(array) == 1 else picture.axis
        return plane_of(array, axis, _index(array.shape[2 - axis], picture))
    page = _index(found.count, picture)
    if page != found.index:
        found = decode(Path(path), page=page, most=MOST, limits=VISITOR)
        assert isinstance(found, Raster)
    return found.values


def _index(count: int, picture: Picture) -> int:
    """Return the index of the slice of a mask that belongs to a picture."""
    if count not in (1, picture.slice_count):
        raise InputError(
            "mask.slices",
            "the mask has {count} slices along this axis, the image {slices}; upload a mask of the same volume, or of the "
            "slice shown alone",
            count=count,
            slices=picture.slice_count,
        )
    return picture.slice_index if count > 1 else 0


def read_layer(path: Path | str) -> UInt8[ndarray, "h w 4"]:
    """Read one layer of what a visitor painted, RGBA.

    Raises:
        ValueError: it is no picture.
    """
    with temporary_upload(path):
        return decode_layer(Path(path))


def check_canvas(below: UInt8[ndarray, "h w 4"], picture: UInt8[ndarray, "h w 3"]) -> None:
    """Check that a canvas shows a picture: it takes a new one some time after the page does.

    Browsers that change what is read from a canvas, so that a visitor is not recognised by it, do so by a few grey levels.

    Raises:
        ValueError: it shows another picture.
    """
    same = below.shape[:2] == picture.shape[:2]
    if not same or (np.abs(below[..., :3].astype(np.int16) - picture) > _NEAR).any(-1).mean() > _FEW:
        raise InputError(
            "mask.canvas", "the canvas shows another image still; wait a moment and press the button again"
        )


def painted(layers: list[Any], classes: int, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """Convert painted layers (h, w, RGBA) to labels: each opaque pixel gets the class of the nearest colour.

    Raises:
        ValueError: Nothing is painted.
    """
    labels = np.zeros(size, np.uint8)
    colours = np.array(list(map(paint.rgb, paint.CLASSES[:classes])), np.int32)
    for layer in layers:
        rgba = paint.fit(np.asarray(layer, np.uint8), size, smooth=False).astype(np.int32)
        nearest = np.square(rgba[..., None, :3] - colours).sum(-1).argmin(-1) + 1
        labels = np.where(rgba[..., 3] > 127, nearest, labels).astype(np.uint8)
    if not labels.any():
        raise InputError("mask.empty", "nothing is painted; draw the mask on the picture first")
    return labels


def score(
    labels: UInt8[ndarray, "h w"],
    reference: UInt8[ndarray, "h w"],
    names: list[str],
    spacing_mm: tuple[float, float] | None = None,
) -> tuple[Score, ...]:
    """Score a result against a reference mask of the same size, per class."""
    unit, spacing = ("px", (1.0, 1.0)) if spacing_mm is None else ("mm", tuple(spacing_mm))
    found = metrics.score("the result", labels, reference, len(names), spacing)
    return tuple(Score(*row, unit) for row in zip(names, found.dice, found.iou, found.hd95, strict=True))
