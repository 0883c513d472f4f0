"""Several people's masks of one picture, read from the share of them who marked each pixel.

    expert j of n  =  { share >= j / n }        j = 1 ... n

A share tells how many marked a pixel, not who, so these are level sets: as many as there were people, with the same mean
at every pixel, and each person's very mask wherever the masks lie inside one another, as outlines of one disc nearly do.
Where they cross, level sets differ from one another more than people of like sizes would: a distance to them is an
estimate.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medsegdiff.data.folders import Case

__all__ = ["experts"]

# Folders beside masks/: the first marks labels 1 and above, the second 2 and above.
_FOLDERS = ("experts_disc", "experts_cup")


def experts(case: Case, classes: int, count: int = 4) -> UInt8[np.ndarray, "_ h w"] | None:
    """Read label images of `count` experts; None where the data set has none for this picture or for these classes.

    Raises:
        ValueError: the folders disagree about the picture's size.
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
    """Round grey values, about 0, 64, 128, 191 and 255 for four experts, to how many of them marked the pixel."""
    with Image.open(path) as file:
        return np.rint(np.asarray(file.convert("L")) / 255 * count).astype(np.uint8)
