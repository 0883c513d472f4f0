"""Evaluate a stream of segmentations against their ground truth.

The caller yields `Scored` samples one by one; they are not kept. A case is one sample or, with a pattern for its name,
all slices of one volume, scored in 3-D: the Dice of the stack, not the mean of the slices' Dice.

Means are over the cases whose ground truth has the class, then over classes with equal weight.

HD95 of a volume is a distance in 3-D, which needs all slices and their distance. Where slices are missing or a spacing is unknown
it is left out, and if that is so for every volume, HD95 is computed in 2-D on each slice that has the class and averaged.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, pairwise, zip_longest
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from medsegdiff.metrics import CaseScore, Reliability, bootstrap_interval, mean, reliability, score
from medsegdiff.multi_reader import ReaderScore, score_readers

__all__ = ["FEW", "ClassScore", "Evaluation", "Scored", "case_of", "evaluate", "joined", "plain", "table"]

FEW = 5  # a bootstrap over fewer cases or patients than this is not worth printing


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One segmented image or slice, with its ground truth."""

    name: str  # of the file
    labels: Integer[np.ndarray, "h w"]  # predicted mask, 0 background, 1..K
    probability: Float[np.ndarray, "_ h w"]  # (K + 1, h, w), background first
    truth: Integer[np.ndarray, "_ _"]
    seconds: float  # time from input to mask
    spacing_mm: tuple[float, float] | None = None  # row, column
    distance_mm: float | None = None  # to the next slice of the volume; None: the argument of `evaluate`
    members: Integer[np.ndarray, "_ h w"] | None = None  # masks of the members, to compare with the readers'
    readers: Integer[np.ndarray, "_ h w"] | None = None  # masks of several readers


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """Scores of one class over all cases whose ground truth has it; nan if there is none."""

    name: str
    dice: float
    interval: tuple[float, float]  # 95 % bootstrap interval of the mean Dice, over cases
    iou: float
    hd95: float
    ece: float  # over all pixels of all cases
    n: int  # cases whose ground truth has the class
    empty: int  # cases whose ground truth does not
    false_positives: int  # of those, the cases where it was predicted
    regions: int  # connected regions of the ground truth, over all cases
    regions_found: int  # of those, with a predicted pixel
    false_regions: int  # connected regions of the prediction without a pixel of the ground truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All scores of one run; evaluations of disjoint data can be joined."""

    class_names: tuple[str, ...]
    scores: tuple[CaseScore, ...]  # one per case
    reliability: Reliability  # of all pixels
    seconds: tuple[float, ...]  # one per image or slice
    unit: str  # of HD95: "mm" or "pixels"; see also `per_slice`
    against: tuple[ReaderScore, ...] = ()  # members against readers, one per image with members
    shares: Reliability | None = None  # of images with several readers, against their share
    several: bool = False  # whether there are several readers instead of one reference mask
    group: re.Pattern[str] | None = None  # pattern of the case in image names
    patient: str = ""  # pattern of the patient in image names; intervals are then over patients
    settings: Mapping[str, object] = field(default_factory=dict)  # settings of the run, stored with the results
    seed: int = 0  # of the bootstrap

    def __add__(self, other: "Evaluation") -> "Evaluation":
        if (self.class_names, self.unit) != (other.class_names, other.unit):
            one, two = (f"{', '.join(e.class_names)} in {e.unit}" for e in (self, other))
            raise ValueError(f"one evaluation is of {one}, the other of {two}; add only shares of one run")
        return Evaluation(
            class_names=self.class_names,
            scores=self.scores + other.scores,
            reliability=self.reliability + other.reliability,
            seconds=self.seconds + other.seconds,
            unit=self.unit,
            against=self.against + other.against,
            shares=None if self.shares is None or other.shares is None else self.shares + other.shares,
            several=self.several,
            group=self.group,
            patient=self.patient,
            settings=self.settings,
            seed=self.seed,
        )

    @property
    def per_class(self) -> tuple[ClassScore, ...]:
        """Means over cases, per class."""
        return tuple(
            ClassScore(
                name=name,
                dice=mean(dice := [s.dice[c] for s in self.scores]),
                interval=bootstrap_interval(dice, self.seed, groups=self._patients([s.name for s in self.scores])),
                iou=mean([s.iou[c] for s in self.scores]),
                hd95=mean([(s.slice_hd95 if self.per_slice else s.hd95)[c] for s in self.scores]),
                ece=self.reliability.ece[c],
                n=sum(not s.empty_truth[c] for s in self.scores),
                empty=sum(s.empty_truth[c] for s in self.scores),
                false_positives=sum(s.false_positive[c] for s in self.scores),
                regions=sum(s.regions[c] for s in self.scores),
                regions_found=sum(s.regions_found[c] for s in self.scores),
                false_regions=sum(s.false_regions[c] for s in self.scores),
            )
            for c, name in enumerate(self.class_names)
        )

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean Dice over cases and then classes."""
        groups = self._patients([s.name for s in self.scores])
        return bootstrap_interval([s.dice for s in self.scores], self.seed, groups=groups)

    @property
    def resampled(self) -> tuple[str, int]:
        """What the intervals are bootstrapped over, "patients" or "cases", and how many there are."""
        names = [s.name for s in self.scores]
        known = bool(self.patient) and all(re.search(self.patient, name) for name in names)
        return "patients" if known else "cases", len(set(self._patients(names) or names))

    @property
    def per_slice(self) -> bool:
        """Whether HD95 is computed in 2-D on each slice, because no volume has all its slices at a known distance."""
        return all(s.slice_hd95 for s in self.scores)

    @property
    def hd95_unit(self) -> str:
        """The unit of HD95, and whether it is computed slice by slice."""
        return f"{self.unit}, 2-D per slice" if self.per_slice else self.unit

    def _patients(self, names: Sequence[str]) -> list[str]:
        if not self.patient:
            return []
        return [found[1] if (found := re.search(self.patient, name)) else name for name in names]

    def reader_scores(self) -> dict[str, object]:
        """Members against readers: means over images with intervals, and by the number of readers who marked anything."""
        if not self.against:
            return {}
        names = ("ged", "hm_iou", "dice_majority", "dice_best_match", "diversity", "reader_diversity", "brier")
        names = names if self.several else ("dice_best_match", "diversity")
        cases = [case_of(s.name, self.group) for s in self.against]
        groups = self._patients(cases) or cases  # slices of one volume are not independent

        def means(scores: Sequence[ReaderScore]) -> dict[str, float]:
            return {name: mean([getattr(s, name) for s in scores]) for name in names}

        found: dict[str, object] = {**means(self.against), "members": max(s.members for s in self.against)}
        found["reader_intervals"] = {
            name: bootstrap_interval([getattr(s, name) for s in self.against], self.seed, groups=groups)
            for name in names
        }
        if self.several and self.shares is not None:
            found["ece_share"] = mean(self.shares.ece)
            found["by_readers_who_marked"] = {
                str(count): {**means(some), "n": len(some)}
                for count in sorted({s.marked for s in self.against})
                for some in [[s for s in self.against if s.marked == count]]
            }
            found["pictures"] = [asdict(s) for s in self.against]
        return found

    @property
    def empty_truth(self) -> float:
        """Share of false positives among all (case, class) with an empty ground truth; nan if there are none."""
        return mean([float(f) for s in self.scores for f, e in zip(s.false_positive, s.empty_truth, strict=True) if e])

    @property
    def worst(self) -> tuple[str, ...]:
        """Names of the tenth of the cases with the lowest Dice (mean over classes), at least one, lowest first."""
        ranked = sorted((m, s.name) for s in self.scores if not math.isnan(m := mean(s.dice)))
        return tuple(name for _, name in ranked[: math.ceil(len(ranked) / 10)])

    def to_json(self) -> dict[str, object]:
        """Return plain JSON types for `json.dump`; nan becomes None."""
        classes = self.per_class
        pixels = self.reliability
        bins = zip(self.class_names, pixels.confidence, pixels.frequency, pixels.count, strict=True)
        return {
            "mean_dice": plain(mean([c.dice for c in classes])),
            "interval": plain(self.interval),
            "mean_iou": plain(mean([c.iou for c in classes])),
            "mean_hd95": plain(mean([c.hd95 for c in classes])),
            "hd95_unit": self.hd95_unit,
            "intervals_over": dict(zip(("what", "n"), self.resampled, strict=True)),
            "ece": plain(mean([c.ece for c in classes])),
            "seconds_per_image": plain(mean(self.seconds)),
            "empty_truth": plain(self.empty_truth),
            "per_class": {c.name: plain(asdict(c)) for c in classes},
            "worst": list(self.worst),
            "settings": plain(self.settings),
            "reliability": {
                name: plain({"confidence": p.tolist(), "frequency": f.tolist(), "pixels": n.tolist()})
                for name, p, f, n in bins
            },
            "cases": [plain(asdict(s)) for s in self.scores],
        } | {key: plain(value) for key, value in self.reader_scores().items()}


def plain(value: object) -> object:
    """Convert nested mappings, lists and tuples to JSON types; nan and infinity become None."""
    match value:
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


@dataclass(frozen=True, slots=True)
class _Slice:
    """The part of a sample that scoring a case needs: labels, without probabilities."""

    name: str
    labels: UInt8[np.ndarray, "h w"]
    truth: UInt8[np.ndarray, "h w"]
    spacing_mm: tuple[float, float] | None
    distance_mm: float | None


def case_of(name: str, group: re.Pattern[str] | None) -> str:
    """Return the case of a file name: the pattern's first group, or the name itself without a pattern.

    A pattern without a group matches as a whole.

    Raises:
        ValueError: if the pattern does not occur in the name.
    """
    if group is None:
        return name
    match = group.search(name)
    if match is None:
        raise ValueError(
            f"{name} does not match the case pattern {group.pattern!r}; give one that every file name matches"
        )
    return match[1 if group.groups else 0]


def evaluate(
    samples: Iterable[Scored],
    class_names: Sequence[str],
    *,
    group: re.Pattern[str] | None = None,
    slice_distance: float | None = None,
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
    patient: str = "",
) -> Evaluation:
    """Score samples one by one, keeping only the label maps of one case in memory.

    Arguments:
        samples: any iterable; the slices of a case must be consecutive.
        class_names: of 1..K.
        group: pattern that joins the slices of a case to a volume, in natural order of their names (slice2 before slice10).
        slice_distance: between consecutive slices in mm, for samples without their own; None is unknown.
        seed: of the bootstrap.
        settings: plain values, stored with the results.
        patient: pattern of the patient in the names; intervals are then over patients, not pictures.

    Raises:
        ValueError: no samples, a case that is not consecutive, slices of different sizes, a spacing for some samples only, or a
            ground truth with other labels or another size than the mask.
    """
    classes = len(class_names)
    total = reliability(np.zeros((classes + 1, 0)), np.zeros(0, np.uint8))
    seconds: list[float] = []
    against: list[ReaderScore] = []
    shares: Reliability | None = None
    several = False

    def slices() -> Iterator[_Slice]:
        nonlocal total, shares, several
        for sample in samples:
            _check(sample, classes)
            total += reliability(sample.probability, sample.truth)
            seconds.append(sample.seconds)
            if sample.members is not None and (sample.readers is not None or group is None):
                readers = sample.truth[None] if sample.readers is None else sample.readers
                against.append(
                    score_readers(
                        sample.name, sample.labels, sample.probability, sample.members, readers, majority=sample.truth
                    )
                )
            if sample.readers is not None:
                several, found = True, reliability(sample.probability, sample.readers)
                shares = found if shares is None else shares + found
            labels, truth = sample.labels.astype(np.uint8), sample.truth.astype(np.uint8)
            yield _Slice(sample.name, labels, truth, sample.spacing_mm, sample.distance_mm)

    scores: dict[str, CaseScore] = {}
    units: set[str] = set()
    for name, members in groupby(slices(), lambda one: case_of(one.name, group)):
        stack = sorted(members, key=lambda one: _natural(one.name))
        if name in scores or (group is None and len(stack) > 1):
            raise ValueError(f"case {name} comes twice; sort the slices by case, or give every picture its own name")
        units.add("mm" if stack[0].spacing_mm else "pixels")
        if len(units) > 1:
            raise ValueError(f"{name} and those before it mix pixel spacings known and unknown; evaluate the two apart")
        scores[name] = (
            _score_volume(name, stack, classes, stack[0].distance_mm or slice_distance)
            if group
            else score(name, stack[0].labels, stack[0].truth, classes, stack[0].spacing_mm or (1.0, 1.0))
        )
    if not scores:
        raise ValueError("there is nothing to evaluate; give at least one image with its ground truth")
    return Evaluation(
        class_names=tuple(class_names),
        scores=tuple(scores.values()),
        reliability=total,
        seconds=tuple(seconds),
        unit=units.pop(),
        against=tuple(against),
        shares=shares,
        several=several,
        group=group,
        patient=patient,
        settings=settings or {},
        seed=seed,
    )


def _check(sample: Scored, classes: int) -> None:
    if len(sample.probability) != classes + 1:
        raise ValueError(
            f"{sample.name} has {len(sample.probability)} probabilities for {classes} classes and background"
        )
    if sample.labels.shape != sample.truth.shape:
        sizes = f"a mask of {sample.labels.shape} and a ground truth of {sample.truth.shape} pixels"
        raise ValueError(f"{sample.name} has {sizes}; give the ground truth at the size of its image")
    if sample.truth.max() > classes:
        raise ValueError(
            f"the truth of {sample.name} has label {sample.truth.max()}; use 0 for background and 1 to {classes}"
        )


def _natural(name: str) -> list[tuple[str, int]]:
    return [(letters, int(digits or 0)) for letters, digits in re.findall(r"(\D*)(\d*)", name)]


def _score_volume(name: str, stack: list[_Slice], classes: int, distance: float | None) -> CaseScore:
    first = stack[0]
    if any((one.truth.shape, one.spacing_mm) != (first.truth.shape, first.spacing_mm) for one in stack):
        raise ValueError(f"the slices of case {name} differ in size or spacing; a volume needs one of each")
    volume, truth = np.stack([one.labels for one in stack]), np.stack([one.truth for one in stack])
    plane = first.spacing_mm or (1.0, 1.0)
    complete = first.spacing_mm is not None and distance is not None and _consecutive([one.name for one in stack])
    if complete:
        return score(name, volume, truth, classes, (distance or 1.0, *plane))
    slices = [score(one.name, one.labels, one.truth, classes, plane) for one in stack if one.truth.any()]
    return replace(
        score(name, volume, truth, classes, None, distances=False),
        slice_hd95=tuple(mean([one.hd95[c] for one in slices]) for c in range(classes)),
    )


def _consecutive(names: Sequence[str]) -> bool:
    """Whether the last numbers in the names of slices follow one another without a gap."""
    numbers = [re.findall(r"\d+", name)[-1:] for name in names]
    return all(numbers) and all(int(b) - int(a) == 1 for [a], [b] in pairwise(numbers))


def joined(shares: Sequence[Evaluation]) -> Evaluation:
    """Join the evaluations of several processes, each of every n-th case, in the order of a single process."""
    total = shares[0]
    for share in shares[1:]:
        total = total + share
    rounds = zip_longest(*(share.scores for share in shares))
    return replace(total, scores=tuple(score for scores in rounds for score in scores if score is not None))


def table(evaluation: Evaluation) -> str:
    """Return an evaluation as a markdown table, one row per class and one for their mean, with a line of notes."""
    classes, (what, count) = evaluation.per_class, evaluation.resampled
    few = count < FEW

    def shown(interval: tuple[float, float], digits: int) -> str:
        low, high = interval
        return "" if few or math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"

    rows = [
        f"| class | Dice | 95 % interval | IoU | HD95 ({evaluation.hd95_unit}) | ECE | cases |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rare = False
    for i, c in enumerate(classes):
        having = replace(evaluation, scores=tuple(s for s in evaluation.scores if not s.empty_truth[i]))
        scarce = having.resampled[1] < FEW
        rare |= scarce
        interval = "" if scarce else shown(c.interval, 3)
        rows.append(f"| {c.name} | {c.dice:.3f} | {interval} | {c.iou:.3f} | {c.hd95:.1f} | {c.ece:.3f} | {c.n} |")
    if len(classes) > 1:
        dice, iou, hd95, ece = (mean([getattr(c, key) for c in classes]) for key in ("dice", "iou", "hd95", "ece"))
        interval = shown(evaluation.interval, 3)
        rows.append(
            f"| mean | {dice:.3f} | {interval} | {iou:.3f} | {hd95:.1f} | {ece:.3f} | {len(evaluation.scores)} |"
        )
    found, empty = sum(c.false_positives for c in classes), sum(c.empty for c in classes)
    regions, met, false = (
        sum(getattr(c, key) for c in classes) for key in ("regions", "regions_found", "false_regions")
    )
    notes = [
        f"{mean(evaluation.seconds):.2f} s per image; false positives where the ground truth is empty: {found} of {empty}. "
        f"Connected regions found: {met} of {regions}; predicted where the ground truth has none: {false}.",
        f"No intervals for fewer than {FEW} {what}."
        if few
        else f"Intervals are bootstrapped over {count} {what}{f', none for a class in fewer than {FEW}' if rare else ''}.",
    ]
    if evaluation.per_slice:
        notes.append("HD95 is a mean over slices, in 2-D: slices are missing, or their spacing or distance is unknown.")
    elif without := sum(bool(s.slice_hd95) for s in evaluation.scores):
        notes.append(f"HD95 leaves out {without} volumes whose slices are missing or whose spacing is unknown.")
    rows += ["", " ".join(notes)]
    if evaluation.several and evaluation.against:
        found = evaluation.reader_scores()
        rows += [
            "",
            f"| {found['members']} members beside the readers | mean | 95 % interval |",
            "|---|---:|---:|",
        ]
        words = {
            "ged": "generalised energy distance, squared",
            "hm_iou": "Hungarian-matched IoU",
            "dice_majority": "Dice to the readers' majority",
            "dice_best_match": "best-match Dice",
            "diversity": "diversity of the members",
            "reader_diversity": "diversity of the readers",
            "brier": "Brier score",
        }
        intervals: Any = found["reader_intervals"]
        rows += [f"| {word} | {found[name]:.4f} | {shown(intervals[name], 4)} |" for name, word in words.items()]
        rows.append(f"| calibration error against the readers' share | {found['ece_share']:.4f} | |")
    return "\n".join(rows)
