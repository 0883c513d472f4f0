"""Fuse the members of an ensemble into one mask and measure their disagreement.

A diffusion model samples masks from p(mask | image). Four rules fuse m samples (members) into one mask:

    mean      argmax_c of P_c = 1/m sum_j p_jc                             average of the probabilities
    vote      argmax_c of #{j : argmax p_j = c}                            majority of the labels
    staple    argmax_c of p(T = c | all labels, every member's quality)    labels weighted by estimated quality
    anchored  argmax_c of (P_c + a_c) / 2                                  average with the anchor's probabilities a_c (V2, F41)

STAPLE is an expectation-maximisation algorithm that alternates between estimating the mask and each member's quality. For one
class the quality is a sensitivity q_j and a specificity r_j, for several a confusion matrix. The prior is the members' mean share
of each class over the whole image. Ties of vote and STAPLE are resolved by the mean.

Disagreement is not error: members that share a mistake agree on it.

References:
    STAPLE (Warfield, Zou & Wells, 2004), https://doi.org/10.1109/TMI.2004.828354
    Multi-label STAPLE (Rohlfing, Russakoff & Maurer, 2003), https://doi.org/10.1007/978-3-540-45087-0_18
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from medsegdiff.errors import InputError
from medsegdiff.resize import Geometry, ResizedMaps, in_bands, to_original

__all__ = [
    "FUSIONS",
    "RULES",
    "Fusion",
    "MemberQuality",
    "argmax_labels",
    "change",
    "fuse",
    "fuse_resized",
    "labels_in_bands",
]

_ITERATIONS = 1000  # upper bound on EM iterations; both filters converge long before
_AT_ONCE = 192 * 2**20  # bytes
_UNDECIDED = 255  # no class has this label
_TIE = 1e-6  # the binary filter finds its probability to seven digits


@dataclass(frozen=True, slots=True)
class MemberQuality:
    """STAPLE's estimate of one member's quality, relative to the fused mask and not to a ground truth."""

    sensitivity: float  # share of the foreground that the member found
    specificity: float  # share of the background that the member labelled as background


@dataclass(frozen=True, slots=True)
class Fusion:
    """A fused mask.

    `labels` follow the fusion rule; `probability` is the members' mean, or under the rule "anchored" the mean of that and the
    anchor's. With STAPLE and vote the two can differ at edges.
    `disagreement` is sqrt(sum_c Var_j p_jc / 2) over classes and members: for one class the standard deviation of the
    foreground probability, at most 0.5; for several at most 0.71.
    `quality` has one entry per member after binary STAPLE, and is empty otherwise: for other rules, several classes, or members
    that agree in every pixel.
    """

    labels: UInt8[np.ndarray, "h w"]  # 0 background, 1..K
    probability: Float32[np.ndarray, "_ h w"] | ResizedMaps  # (K + 1, h, w), background first, sums to 1
    disagreement: Float32[np.ndarray, "h w"]  # >= 0; 0 where all members agree
    quality: tuple[MemberQuality, ...] = ()


_Labels = UInt8[np.ndarray, "h w"]
_Members = UInt8[np.ndarray, "m h w"]
_Mean = Float32[np.ndarray, "_ h w"]


def fuse(
    probabilities: Float[np.ndarray, "m _ h w"] | Float[Tensor, "m _ h w"],
    rule: str = "staple",
    anchor: Float[np.ndarray, "_ h w"] | None = None,
) -> Fusion:
    """Fuse the (m, K + 1, h, w) class probabilities of m members, background first; an ensemble of one is its member.

    Arguments:
        probabilities: an array, or a tensor on the CPU; each pixel's classes sum to 1.
        rule: one of `RULES`.
        anchor: class probabilities of the anchor, for the rule "anchored".

    Raises:
        ValueError: for an unknown rule, no members, more than 254 classes, probabilities that are not finite, or the rule
            "anchored" without an anchor.
    """
    if rule not in RULES:
        raise ValueError(f"fusion rule is {rule!r}; choose {', '.join(RULES)}")
    if rule == "anchored" and anchor is None:
        raise ValueError("the rule 'anchored' averages with an anchor, and there is none; choose another rule")
    p = np.asarray(probabilities)
    if len(p) == 0 or not 2 <= p.shape[1] <= _UNDECIDED:
        raise ValueError(
            f"probabilities have shape {p.shape}; give (members, classes + 1, height, width) with 1 to 254 classes"
        )
    # In double precision the mean of identical members is exactly each of them, and their variance exactly 0.
    mean = p.mean(0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise InputError(
            "run.not_finite",
            "the network's probabilities are not finite on this image; try another sampler or precision",
        )
    variance = sum(np.square(member - mean).sum(0) for member in p) / len(p)  # a loop needs less memory

    probability = mean.astype(np.float32)
    members = argmax_labels(p)
    if rule == "anchored":
        probability = ((mean + anchor) / 2).astype(np.float32)
        labels = argmax_labels(probability)
        return Fusion(labels, probability, np.sqrt(variance / 2).astype(np.float32))
    labels, quality = (members[0], ()) if (members == members[0]).all() else FUSIONS[rule](members, probability)
    return Fusion(labels, probability, np.sqrt(variance / 2).astype(np.float32), quality)


def fuse_resized(
    maps: Float[Tensor, "m k s s"],
    geometry: Geometry,
    rule: str = "staple",
    *,
    anchor: Float[Tensor, "1 k s s"] | None = None,
    most: int = _AT_ONCE,
) -> tuple[Fusion, UInt8[np.ndarray, "m h w"]]:
    """Fuse class probabilities of the network's size at the picture's size; also return every member's labels there.

    Where members x classes x pixels would take more than `most` bytes, rows are resized and fused band by band, which
    gives the same but for rounding and for STAPLE: its qualities are then estimated at the network's size, and every
    pixel's class follows from them.

    Arguments:
        maps: on the CPU; each pixel's classes sum to 1.
        geometry: of the picture.
        rule: one of `RULES`.
        anchor: class probabilities of the anchor, on the CPU, for the rule "anchored".
        most: bytes of all members' maps at the picture's size.

    Raises:
        ValueError: as `fuse`.
    """
    if 4 * maps.shape[0] * maps.shape[1] * geometry.height * geometry.width <= most:
        whole = to_original(maps, geometry).numpy()
        with_anchor = None if anchor is None else to_original(anchor, geometry)[0].numpy()
        return fuse(whole, rule, with_anchor), argmax_labels(whole)
    # STAPLE's qualities hold for the large picture too.
    small = fuse(maps, rule, None if anchor is None else anchor[0].numpy())
    shape, count = (geometry.height, geometry.width), len(maps)
    labels, disagreement = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    members = np.zeros((count, *shape), np.uint8)
    decide = FUSIONS["mean" if rule == "anchored" else rule]
    if rule == "staple":
        decide = _staple_in_bands(argmax_labels(maps.numpy()), maps.shape[1])
    binary = maps.shape[1] == 2  # the background is what remains, so half of the work suffices
    mixed = maps if rule != "anchored" or anchor is None else torch.cat([maps, anchor])
    for rows, all_maps in in_bands(mixed[:, 1:] if binary else mixed, geometry):
        block = all_maps[:count]
        apart = block - block[0]  # so that identical members differ by exactly 0
        offset = apart.sum(0) / count
        variance = (apart.square().sum(0) / count - offset.square()).clamp_min(0).sum(0)
        mean = block[0] + offset
        if len(all_maps) > count:
            mean = (mean + all_maps[count]) / 2
        if binary:
            mean, variance = torch.cat([1 - mean, mean]), 2 * variance
            members[:, rows] = (block[:, 0] > 0.5).numpy()
        else:
            members[:, rows] = argmax_labels(block.numpy())
        labels[rows], _ = decide(members[:, rows], mean.numpy())
        disagreement[rows] = (variance / 2).sqrt().numpy()
    mean_map = maps.mean(0) if len(mixed) == count else (maps.mean(0) + mixed[count]) / 2
    return Fusion(labels, ResizedMaps(mean_map, geometry), disagreement, small.quality), members


def labels_in_bands(maps: Float[Tensor, "1 k s s"], geometry: Geometry) -> UInt8[np.ndarray, "h w"]:
    """Resize class probabilities to a picture's sides and return the most probable class, band by band."""
    return np.concatenate([argmax_labels(block[0].numpy()) for _, block in in_bands(maps, geometry)])


