"""Compare an ensemble with several readers' masks of one image, as two sets of masks.

Members S_1 ... S_m, readers Y_1 ... Y_n, distance d(A, B) = 1 - IoU(A, B). Neither set is ordered, and two empty masks agree
fully: IoU = Dice = 1, d = 0. Means over pairs include a mask with itself (V-statistics), as in the published code.

    diversity        E d(S, S');  reader diversity  E d(Y, Y')
    GED^2            2 E d(S, Y) - E d(S, S') - E d(Y, Y')              generalised energy distance, squared; in [0, 2]
    HM-IoU           max over assignments of the mean of IoU(S, Y)      Hungarian-matched, readers repeated to lcm(m, n)
    best-match Dice  1/n sum_j max_i Dice(S_i, Y_j)                     rises with m: compare at equal m only
    majority Dice    Dice(fused mask, majority of the readers)          nan where the majority is empty

With p_i the members' mean probability of pixel i and q_i the share of readers who marked it, over bins of p:

    ECE              sum_bins n_bin / N |mean p - mean q|               over all pixels, class by class
    Brier            1/N sum_i (p_i - q_i)^2

If the members were drawn from the very distribution the readers come from, with mean distance D between two different readers,
the expected GED^2 would be D (1/m + 1/n), not 0: that is the floor for finite sets.

References:
    GED for segmentation (Kohl et al., 2018, Probabilistic U-Net), https://arxiv.org/abs/1806.05034
    Energy distance (Szekely & Rizzo, 2013), https://doi.org/10.1016/j.jspi.2013.03.018
    Hungarian-matched IoU (Kohl et al., 2019, Hierarchical Probabilistic U-Net), https://arxiv.org/abs/1905.13077
    ECE (Guo et al., 2017), https://arxiv.org/abs/1706.04599; Brier score (Brier, 1950)
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from medsegdiff.metrics import dice

__all__ = ["ReaderScore", "diversity", "energy_distance", "hungarian_iou", "majority", "pairwise_iou", "score_readers"]


@dataclass(frozen=True, slots=True)
class ReaderScore:
    """Scores of one image's members against its readers; nan if a value is not defined."""

    name: str
    members: int
    marked: int  # readers who marked anything
    ged: float  # squared
    hm_iou: float
    dice_majority: float  # mean over the classes that the majority has
    dice_best_match: float
    diversity: float
    reader_diversity: float
    brier: float  # mean over classes


def pairwise_iou(
    one: Integer[np.ndarray, "m h w"], other: Integer[np.ndarray, "n h w"], labels: Integer[np.ndarray, " k"]
) -> Float[np.ndarray, "m n"]:
    """Return the IoU of every pair of label images, the mean over these labels; two masks without a label agree on it."""
    if not len(labels):
        return np.ones((len(one), len(other)))
    return np.mean([_overlap(one == label, other == label)[0] for label in labels], 0)


def _overlap(one: Bool[np.ndarray, "m h w"], other: Bool[np.ndarray, "n h w"]) -> tuple[np.ndarray, np.ndarray]:
    """IoU and Dice of every pair of masks."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (one, other))  # counts below 2^24 are exact
    intersection = (a @ b.T).astype(np.float64)
    total = a.sum(1, dtype=np.float64)[:, None] + b.sum(1, dtype=np.float64)[None]
    union = total - intersection
    iou = np.divide(intersection, union, out=np.ones_like(union), where=union > 0)
    return iou, np.divide(2 * intersection, total, out=np.ones_like(total), where=total > 0)


def _labels(*sets: Integer[np.ndarray, "_ h w"]) -> Integer[np.ndarray, " k"]:
    """List the foreground labels that occur in any of the sets."""
    found = np.unique(np.concatenate([np.unique(masks) for masks in sets]))
    return found[found > 0]


def energy_distance(members: Integer[np.ndarray, "m h w"], readers: Integer[np.ndarray, "n h w"]) -> float:
    """Return the squared generalised energy distance between two sets of label images, in [0, 2].

    0 if both hold the same masks in the same proportions. IoU is the mean over all labels that occur in either set.
    """
    labels = _labels(members, readers)
    cross, own, theirs = (
        1 - pairwise_iou(a, b, labels).mean() for a, b in ((members, readers), (members, members), (readers, readers))
    )
    return float(2 * cross - own - theirs)


def diversity(masks: Integer[np.ndarray, "m h w"]) -> float:
    """Return the mean of 1 - IoU over all pairs of a set, a mask with itself included: (m - 1) / m of that of unlike pairs."""
    return float(1 - pairwise_iou(masks, masks, _labels(masks)).mean())


def hungarian_iou(members: Integer[np.ndarray, "m h w"], readers: Integer[np.ndarray, "n h w"]) -> float:
    """Return the mean IoU of the best one-to-one assignment, both sets repeated to the least common multiple of m and n."""
    from scipy.optimize import linear_sum_assignment  # here: only an evaluation needs it

    iou = pairwise_iou(members, readers, _labels(members, readers))
    size = math.lcm(*iou.shape)
    iou = np.repeat(np.repeat(iou, size // iou.shape[0], 0), size // iou.shape[1], 1)
    return float(iou[linear_sum_assignment(iou, maximize=True)].mean())


def majority(readers: Integer[np.ndarray, "r h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the label that most readers gave each pixel, and the highest one in a tie.

    With one class: pixels marked by at least half of the readers, the 50 % consensus common for LIDC-IDRI.
    """
    best, votes = np.zeros(readers.shape[1:], np.uint8), np.zeros(readers.shape[1:], int)
    for label in range(int(readers.max()) + 1):
        count = (readers == label).sum(0)
        best = np.where(count >= votes, np.uint8(label), best)
        votes = np.maximum(votes, count)
    return best


def score_readers(
    name: str,
    labels: Integer[np.ndarray, "h w"],
    probability: Float[np.ndarray, "_ h w"],
    members: Integer[np.ndarray, "m h w"],
    readers: Integer[np.ndarray, "n h w"],
    majority: Integer[np.ndarray, "h w"],
) -> ReaderScore:
    """Score one image.

    Arguments:
        name: of the image.
        labels: the fused mask, 0 background, 1..K.
        probability: the members' mean, (K + 1, h, w), background first.
        members: their label images.
        readers: their label images.
        majority: the readers' (`majority`).
    """
    classes = range(1, len(probability))
    best = [
        _overlap(members == c, readers == c)[1].max(0) for c in classes if (readers == c).any() or (members == c).any()
    ]
    known = [d for d in dice(labels, majority, len(classes)) if not math.isnan(d)]
    return ReaderScore(
        name=name,
        members=len(members),
        marked=int((readers > 0).any((1, 2)).sum()),
        ged=energy_distance(members, readers),
        hm_iou=hungarian_iou(members, readers),
        dice_majority=float(np.mean(known)) if known else math.nan,
        dice_best_match=float(np.mean(best)) if best else 1.0,
        diversity=diversity(members),
        reader_diversity=diversity(readers),
        brier=float(np.mean([np.square(probability[c] - (readers == c).mean(0)).mean() for c in classes])),
    )
