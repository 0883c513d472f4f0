"""How much the members of an ensemble agree on each structure.

For the members' masks A_1 ... A_m of one class:

    pairwise Dice    mean over pairs i < j of 2 |A_i & A_j| / (|A_i| + |A_j|), of pairs of which at least one has the class
    interval         percentiles 2.5 and 97.5 of the sizes |A_i|

Both describe the variation between members. It is not the error: members that share a mistake agree on it.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

__all__ = ["overlaps", "summary"]

_PIXELS = 2**22  # in one matrix product: float32 counts exactly up to 2^24


def overlaps(members: UInt8[np.ndarray, "m h w"], classes: int) -> Int64[np.ndarray, "classes m m"]:
    """Count the pixels that members i and j both give class 1..K; on the diagonal are the sizes.

    Counts of disjoint parts, such as the slices of a volume, can be added.
    """
    found = np.zeros((classes, len(members), len(members)), np.int64)
    marked = np.asarray(members.any(0))
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    if not len(rows):
        return found
    inside = members[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(len(members), -1)
    for first in range(0, inside.shape[1], _PIXELS):
        part = inside[:, first : first + _PIXELS]
        for label in range(1, classes + 1):
            one = part == label
            if one.any():
                one = one.astype(np.float32)
                found[label - 1] += (one @ one.T).astype(np.int64)
    return found


def summary(
    counts: Int64[np.ndarray, "classes m m"],
    names: Sequence[str],
    unit: str,
    size: float | None = None,
    physical: str = "",
) -> dict[str, dict[str, Any]]:
    """Return pairwise Dice and interval of every class, as plain JSON types; empty for a single member.

    Arguments:
        counts: of `overlaps`.
        names: of the classes.
        unit: "pixels" or "voxels", the key of the interval.
        size: of one of them, in mm^2 or mm^3, if known.
        physical: key of the interval in those.
    """
    if counts.shape[1] < 2:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for name, both in zip(names, counts, strict=True):
        sizes = np.diagonal(both)
        pairs = [(i, j) for i, j in combinations(range(len(sizes)), 2) if sizes[i] + sizes[j]]
        dice = [2 * both[i, j] / (sizes[i] + sizes[j]) for i, j in pairs]
        low, high = np.quantile(sizes, (0.025, 0.975)).tolist()
        found[name] = {"pairwise_dice": float(np.mean(dice)) if dice else None, unit: [low, high]}
        if size is not None:
            found[name][physical] = [low * size, high * size]
    return found
