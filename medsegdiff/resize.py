"""Resize pictures to the network's square, and maps back to the picture's size.

Pictures are squeezed to the network's square, whatever their sides: so were the training pictures of the shipped
checkpoints, and no part of a picture is cut off. Masks go home by the inverse map. Both ways are bilinear, with a wider
kernel where a side shrinks (antialiasing); probabilities are resized, never labels, so they still sum to one and a
border may fall between pixels of the network's grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from medsegdiff.image_ref import Picture

__all__ = ["Geometry", "ResizedMaps", "in_bands", "to_network", "to_original"]

_BAND = 16 * 2**20  # bytes of a band of rows; larger ones are slower, for they fit no cache
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sides of the original image and of the network's square, in pixels."""

    height: int
    width: int
    size: int
    field: float = 1.0  # share of the original's sides that the square shows, about the middle

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the original that the square shows."""
        sides = ((side, max(round(side * self.field), 1)) for side in (self.height, self.width))
        rows, columns = (slice((side - seen) // 2, (side - seen) // 2 + seen) for side, seen in sides)
        return rows, columns


def to_network(
    picture: Picture, size: int, channels: int = 3, field: float = 1.0
) -> tuple[Float[Tensor, "1 c size size"], Geometry]:
    """Squeeze a picture, or the `field` about its middle, to a square in [-1, 1]; one channel is its luminance."""
    if channels not in (1, 3):
        raise ValueError(f"the network takes {channels} channels, but a picture gives 3 (RGB) or 1 (luminance)")
    geometry = Geometry(picture.height, picture.width, size, field)
    image = torch.from_numpy(picture.pixels[geometry.box]).movedim(-1, 0)[None].float()
    if channels == 1:
        image = (image * image.new_tensor(_LUMINANCE)[:, None, None]).sum(1, keepdim=True)
    image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
    return (image / 127.5 - 1).clamp(-1, 1), geometry


def to_original(maps: Float[Tensor, "*m k size size"], geometry: Geometry) -> Float[Tensor, "*m k h w"]:
    """Bring probabilities (or any maps, of any number of members) from the network's square to the original's sides.

    Outside the field that the network saw all is background: the first of several channels is 1, the others are 0.
    """
    size = geometry.size
    if maps.shape[-2:] != (size, size):
        raise ValueError(f"the maps are {tuple(maps.shape[-2:])} but this picture went out as {(size, size)}")
    flat = maps.reshape(-1, *maps.shape[-3:])
    rows, columns = geometry.box
    seen = (rows.stop - rows.start, columns.stop - columns.start)
    home = F.interpolate(flat, size=seen, mode="bilinear", antialias=True)
    if seen != (geometry.height, geometry.width):
        whole = home.new_zeros(*home.shape[:2], geometry.height, geometry.width)
        if whole.shape[1] > 1:
            whole[:, 0] = 1
        whole[:, :, rows, columns] = home
        home = whole
    return home.reshape(*maps.shape[:-2], geometry.height, geometry.width)


def in_bands(
    maps: Float[Tensor, "m k size size"], geometry: Geometry, most: int = _BAND
) -> Iterator[tuple[slice, Float[Tensor, "m k rows w"]]]:
    """Resize as `to_original` does, a band of rows at a time, using at most `most` bytes for each.

    Bilinear interpolation is separable: a band of rows is a product with as many rows of the matrix that interpolates
    columns, followed by the interpolation of its rows.
    """
    rows, columns = geometry.box
    seen = (rows.stop - rows.start, columns.stop - columns.start)
    unit = torch.eye(geometry.size, dtype=maps.dtype, device=maps.device)
    down = F.interpolate(unit[None, None], size=(seen[0], geometry.size), mode="bilinear", antialias=True)[0, 0]
    step = max(1, most // (maps.shape[0] * maps.shape[1] * geometry.width * maps.element_size()))
    for first in range(0, geometry.height, step):
        band = slice(first, min(first + step, geometry.height))
        block = maps.new_zeros(*maps.shape[:2], band.stop - band.start, geometry.width)
        if maps.shape[1] > 1:
            block[:, 0] = 1
        inside = slice(max(first, rows.start), min(band.stop, rows.stop))
        if inside.start < inside.stop:
            weights = down[inside.start - rows.start : inside.stop - rows.start]
            narrow = weights @ maps
            size = (len(weights), seen[1])
            wide = F.interpolate(narrow, size=size, mode="bilinear", antialias=True)
            block[:, :, inside.start - first : inside.stop - first, columns] = wide
        yield band, block


@dataclass(frozen=True, slots=True, eq=False)
class ResizedMaps:
    """Class probabilities of a large picture, kept at the network's size and resized a class at a time.

    `maps[c]` is an array (h, w); `numpy.asarray(maps)` makes all of them, (k, h, w).
    """

    maps: Float[Tensor, "k size size"]
    geometry: Geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """Classes with the background, rows, columns."""
        return len(self.maps), self.geometry.height, self.geometry.width

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, c: int) -> Float32[np.ndarray, "h w"]:
        c = range(len(self.maps))[c]
        pair = self.maps[[c, 1]] if c == 0 else self.maps[c : c + 1]  # outside the field the first of several is 1
        return to_original(pair, self.geometry)[0].numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.stack([self[c] for c in range(len(self))]).astype(dtype or np.float32)
