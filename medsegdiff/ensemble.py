"""Many masks of one image become one mask, with a map of where they differ.

A diffusion segmenter draws a mask from p(mask | image); m draws are m raters. Three rules make them one:

    mean    argmax_c of P_c = 1/m sum_j p_jc                             the members' probabilities speak
    vote    argmax_c of #{j : argmax p_j = c}                            their labels speak, all alike
    staple  argmax_c of p(T = c | all labels, every member's quality)    their labels speak, the reliable louder

STAPLE is the fixed point of an EM iteration: quality weighs the labels, and the weighted labels measure the quality.
For one class the quality is a sensitivity q_j and a specificity r_j, for several a confusion matrix. The prior is the
members' mean share of each class in the whole picture, so members that paint too much raise it. Where a vote or STAPLE
is undecided, the mean decides.

Disagreement is not error: members that share a mistake agree on it, and members may differ where any answer is good.

References:
    STAPLE (Warfield, Zou & Wells, 2004), https://doi.org/10.1109/TMI.2004.828354
    Multi-label STAPLE (Rohlfing, Russakoff & Maurer, 2003), https://doi.org/10.1007/978-3-540-45087-0_18
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

__all__ = ["FUSIONS", "Fusion", "MemberQuality", "argmax_labels", "change", "fuse"]

_ITERATIONS = 1000  # of EM; both filters stop by themselves long before, but promise it nowhere
_UNDECIDED = 255  # no class has this label
_TIE = 1e-6  # the binary filter finds its probability to seven digits


@dataclass(frozen=True, slots=True)
class MemberQuality:
    """How STAPLE judges one member against the mask it found with that member's help, not against a truth."""

    sensitivity: float  # share of the foreground that the member found
    specificity: float  # share of the background that the member left alone


@dataclass(frozen=True, slots=True)
class Fusion:
    """One mask of many.

    `labels` follow the rule and `probability` is the members' mean under every rule, so the two can differ at an edge.
    `disagreement` is sqrt(sum_c Var_j p_jc / 2) over all classes and members: for one class the standard deviation of
    the foreground probability, never above 0.5; for several never above 0.71. It tells where members differ, not where
    they are wrong: disagreement is not error.
    `quality` has one entry per member after binary STAPLE, and none where there was nothing to estimate: another rule,
    several classes, or members that agree in every pixel.
    """

    labels: UInt8[np.ndarray, "h w"]  # 0 background, 1..K
    probability: Float32[np.ndarray, "_ h w"]  # (K + 1, h, w), background first, sums to 1
    disagreement: Float32[np.ndarray, "h w"]  # >= 0; 0 where all members say the same
    quality: tuple[MemberQuality, ...] = ()


_Labels = UInt8[np.ndarray, "h w"]
_Members = UInt8[np.ndarray, "m h w"]
_Mean = Float32[np.ndarray, "_ h w"]


def fuse(probabilities: Float[np.ndarray, "m _ h w"] | Float[Tensor, "m _ h w"], rule: str = "staple") -> Fusion:
    """Fuse the (m, K + 1, h, w) class probabilities of m members, background first; an ensemble of one is its member.

    Arguments:
        probabilities: an array, or a tensor on the CPU; each pixel's classes sum to 1.
        rule: a key of `FUSIONS`.

    Raises:
        ValueError: for an unknown rule, no members, more than 254 classes, or probabilities that are not finite.
    """
    if rule not in FUSIONS:
        raise ValueError(f"fusion rule is {rule!r}; choose {', '.join(FUSIONS)}")
    p = np.asarray(probabilities)
    if len(p) == 0 or not 2 <= p.shape[1] <= _UNDECIDED:
        raise ValueError(
            f"probabilities have shape {p.shape}; give (members, classes + 1, height, width) with 1 to 254 classes"
        )
    # In double precision the mean of identical members is exactly each of them, and their variance exactly 0.
    mean = p.mean(0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise ValueError(
            "probabilities are not finite, so the network broke on this image; try another sampler or precision"
        )
    variance = sum(np.square(member - mean).sum(0) for member in p) / len(p)  # a loop: m copies in double are too many

    probability = mean.astype(np.float32)
    members = argmax_labels(p)
    labels, quality = (members[0], ()) if (members == members[0]).all() else FUSIONS[rule](members, probability)
    return Fusion(labels, probability, np.sqrt(variance / 2).astype(np.float32), quality)


def argmax_labels(p: Float[np.ndarray, "*m k h w"]) -> UInt8[np.ndarray, "*m h w"]:
    """Return the first of the most probable classes at each pixel: an argmax over classes, which numpy does slowly."""
    best, labels = p[..., 0, :, :], np.zeros((*p.shape[:-3], *p.shape[-2:]), np.uint8)
    for c in range(1, p.shape[-3]):
        better = p[..., c, :, :] > best
        labels[better] = c
        if c + 1 < p.shape[-3]:
            best = np.maximum(best, p[..., c, :, :])
    return labels


def change(before: Float[np.ndarray, "m k h w"], after: Float[np.ndarray, "m k h w"]) -> float:
    """Compare the masks that the members' mean makes of two steps: 1 - Dice of the class that changed most."""
    a, b = (argmax_labels(p.mean(0)) for p in (before, after))
    pairs = ((a == c, b == c) for c in range(1, before.shape[1]))
    return max(1 - 2 * float((x & y).sum()) / int(x.sum() + y.sum()) if (x | y).any() else 0.0 for x, y in pairs)


def _mean(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    return argmax_labels(mean), ()


def _vote(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    votes = np.stack([(members == c).sum(0) for c in range(len(mean))])
    winners = votes == votes.max(0)
    return np.where(winners, mean, -1).argmax(0).astype(np.uint8), ()


def _staple(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    images = [sitk.GetImageFromArray(member) for member in members]
    if len(mean) > 2:
        several = sitk.MultiLabelSTAPLEImageFilter()
        several.SetLabelForUndecidedPixels(_UNDECIDED)
        several.SetMaximumNumberOfIterations(_ITERATIONS)
        labels = sitk.GetArrayFromImage(several.Execute(images))
        return np.where(labels == _UNDECIDED, argmax_labels(mean), labels).astype(np.uint8), ()
    binary = sitk.STAPLEImageFilter()
    binary.SetForegroundValue(1)
    binary.SetMaximumIterations(_ITERATIONS)
    foreground = sitk.GetArrayFromImage(binary.Execute(images))
    labels = np.where(np.abs(foreground - 0.5) < _TIE, argmax_labels(mean), foreground > 0.5)
    quality = zip(binary.GetSensitivity(), binary.GetSpecificity(), strict=True)
    return labels.astype(np.uint8), tuple(MemberQuality(q, r) for q, r in quality)


FUSIONS: dict[str, Callable[[_Members, _Mean], tuple[_Labels, tuple[MemberQuality, ...]]]] = {
    "staple": _staple,
    "mean": _mean,
    "vote": _vote,
}
