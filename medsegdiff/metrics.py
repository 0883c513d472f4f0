"""Overlap of a mask with its ground truth, and calibration of probabilities.

For prediction A and ground truth B of one class, in an image or a volume:

    Dice  2 |A & B| / (|A| + |B|)
    IoU   |A & B| / |A | B|
    HD95  max( P95_{a in dA} d(a, dB), P95_{b in dB} d(b, dA) )      dA: pixels of A with a side neighbour outside A

If a class is absent from the ground truth, its three scores are nan, and a prediction that has it counts as a false
positive. If a class is present and the prediction misses it, Dice and IoU are 0 and HD95 is the diagonal of the image, so
that means stay finite.

Lesions are detected one by one: a connected region of the ground truth (neighbours by side or corner) is found if the
prediction has any of its pixels, and a region of the prediction is false if it has none of the ground truth's. This is the
rule of ISLES 2022; it says nothing of the outline, which Dice does.

Calibration compares the predicted probability of a class with its observed frequency. Over bins i of n_i
of the n pixels, with mean probability p_i and observed share f_i,

    ECE    sum_i n_i / n |f_i - p_i|

per class over 1..K, then the mean. All pixels count, so easy background lowers it: compare it between models on the same
images, not between data sets.

For ensembles and several readers see `multi_reader`.

References:
    Distance maps (Maurer et al., 2003), https://doi.org/10.1109/TPAMI.2003.1177156, by SimpleITK
    ECE (Guo et al., 2017), https://arxiv.org/abs/1706.04599; by class (Nixon et al., 2019), https://arxiv.org/abs/1904.01685
    Bootstrap (Efron, 1979), https://doi.org/10.1214/aos/1176344552
    Detection of lesions (Hernandez Petzsche et al., 2022), https://doi.org/10.1038/s41597-022-01875-5
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

__all__ = [
    "CaseScore",
    "Reliability",
    "binary_dice",
    "bootstrap_interval",
    "detection",
    "dice",
    "expected_calibration_error",
    "hd95",
    "mean",
    "reliability",
    "score",
]


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not nan; nan if there are none."""
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan


@dataclass(frozen=True, slots=True)
class CaseScore:
    """Scores of one case; every tuple has one entry per class 1..K."""

    name: str
    dice: tuple[float, ...]  # in [0, 1]; nan if the ground truth is empty, as in the next two
    iou: tuple[float, ...]  # in [0, 1]
    hd95: tuple[float, ...]  # in mm, or pixels without a spacing; the diagonal if the prediction is empty
    empty_truth: tuple[bool, ...]  # the ground truth has no pixel of this class
    false_positive: tuple[bool, ...]  # ... and the prediction has one
    regions: tuple[int, ...]  # connected regions of the ground truth
    regions_found: tuple[int, ...]  # of those, with a predicted pixel
    false_regions: tuple[int, ...]  # connected regions of the prediction without a pixel of the ground truth
    # Mean HD95 over the slices that have the class, of a stack whose slices are missing or a distance unknown: hd95 is then nan.
    slice_hd95: tuple[float, ...] = ()


def dice(prediction: Integer[np.ndarray, "..."], truth: Integer[np.ndarray, "..."], classes: int) -> tuple[float, ...]:
    """Compute the Dice of each class 1..K; nan if the ground truth has no pixel of the class, as in `score`."""
    pairs = ((prediction == label, truth == label) for label in range(1, classes + 1))
    return tuple(binary_dice(a, b) if b.any() else math.nan for a, b in pairs)