def _staple_in_bands(
    small: _Members, classes: int
) -> "Callable[[_Members, _Mean], tuple[_Labels, tuple[MemberQuality, ...]]]":
    """Estimate each member's confusion matrix with STAPLE, and return the rule that decides pixels by it.

    For the labels l_j that the members give a pixel, the class is argmax_c pi_c prod_j p(l_j | c), as in STAPLE's last
    E-step; pi_c is the members' mean share of class c.
    """
    import SimpleITK as sitk  # 90 MB, which a page of recordings can do without

    prior = np.bincount(small.ravel(), minlength=classes) / small.size
    if (small == small[0]).all():
        return _mean
    images = [sitk.GetImageFromArray(member) for member in small]
    if classes > 2:
        several = sitk.MultiLabelSTAPLEImageFilter()
        several.SetLabelForUndecidedPixels(_UNDECIDED)
        several.SetMaximumNumberOfIterations(_ITERATIONS)
        several.Execute(images)
        found = int(small.max()) + 1  # the filter has matrices of the labels that occur
        matrices = np.zeros((len(small), classes, classes))
        for j in range(len(small)):
            matrices[j, :found, :found] = np.array(several.GetConfusionMatrix(j)).reshape(found + 1, found)[:-1]
    else:
        binary = sitk.STAPLEImageFilter()
        binary.SetForegroundValue(1)
        binary.SetMaximumIterations(_ITERATIONS)
        binary.Execute(images)
        quality = zip(binary.GetSensitivity(), binary.GetSpecificity(), strict=True)
        matrices = np.array([[[r, 1 - q], [1 - r, q]] for q, r in quality])
    with np.errstate(divide="ignore"):
        tables, first = np.log(matrices.clip(1e-300)), np.log(prior.clip(1e-300))

    def scored(labels: UInt8[np.ndarray, "m n"]) -> Float[np.ndarray, "classes n"]:
        score = np.tile(first, (labels.shape[1], 1))
        for table, given in zip(tables, labels, strict=True):
            score += table[given]
        return score.T

    def chosen(score: Float[np.ndarray, "classes n"], mean: Float[np.ndarray, "classes n"]) -> UInt8[np.ndarray, " n"]:
        sure = (score > score.max(0) - _TIE).sum(0) == 1
        return np.where(sure, score.argmax(0), mean.argmax(0)).astype(np.uint8)

    every = np.arange(classes, dtype=np.uint8)
    agreed = chosen(scored(np.tile(every, (len(small), 1))), np.eye(classes))  # where all members give the same class

    def decide(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[()]]:
        labels, disputed = agreed[members[0]], _disputed(members)
        labels[disputed] = chosen(scored(members[:, disputed]), mean[:, disputed])
        return labels, ()

    return decide


