"""Analyse an ensemble: fusion rules, spread of the members' areas, quality by ensemble size, and calibration.

Everything but calibration is computed from a recording, so it works for recorded and new runs alike. Calibration cannot be
computed from one image: it was measured on the validation split and is read from results/NAME/*.json.

Disagreement is not error: members that make the same mistake agree.
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

__all__ = ["RULES", "Areas", "Calibration", "SubsetScore", "areas", "calibration", "fusions", "subset_scores"]

RULES = ("staple", "mean", "vote")
_SUBSETS = 24  # random subsets of the members for each ensemble size


def fusions(recording: Recording) -> dict[str, UInt8[ndarray, "h w"]]:
    """Fuse the members by every rule, at display size; for one class, the mean rule averages their probabilities."""
    from medsegdiff.ensemble import fuse

    members, classes = recording.outcome.members, len(recording.facts["labels"])
    votes = np.stack([members == c for c in range(classes + 1)], 1).astype(np.float32)
    fused = {rule: fuse(votes, rule).labels for rule in RULES}
    if classes == 1:
        fused["mean"] = (recording.outcome.probability > 127).astype(np.uint8)
    return fused


@dataclass(frozen=True, slots=True)
class Areas:
    """Foreground share of each member, their mean, and its 95 % bootstrap confidence interval."""

    shares: tuple[float, ...]
    mean: float
    low: float
    high: float


def areas(recording: Recording) -> Areas:
    """Compute the areas at the last step, over all members including those whose masks are not stored."""
    shares = recording.frames[-1].shares
    low, high = bootstrap_interval(shares, seed=0)
    return Areas(shares, math.fsum(shares) / len(shares), low, high)


@dataclass(frozen=True, slots=True)
class SubsetScore:
    """Dice of the vote of random subsets of one size: mean, lowest and highest."""

    members: int
    dice: float
    low: float
    high: float


def subset_scores(recording: Recording) -> tuple[SubsetScore, ...]:
    """Score subsets of the members against the ground truth or, if it is unknown, against the vote of all members."""
    members, classes = recording.outcome.members, len(recording.facts["labels"])
    known = recording.opening.reference
    compared, target = (dice, known[0]) if known else (agreement, _vote(members, classes))
    rng = np.random.default_rng(0)
    rows = []
    for size in range(1, len(members) + 1):
        subsets = {tuple(sorted(rng.permutation(len(members))[:size].tolist())) for _ in range(_SUBSETS)}
        scores = [mean(compared(_vote(members[list(few)], classes), target, classes)) for few in subsets]
        scores = [s for s in scores if not math.isnan(s)] or [math.nan]
        rows.append(SubsetScore(size, math.fsum(scores) / len(scores), min(scores), max(scores)))
    return tuple(rows)


def _vote(members: UInt8[ndarray, "m h w"], classes: int) -> UInt8[ndarray, "h w"]:
    """Fuse label images by majority vote; on a tie the lower label wins."""
    return np.stack([(members == c).sum(0) for c in range(classes + 1)]).argmax(0).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability of the predicted probabilities, over all pixels of the validation images."""

    classes: dict[
        str, tuple[tuple[float, float, int], ...]
    ]  # (predicted probability, observed frequency, pixels) of each bin
    ece: float
    pictures: int
    settings: dict[str, Any]


@cache
def calibration(name: str, folder: Path = catalogue.ROOT / "results") -> Calibration | None:
    """Read the measured calibration of a checkpoint, preferably at the page's default settings; None if not measured."""
    paths = sorted(folder.joinpath(name).glob("[0-9]*x*.json"), key=lambda path: (path.stem != "5x10", path.name))
    for path in paths:
        results = json.loads(path.read_text(encoding="utf-8"))
        if "reliability" in results:
            classes = {
                label: tuple(
                    (confidence, frequency, pixels)
                    for confidence, frequency, pixels in zip(
                        *(bins[k] for k in ("confidence", "frequency", "pixels")), strict=True
                    )
                    if pixels
                )
                for label, bins in results["reliability"].items()
            }
            return Calibration(classes, results["ece"], len(results["cases"]), results["settings"])
    return None