def binary_dice(a: Bool[np.ndarray, "*size"], b: Bool[np.ndarray, "*size"], empty: float = math.nan) -> float:
    """Compute 2 |A and B| / (|A| + |B|) of two masks, in [0, 1]; `empty` if neither has a pixel."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else empty


def hd95(a: Bool[np.ndarray, "*size"], b: Bool[np.ndarray, "*size"], spacing: Sequence[float]) -> float:
    """Compute the 95th percentile Hausdorff distance between two masks in 2D or 3D, neither of them empty.

    Arguments:
        a: a mask.
        b: a mask of the same shape.
        spacing: distance between neighbours along each axis; the result has its unit.
    """
    occupied = np.argwhere(a | b)
    box = tuple(slice(low, high + 1) for low, high in zip(occupied.min(0), occupied.max(0), strict=True))
    one, other = (_edge(np.pad(mask[box], 1)) for mask in (a, b))
    there, back = _distance_to(other, spacing)[one], _distance_to(one, spacing)[other]
    return max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))


def detection(prediction: Bool[np.ndarray, "*size"], truth: Bool[np.ndarray, "*size"]) -> tuple[int, int, int]:
    """Count the connected regions of a mask in 2D or 3D, those found, and the false ones of the prediction."""
    (true, met), (predicted, right) = _regions(truth, prediction), _regions(prediction, truth)
    return true, met, predicted - right


def _regions(mask: Bool[np.ndarray, "*size"], other: Bool[np.ndarray, "*size"]) -> tuple[int, int]:
    """Count the connected regions of a mask, and those that another mask meets."""
    import SimpleITK as sitk  # as in `_distance_to`

    if not mask.any():
        return 0, 0
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    regions = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    return int(regions.max()), np.unique(regions[mask & other]).size


def _edge(mask: Bool[np.ndarray, "*size"]) -> Bool[np.ndarray, "*size"]:
    """Return the boundary pixels of a mask (6- or 4-neighbourhood); the mask must not touch the border of the array."""
    sides = [np.roll(mask, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
    return mask & ~np.logical_and.reduce(sides)


def _distance_to(edge: Bool[np.ndarray, "*size"], spacing: Sequence[float]) -> Float[np.ndarray, "*size"]:
    """Return the distance of each pixel to the nearest boundary pixel."""
    import SimpleITK as sitk  # 90 MB, which a page of recordings can do without

    image = sitk.GetImageFromArray(edge.astype(np.uint8))
    image.SetSpacing(tuple(reversed(spacing)))
    return np.abs(
        sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))
    )


def score(
    name: str,
    prediction: Integer[np.ndarray, "..."],
    truth: Integer[np.ndarray, "..."],
    classes: int,
    spacing: Sequence[float] | None = None,
    *,
    distances: bool = True,
) -> CaseScore:
    """Score a label image (h, w) or volume (slices, h, w) against the ground truth.

    Arguments:
        name: of the case.
        prediction: labels 0 background, 1..K.
        truth: labels of the same shape.
        classes: K.
        spacing: distance between neighbours along each axis, in mm; None counts in pixels.
        distances: compute HD95; it is nan otherwise.

    Raises:
        ValueError: if the shapes differ, or the spacing has not one number per axis.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"{name} has a mask of {prediction.shape} and a truth of {truth.shape} pixels; give both one size"
        )
    spacing = (1.0,) * truth.ndim if spacing is None else tuple(spacing)
    if len(spacing) != truth.ndim:
        raise ValueError(f"{name} has {truth.ndim} axes but {len(spacing)} spacings; give one per axis")
    rows = []
    for label in range(1, classes + 1):
        a, b = prediction == label, truth == label
        empty = not b.any()
        dice, iou = _overlap(a, b)
        distance = _distance(a, b, spacing) if distances else math.nan
        rows.append((dice, iou, distance, empty, empty and bool(a.any()), *detection(a, b)))
    return CaseScore(name, *zip(*rows, strict=True))


def _overlap(a: Bool[np.ndarray, "*size"], b: Bool[np.ndarray, "*size"]) -> tuple[float, float]:
    if not b.any():
        return math.nan, math.nan
    if not a.any():
        return 0.0, 0.0
    return binary_dice(a, b), np.count_nonzero(a & b) / np.count_nonzero(a | b)


