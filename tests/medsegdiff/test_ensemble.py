"""Fusion: raters of known quality, identical members, and degenerate cases of EM."""

import numpy as np
import pytest
import torch

from medsegdiff.ensemble import RULES, argmax_labels, change, fuse, fuse_resized
from medsegdiff.resize import Geometry


def probabilities(labels, classes=1, sure=0.9):
    """Turn (m, h, w) label images into (m, K + 1, h, w) probabilities: `sure` of their class, the rest shared."""
    chosen = np.arange(classes + 1)[None, :, None, None] == np.asarray(labels)[:, None]
    return np.where(chosen, sure, (1 - sure) / classes).astype(np.float32)


def stripes(classes):
    """A truth whose classes and background all have the same share, 0 to K from left to right."""
    return np.arange(classes + 1).repeat(60 // (classes + 1))[None].repeat(200, 0)


def raters(generator, truth, classes, right):
    """Masks that are right pixel by pixel with known probability, and otherwise show any other label."""
    wrong = (truth + generator.integers(1, classes + 1, (len(right), *truth.shape))) % (classes + 1)
    return np.where(generator.random(wrong.shape) < np.reshape(right, (-1, 1, 1)), truth, wrong)


@pytest.mark.parametrize("classes", [1, 2])
def test_staple_matches_fusion_with_known_rater_quality(classes):
    right = np.array([0.97, 0.93, 0.6, 0.6, 0.6])
    truth = stripes(classes)
    members = raters(np.random.default_rng(0), truth, classes, right)
    weight = np.log(right * classes / (1 - right))[:, None, None]
    informed = np.stack([(weight * (members == c)).sum(0) for c in range(classes + 1)]).argmax(0)
    best, staple, vote = (
        (labels != truth).mean()
        for labels in (informed, *(fuse(probabilities(members, classes), rule).labels for rule in ("staple", "vote")))
    )
    # 12,000 pixels: the standard error of these rates, about 0.03 and 0.1, is below 0.003.
    assert staple == pytest.approx(best, abs=0.003)
    assert vote > 2 * best


def test_staple_estimates_each_raters_sensitivity_and_specificity():
    right = [0.97, 0.93, 0.6, 0.6, 0.6]
    fused = fuse(probabilities(raters(np.random.default_rng(0), stripes(1), 1, right)), "staple")
    # 6000 pixels on either side: a standard error of at most 0.0063.
    np.testing.assert_allclose([q.sensitivity for q in fused.quality], right, atol=0.02)
    np.testing.assert_allclose([q.specificity for q in fused.quality], right, atol=0.02)


@pytest.mark.parametrize("rule", ["staple", "mean", "vote"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("members", [1, 5])
def test_identical_members_are_their_own_fusion_without_disagreement(rule, classes, members):
    one = torch.rand(1, classes + 1, 24, 20, generator=torch.Generator().manual_seed(0)).softmax(1)
    fused = fuse(one.repeat(members, 1, 1, 1), rule)
    np.testing.assert_array_equal(fused.labels, one[0].argmax(0))
    np.testing.assert_array_equal(fused.probability, one[0])
    assert not fused.disagreement.any()  # not nearly: exactly
    assert fused.quality == ()


@pytest.mark.parametrize("rule", ["staple", "mean", "vote"])
@pytest.mark.parametrize("value", [0, 1])
def test_members_that_are_all_empty_or_all_full_stay_so(rule, value):
    # With no foreground at all the EM of STAPLE divides zero by zero.
    p = probabilities(np.full((3, 8, 8), value))
    p[1] = p[1] * 0.9 + 0.05  # the members differ, their labels do not
    fused = fuse(p, rule)
    assert (fused.labels == value).all()
    assert np.isfinite(fused.probability).all()
    assert (fused.disagreement > 0).all()


def test_ties_of_staple_are_resolved_by_the_mean():
    # One member finds a lesion, the other nothing: EM ends at one half and a few units of rounding.
    blank, found = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    found[2:5, 2:5] = 1
    for sure, kept in ((0.6, 0), (0.95, 9)):
        p = np.concatenate([probabilities(blank[None], sure=0.8), probabilities(found[None], sure=sure)])
        fused = fuse(p, "staple")
        assert fused.labels.sum() == kept
        assert all(np.isfinite([q.sensitivity, q.specificity]).all() for q in fused.quality)


def test_ties_of_vote_are_resolved_by_the_mean():
    p = np.array([[0.1, 0.5, 0.4], [0.1, 0.4, 0.5], [0.1, 0.7, 0.2], [0.6, 0.0, 0.4], [0.1, 0.3, 0.6]])
    fused = fuse(p[..., None, None], "vote")  # two for class 1, two for class 2, one for the background
    assert fused.labels == p.mean(0)[1:].argmax() + 1


def test_disagreement_of_one_class_is_the_standard_deviation_of_its_probability():
    foreground = np.random.default_rng(0).random((7, 1, 6, 5))
    fused = fuse(np.concatenate([1 - foreground, foreground], 1), "mean")
    np.testing.assert_allclose(fused.disagreement, foreground.std(0)[0], rtol=1e-6)  # rounded to float32 once


def test_the_order_of_the_members_does_not_matter():
    generator = np.random.default_rng(1)
    p = probabilities(raters(generator, stripes(1), 1, [0.95, 0.9, 0.85, 0.8]))
    for rule in ("staple", "mean", "vote"):
        one, other = fuse(p, rule), fuse(p[[2, 0, 3, 1]], rule)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.disagreement, other.disagreement, atol=1e-6)


def test_the_anchor_has_the_weight_of_all_members_together():
    p = np.array([[[0.6], [0.4]], [[0.8], [0.2]]])[..., None]  # mean 0.7 background
    anchor = np.array([[0.1], [0.9]])[..., None]
    fused = fuse(p, "anchored", anchor)
    assert (fuse(p, "mean").labels, fused.labels) == (0, 1)
    np.testing.assert_allclose(fused.probability.ravel(), [0.4, 0.6], atol=1e-7)
    np.testing.assert_allclose(fused.disagreement, 0.1, atol=1e-7)  # of the members alone
    with pytest.raises(ValueError, match="there is none"):
        fuse(p, "anchored")


def test_bad_input_gets_one_clear_sentence():
    p = probabilities(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="choose staple, mean, vote"):
        fuse(p, "median")
    with pytest.raises(ValueError, match="members, classes"):
        fuse(p[:0])
    p[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fuse(p)


@pytest.mark.parametrize("shape", [(2, 6, 5), (4, 6, 5), (3, 2, 6, 5), (3, 5, 6, 5)])
def test_argmax_labels_is_the_argmax_and_the_first_in_a_tie(shape):
    p = np.random.default_rng(0).integers(0, 4, shape) / 4  # many ties
    np.testing.assert_array_equal(argmax_labels(p), p.argmax(-3))


def test_change_is_one_minus_dice_of_the_class_that_changed_most():
    mask = np.zeros((1, 4, 4), int)
    mask[0, 0, :3], mask[0, 1, :2] = 1, 2
    moved = mask.copy()
    moved[0, 0, 2] = 0  # class 1: two pixels of three are left, 2 * 2 / (3 + 2)
    assert change(probabilities(mask, 3), probabilities(moved, 3)) == pytest.approx(0.2)
    assert change(probabilities(mask, 3), probabilities(mask, 3)) == 0  # class 3 is in neither
    assert change(probabilities(mask, 3), probabilities(0 * mask, 3)) == 1


@pytest.mark.parametrize("field", [1.0, 0.7])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("classes", [2, 4])
def test_fusing_in_bands_gives_what_fusing_at_once_gives(rule, classes, field):
    draws = torch.randn(6, classes, 24, 24, generator=torch.Generator().manual_seed(1))
    logits = 3 * draws[:1] + draws[1:]  # members that agree on the whole, as STAPLE needs it
    smooth = torch.nn.functional.avg_pool2d(logits, 5, 1, 2) * 4
    maps, geometry = smooth.softmax(1), Geometry(150, 97, 24, field)
    anchor = (2 * logits[:1]).softmax(1)
    (whole, labels), (banded, again) = (
        fuse_resized(maps, geometry, rule, anchor=anchor, most=most) for most in (2**40, 0)
    )
    # Maps differ by some 1e-7, from the order of float32 sums; a square root near 0 makes more of that.
    np.testing.assert_allclose(banded.disagreement, whole.disagreement, atol=1e-5)
    np.testing.assert_allclose(np.asarray(banded.probability), whole.probability, atol=1e-6)
    np.testing.assert_allclose(banded.probability[0], whole.probability[0], atol=1e-6)
    assert (labels != again).mean() < 1e-3  # at a border, where two classes differ by rounding
    # STAPLE estimates its qualities from fewer pixels there; pixels on which hardly more than half agree may turn.
    assert (banded.labels != whole.labels).mean() < (0.02 if rule == "staple" else 1e-3)
