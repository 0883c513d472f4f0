"""Map arrays to colours, using one colour-blind-safe scheme throughout.

Masks are drawn as a contour in Okabe and Ito's colours, the reference mask as a yellow dotted contour, and
individual members as thin lines. Probabilities use viridis and all other scales cividis; both increase evenly in brightness,
so they remain readable in greyscale. Decreases are blue, increases orange. Noisy masks are grey.

References:
    Okabe & Ito (2008), Color universal design, https://jfly.uni-koeln.de/color/
    Nuñez, Anderton & Renslow (2018), cividis, https://doi.org/10.1371/journal.pone.0199239
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Num, UInt8
from numpy import ndarray
from PIL import Image

__all__ = [
    "CIVIDIS",
    "CLASSES",
    "DIVERGING",
    "HEAT",
    "MEMBER",
    "READERS",
    "REFERENCE",
    "VIRIDIS",
    "data_uri",
    "disagreement_on",
    "fit",
    "grey",
    "labels_of",
    "mapped",
    "on_picture",
    "png_uri",
    "rgb",
    "save_labels",
    "sheet",
]

# Colours of classes 1, 2, ..., repeated if needed: six of Okabe and Ito, which are colour-blind safe, then Tol's muted scheme
# and two more for the abdominal organs, which also differ in shape and position.
CLASSES = (
    *("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#0072B2"),
    *("#882255", "#999933", "#AA4499", "#44AA99", "#661100", "#EE99AA", "#332288", "#888888", "#FF3399"),
)
REFERENCE = "#F0E442"
READERS = ("#F0E442", "#D55E00", "#CC79A7", "#009E73")  # repeated if needed
MEMBER = "#FFFFFF"

VIRIDIS = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")

DIVERGING = (
    "#0072B2",
    "#5EA5CF",
    "#B8D6E8",
    "#F5F5F5",
    "#F0C7A8",
    "#E29363",
    "#D55E00",
)  # decrease, no change, increase

HEAT = ("#D55E00", "#E69F00", "#F0E442")  # disagreement on a grey image: some, much, most

RGB = UInt8[ndarray, "h w 3"]


def rgb(colour: str) -> list[int]:
    """Return the red, green and blue of a colour "#RRGGBB", 0 to 255."""
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _rgb(colour: str) -> ndarray:
    return np.array(rgb(colour), np.float32)


def _table(colours: Sequence[str]) -> UInt8[ndarray, "256 3"]:
    anchors = np.stack([_rgb(c) for c in colours])
    at = np.linspace(0, len(colours) - 1, 256)
    channels = [np.interp(at, np.arange(len(colours)), anchors[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


_NAMED = {"viridis": VIRIDIS, "cividis": CIVIDIS, "diverging": DIVERGING, "heat": HEAT}
_TABLES = {name: _table(colours) for name, colours in _NAMED.items()}


def fit(image: UInt8[ndarray, "h w *c"], size: tuple[int, int], *, smooth: bool = True) -> UInt8[ndarray, "h2 w2 *c"]:
    """Resize an image to (height, width)."""
    if image.shape[:2] == size:
        return image
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), how))


def grey(image: UInt8[ndarray, "h w"]) -> RGB:
    """Convert a greyscale image to RGB."""
    return np.repeat(image[..., None], 3, -1)


def mapped(values: Num[ndarray, "h w"], low: float, high: float, table: str) -> RGB:
    """Map values in [low, high] to the colours of a table."""
    share = (np.asarray(values, np.float32) - low) / max(high - low, 1e-9)
    return _TABLES[table][np.rint(255 * share.clip(0, 1)).astype(np.uint8)]


def on_picture(
    picture: RGB,
    labels: UInt8[ndarray, "h w"],
    reference: Sequence[UInt8[ndarray, "h w"]] = (),
    members: Sequence[UInt8[ndarray, "h w"]] = (),
) -> RGB:
    """Draw masks on an image of the same size: classes outlined, members thin, the reference mask dotted.

    The masks of several readers are dotted in a colour each.
    """
    canvas = picture.astype(np.float32)
    for reach, colour, share in ((1, 0, 0.4), (0, _rgb(MEMBER), 0.85)):  # a dark edge shows white lines on pale skin
        lines = np.logical_or.reduce([np.zeros(labels.shape, bool), *(_rim(member > 0, reach) for member in members)])
        canvas[lines] += share * (colour - canvas[lines])
    for c in np.unique(labels[labels > 0]):
        canvas[_rim(labels == c, 2)] *= 0.35  # a dark edge, so that the contour is visible on any background
        canvas[_rim(labels == c, 1)] = _rgb(CLASSES[(c - 1) % len(CLASSES)])
    for i, known in enumerate(reference):
        rows, columns = np.indices(known.shape)
        for c in np.unique(known[known > 0]):  # alternate dots, so that readers who agree are both visible
            canvas[_rim(known == c, 1) & ((rows + columns) // 4 % 2 == i % 2)] = _rgb(READERS[i % len(READERS)])
    return canvas.clip(0, 255).astype(np.uint8)


def disagreement_on(picture: RGB, disagreement: UInt8[ndarray, "h w"], labels: UInt8[ndarray, "h w"]) -> RGB:
    """Draw the disagreement of the members, 255 for the largest possible, and the contour of the mask on a grey image."""
    grey_picture = np.repeat(picture.mean(-1, keepdims=True) * 0.7, 3, -1)
    share = disagreement.astype(np.float32)[..., None] / 255
    canvas = grey_picture + np.minimum(1, 2 * share) * (mapped(disagreement, 0, 255, "heat") - grey_picture)
    canvas[_rim(labels > 0, 0)] = _rgb(MEMBER)
    return canvas.clip(0, 255).astype(np.uint8)


def _rim(mask: Bool[ndarray, "h w"], reach: int) -> Bool[ndarray, "h w"]:
    """Return the contour of a mask: its boundary pixels, dilated by `reach` pixels."""
    inside = np.pad(mask, 1, mode="edge")
    core = mask & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    rim = mask & ~core
    for _ in range(reach):
        wide = np.pad(rim, 1)
        rim = rim | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return rim


def sheet(rows: Sequence[Sequence[RGB]]) -> RGB:
    """Join tiles of one size to a sprite sheet: one row per view, one column per step; shorter rows are filled with black."""
    height, width = rows[0][0].shape[:2]
    canvas = np.zeros((height * len(rows), width * max(map(len, rows)), 3), np.uint8)
    for i, row in enumerate(rows):
        canvas[i * height : (i + 1) * height, : width * len(row)] = np.concatenate(row, 1)
    return canvas


def data_uri(image: RGB, quality: int = 82, *, halve_colour: bool = False) -> str:
    """Encode an image as a JPEG data URI; `halve_colour` keeps colour at half the resolution of brightness."""
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality, subsampling="4:2:0" if halve_colour else "4:4:4")
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()


def png_uri(values: UInt8[ndarray, "h w *c"]) -> str:
    """Encode a map or an image as a PNG data URI, with its very values."""
    held = io.BytesIO()
    Image.fromarray(values).save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def save_labels(path: Path | str, labels: UInt8[ndarray, "h w"]) -> None:
    """Write a label image as PNG with a palette: programs read the labels, viewers show the colours of the page."""
    image = Image.fromarray(labels)
    image.putpalette([c for colour in ("#000000", *CLASSES) for c in rgb(colour)])
    image.save(path, "PNG")


def labels_of(picture: RGB) -> UInt8[ndarray, "h w"] | None:
    """Return the labels of an image in the colours that `save_labels` gives them; None if it has other colours."""
    codes = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    labels = np.full(codes.shape, 255, np.uint8)
    for label, colour in enumerate(("#000000", *CLASSES)):
        labels[codes == int(colour[1:], 16)] = label
    return None if (labels == 255).any() else labels