def _distance(a: Bool[np.ndarray, "*size"], b: Bool[np.ndarray, "*size"], spacing: tuple[float, ...]) -> float:
    if not b.any():
        return math.nan
    if not a.any():
        return math.hypot(*((n - 1) * step for n, step in zip(b.shape, spacing, strict=True)))
    return hd95(a, b, spacing)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Histograms of predicted probability and observed frequency per class; results of several images can be added.

    Bin i of n holds the probabilities in [i / n, (i + 1) / n), the last one also 1.
    """

    count: Int64[np.ndarray, "classes bins"]  # pixels
    probability: Float[np.ndarray, "classes bins"]  # sum of the predicted probabilities
    positive: Float[np.ndarray, "classes bins"]  # number of pixels of the class, or sum of the readers' shares

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.count + other.count, self.probability + other.probability, self.positive + other.positive
        )

    @property
    def confidence(self) -> Float[np.ndarray, "classes bins"]:
        """Mean probability in each bin; nan for empty bins."""
        return self._per_pixel(self.probability)

    @property
    def frequency(self) -> Float[np.ndarray, "classes bins"]:
        """Observed frequency in each bin; nan for empty bins."""
        return self._per_pixel(self.positive)

    @property
    def ece(self) -> tuple[float, ...]:
        """Expected calibration error of each class, in [0, 1]; nan without pixels."""
        gap = np.abs(self.positive - self.probability).sum(1)
        pixels = self.count.sum(1)
        return tuple(float(g / n) if n else math.nan for g, n in zip(gap, pixels, strict=True))

    def _per_pixel(self, total: np.ndarray) -> np.ndarray:
        return np.divide(total, self.count, out=np.full(total.shape, math.nan), where=self.count > 0)


def reliability(
    probability: Float[np.ndarray, "_ *size"],
    truth: Integer[np.ndarray, "*size"] | Integer[np.ndarray, "r *size"],
    bins: int = 15,
) -> Reliability:
    """Return the reliability of the probabilities (K + 1, ...) of one image.

    With several readers (a ground truth with one more axis) the share of readers counts.
    """
    shape = len(probability) - 1, bins
    readers = truth[None] if truth.ndim == probability.ndim - 1 else truth
    count, said, positive = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for c, p in enumerate(probability[1:].astype(np.float64)):
        index = np.minimum((p.ravel() * bins).astype(np.int64), bins - 1)
        count[c] = np.bincount(index, minlength=bins)
        said[c] = np.bincount(index, p.ravel(), bins)
        positive[c] = np.bincount(index, (readers == c + 1).mean(0).ravel(), bins)
    return Reliability(count, said, positive)


def expected_calibration_error(
    probability: Float[np.ndarray, "_ *size"], truth: Integer[np.ndarray, "*size"], bins: int = 15
) -> float:
    """Return the ECE of the probabilities (K + 1, ...) of one image, averaged over the classes 1..K."""
    return mean(reliability(probability, truth, bins).ece)


def _grouped_interval(
    table: Float[np.ndarray, "n k"], groups: Sequence[str], seed: int, level: float, resamples: int
) -> tuple[float, float]:
    table, known = np.nan_to_num(table), ~np.isnan(table)
    some = known.any(1)
    _, index = np.unique(np.array(groups)[some], return_inverse=True)
    total, count = (np.zeros((index.max(initial=-1) + 1, table.shape[1])) for _ in range(2))
    np.add.at(total, index, table[some])
    np.add.at(count, index, known[some])
    if len(count) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(count), (resamples, len(count)))
    with np.errstate(invalid="ignore"):  # a class may be absent from a resample
        means = np.nanmean(total[drawn].sum(1) / count[drawn].sum(1), 1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: Sequence[float] | Sequence[Sequence[float]],
    seed: int,
    level: float = 0.95,
    resamples: int = 1000,
    groups: Sequence[str] = (),
) -> tuple[float, float]:
    """Return the percentile bootstrap interval, over cases, of the mean without nan; (nan, nan) below two cases.

    A case may be one value or one per class; with several, the mean is taken over cases first, then over classes. With
    `groups`, one name per case, whole groups are resampled (cluster bootstrap), because images of one patient are not
    independent.
    """
    table = np.array(values, float).reshape(max(len(values), 1), -1)
    if groups:
        return _grouped_interval(table, groups, seed, level, resamples)
    known = table[~np.isnan(table).all(1)]
    if len(known) < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a class may be absent from a resample
        means = [
            np.nanmean(np.nanmean(known[generator.integers(0, len(known), len(known))], 0)) for _ in range(resamples)
        ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