def _disputed(members: _Members) -> Bool[np.ndarray, "h w"]:
    """Return the pixels to which the members give different classes."""
    found = np.zeros(members.shape[1:], bool)
    for member in members[1:]:
        found |= member != members[0]
    return found


def argmax_labels(p: Float[np.ndarray, "*m k h w"]) -> UInt8[np.ndarray, "*m h w"]:
    """Return the argmax over classes at each pixel (the first in a tie), faster than numpy's argmax over a short axis."""
    best, labels = p[..., 0, :, :], np.zeros((*p.shape[:-3], *p.shape[-2:]), np.uint8)
    for c in range(1, p.shape[-3]):
        better = p[..., c, :, :] > best
        labels[better] = c
        if c + 1 < p.shape[-3]:
            best = np.maximum(best, p[..., c, :, :])
    return labels


def change(before: Float[np.ndarray, "m k h w"], after: Float[np.ndarray, "m k h w"]) -> float:
    """Return how much the mask of the members' mean changed between two steps: 1 - Dice, largest over classes."""
    a, b = (argmax_labels(p.mean(0)) for p in (before, after))
    pairs = ((a == c, b == c) for c in range(1, before.shape[1]))
    return max(1 - 2 * float((x & y).sum()) / int(x.sum() + y.sum()) if (x | y).any() else 0.0 for x, y in pairs)


def _mean(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    return argmax_labels(mean), ()


def _vote(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    labels, disputed = members[0].copy(), _disputed(members)
    given = members[:, disputed]
    votes = np.stack([(given == c).sum(0) for c in range(len(mean))])
    labels[disputed] = np.where(votes == votes.max(0), mean[:, disputed], -1).argmax(0)
    return labels, ()


def _staple(members: _Members, mean: _Mean) -> tuple[_Labels, tuple[MemberQuality, ...]]:
    import SimpleITK as sitk  # 90 MB, which a page of recordings can do without

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
"""The rules that need the members only."""

RULES = (*FUSIONS, "anchored")
