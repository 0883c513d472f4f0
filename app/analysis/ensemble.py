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
from PIL import Image

from app.analysis.comparisons import agreement
from app.core import catalogue
from app.core.frames import Recording, target, vote
from medsegdiff.metrics import bootstrap_interval, dice, mean
from medsegdiff.multi_reader import energy_distance

__all__ = [
    "RULES",
    "Areas",
    "BesideReaders",
    "Calibration",
    "SubsetScore",
    "areas",
    "beside_readers",
    "calibration",
    "fusions",
    "marked_disagreement",
    "subset_scores",
]

RULES = ("staple", "mean", "vote")
_SUBSETS = 24  # random subsets of the members for each ensemble size


def fusions(recording: Recording) -> dict[str, UInt8[ndarray, "h w"]]:
    """Fuse the members by every rule, at display size; for one class, the mean rule averages their probabilities."""
    from medsegdiff.ensemble import fuse

    members, classes = recording.outcome.members, len(recording.facts["labels"])
    votes = np.stack([members == c for c in range(classes + 1)], 1).astype(np.float32)
    fused = {rule: fuse(votes, rule).labels for rule in RULES}
    if recording.facts["settings"]["fuse"] == "anchored":
        return fused | {"anchored": recording.outcome.labels}
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


def marked_disagreement(recording: Recording) -> float:
    """Average the disagreement over the pixels that at least one member marked, at display size.

    The average over the whole image is near 0 for any small structure, however much the members differ on it. This one does
    not depend on how much background the image has.

    Returns:
        A value in [0, 0.5]: 0 if all members marked the same pixels with certainty; larger values of several classes count as
        0.5. NaN if no member marked anything.
    """
    marked = (recording.outcome.members > 0).any(0)
    return float(recording.outcome.disagreement[marked].mean()) / 510 if marked.any() else math.nan


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
    known = target(recording.opening.reference)
    compared, best = (dice, known[0]) if known else (agreement, vote(members))
    rng = np.random.default_rng(0)
    rows = []
    for size in range(1, len(members) + 1):
        subsets = {tuple(sorted(rng.permutation(len(members))[:size].tolist())) for _ in range(_SUBSETS)}
        scores = [mean(compared(vote(members[list(few)]), best, classes)) for few in subsets]
        scores = [s for s in scores if not math.isnan(s)] or [math.nan]
        rows.append(SubsetScore(size, math.fsum(scores) / len(scores), min(scores), max(scores)))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class BesideReaders:
    """An ensemble beside several readers' masks of the same image."""

    members: tuple[float, ...]  # foreground share of each member's mask
    readers: tuple[float, ...]  # and of each reader's
    anchor: tuple[float, ...]  # and of the anchor's (V2), else empty
    shares: tuple[
        tuple[float, float], ...
    ]  # share of the members that marked a pixel, mean share of the readers over these pixels
    distance: float  # squared generalised energy distance between members and readers
    anchor_distance: tuple[float, ...]  # and between the anchor's single mask and the readers


def beside_readers(recording: Recording) -> BesideReaders | None:
    """Compare the members with the readers; None if the image was not marked by several readers."""
    opening, members = recording.opening, recording.outcome.members
    if not opening.readers:
        return None
    readers = np.stack(opening.readers)
    height, width = readers.shape[1:]
    anchors = [
        (np.asarray(Image.fromarray(a).resize((width, height), Image.Resampling.BILINEAR)) > 127).astype(np.uint8)
        for a in opening.anchor
    ]
    marked, share = (members > 0).sum(0), (readers > 0).mean(0)
    counts = np.unique(marked).tolist()
    return BesideReaders(
        members=recording.frames[-1].shares if recording.frames else tuple((members > 0).mean((1, 2)).tolist()),
        readers=tuple((readers > 0).mean((1, 2)).tolist()),
        anchor=tuple(float((a > 0).mean()) for a in anchors),
        shares=tuple((count / len(members), float(share[marked == count].mean())) for count in counts),
        distance=energy_distance(members, readers),
        anchor_distance=tuple(energy_distance(a[None], readers) for a in anchors),
    )


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
