"""What an ensemble says beyond its mask: three ways to fuse it, how its areas spread, how many members are enough.

All of it is read off a recording, so a shipped run tells it as well as a fresh one: from the members' label images at
screen size, and every member's area. How well a checkpoint's probabilities can be believed is another question; its
answer was measured on held-out pictures and lies in results/NAME/*.json.

Disagreement is not error: members that share a mistake agree on it.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.analysis.comparisons import agreement
from app.core import catalogue
from app.core.frames import Recording
from medsegdiff.metrics import bootstrap_interval, dice, mean

__all__ = ["RULES", "Areas", "Calibration", "Enough", "areas", "calibration", "enough", "fusions"]

RULES = ("staple", "mean", "vote")
_SUBSETS = 24  # of members, for each size of an ensemble


def fusions(recording: Recording) -> dict[str, UInt8[ndarray, "h w"]]:
    """Fuse the members by every rule, at screen size; the mean is that of their probabilities, one class only."""
    from medsegdiff.ensemble import fuse

    members, classes = recording.outcome.members, len(recording.facts["labels"])
    votes = np.stack([members == c for c in range(classes + 1)], 1).astype(np.float32)
    fused = {rule: fuse(votes, rule).labels for rule in RULES}
    if classes == 1:
        fused["mean"] = (recording.outcome.probability > 127).astype(np.uint8)
    return fused


@dataclass(frozen=True, slots=True)
class Areas:
    """Every member's foreground as a share of the picture, and the 95 % interval of their mean (bootstrap)."""

    shares: tuple[float, ...]
    mean: float
    low: float
    high: float


def areas(recording: Recording) -> Areas:
    """Read the areas of the last step; all members count, also those whose masks are not kept."""
    shares = recording.frames[-1].shares
    low, high = bootstrap_interval(shares, seed=0)
    return Areas(shares, math.fsum(shares) / len(shares), low, high)


@dataclass(frozen=True, slots=True)
class Enough:
    """Ensembles of one size, drawn from the members: the Dice of their vote, on average and from worst to best."""

    members: int
    dice: float
    low: float
    high: float


def enough(recording: Recording) -> tuple[Enough, ...]:
    """Measure small ensembles against the truth, or where it is unknown against the vote of all members."""
    members, classes = recording.outcome.members, len(recording.facts["labels"])
    known = recording.opening.reference
    compared, target = (dice, known[0]) if known else (agreement, _vote(members, classes))
    rng = np.random.default_rng(0)
    rows = []
    for size in range(1, len(members) + 1):
        drawn = {tuple(sorted(rng.permutation(len(members))[:size].tolist())) for _ in range(_SUBSETS)}
        scores = [mean(compared(_vote(members[list(few)], classes), target, classes)) for few in drawn]
        scores = [s for s in scores if not math.isnan(s)] or [math.nan]
        rows.append(Enough(size, math.fsum(scores) / len(scores), min(scores), max(scores)))
    return tuple(rows)


def _vote(members: UInt8[ndarray, "m h w"], classes: int) -> UInt8[ndarray, "h w"]:
    """Let the members vote; of as many votes the lower label wins."""
    return np.stack([(members == c).sum(0) for c in range(classes + 1)]).argmax(0).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often each class was there where it was given a probability, over all pixels of the held-out pictures."""

    classes: dict[str, tuple[tuple[float, float, int], ...]]  # (probability said, share true, pixels) of each bin
    ece: float
    pictures: int
    settings: dict[str, Any]


@cache
def calibration(name: str, folder: Path = catalogue.ROOT / "results") -> Calibration | None:
    """Read what was measured of a checkpoint, of the page's own settings where they were measured; None where nothing was."""
    paths = sorted(folder.joinpath(name).glob("[0-9]*x*.json"), key=lambda path: (path.stem != "5x10", path.name))
    for path in paths:
        told = json.loads(path.read_text(encoding="utf-8"))
        if "reliability" in told:
            classes = {
                label: tuple(
                    (said, true, pixels)
                    for said, true, pixels in zip(
                        *(bins[k] for k in ("confidence", "frequency", "pixels")), strict=True
                    )
                    if pixels
                )
                for label, bins in told["reliability"].items()
            }
            return Calibration(classes, told["ece"], len(told["cases"]), told["settings"])
    return None
