"""Masks of several experts, reconstructed from the share of experts who marked each pixel.

    expert j of n  =  { share >= j / n }        j = 1 ... n

The share gives the number of experts who marked a pixel but not which ones. These level sets have the same mean at every
pixel, and equal the experts' masks if those are nested, as outlines of one disc nearly are. Where outlines cross, level
sets differ more than the experts do, so distances to them are estimates.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medsegdiff.data.folders import Case

__all__ = ["experts"]

# Folders beside masks/: the first for labels 1 and above, the second for labels 2 and above.
_FOLDERS = ("experts_disc", "experts_cup")


def experts(case: Case, classes: int, count: int = 4) -> UInt8[np.ndarray, "_ h w"] | None:
    """Read label images of `count` experts; None if the data set has none for this image or these classes.

    Raises:
        ValueError: the images of the folders differ in size.
    """
    if case.mask is None or classes != len(_FOLDERS):
        return None
    paths = [case.mask.parent.parent / folder / f"{case.name}.png" for folder in _FOLDERS]
    if not all(path.exists() for path in paths):
        return None
    first, *others = [_votes(path, count) for path in paths]
    for path, votes in zip(paths[1:], others, strict=True):
        if votes.shape != first.shape:
            raise ValueError(f"{path} is {votes.shape}, {paths[0]} {first.shape}; make them one size")
    levels = np.arange(1, count + 1)[:, None, None]
    return np.stack([votes >= levels for votes in (first, *others)]).sum(0).astype(np.uint8)


def _votes(path: Path, count: int) -> UInt8[np.ndarray, "h w"]:
    """Convert grey values (about 0, 64, 128, 191 and 255 for four experts) to the number of experts."""
    with Image.open(path) as file:
        return np.rint(np.asarray(file.convert("L")) / 255 * count).astype(np.uint8)
