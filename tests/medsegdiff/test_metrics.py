"""Every number against its definition, written out by hand on small masks, and against MONAI."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medsegdiff.metrics import (
    binary_dice,
    bootstrap_interval,
    expected_calibration_error,
    reliability,
    score,
)


def blobs(seed, shape, classes):
    """Random label images with some flat areas, so that they have insides."""
    coarse = np.random.default_rng(seed).integers(0, classes + 1, [-(-n // 3) for n in shape])
    for axis in range(len(shape)):
        coarse = coarse.repeat(3, axis)
    return coarse[tuple(slice(n) for n in shape)].astype(np.uint8)


def edge(mask):
    """Coordinates of the pixels of a mask with a side neighbour outside the mask, or outside the picture."""
    padded = np.pad(mask, 1)
    neighbours = [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
    return np.argwhere(padded & ~np.logical_and.reduce(neighbours)) - 1


def hd95_by_hand(a, b, spacing):
    p, q = edge(a) * spacing, edge(b) * spacing
    distance = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    return max(np.quantile(distance.min(1), 0.95), np.quantile(distance.min(0), 0.95))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(13, 17), (24, 9), (4, 9, 7)]),
    st.integers(1, 3),
    st.sampled_from([None, (0.7, 1.9, 0.4)]),
)
def test_overlap_and_distance_are_their_definitions(seed, shape, classes, spacing):
    prediction, truth = blobs(seed, shape, classes), blobs(seed + 1, shape, classes)
    spacing = spacing and spacing[: len(shape)]
    scored = score("case", prediction, truth, classes, spacing)
    for c in range(classes):
        a, b = prediction == c + 1, truth == c + 1
        assert scored.empty_truth[c] == (not b.any())
        assert scored.false_positive[c] == (a.any() and not b.any())
        if a.any() and b.any():
            assert scored.dice[c] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), rel=1e-6)
            assert scored.iou[c] == pytest.approx((a & b).sum() / (a | b).sum(), rel=1e-6)
            assert scored.hd95[c] == pytest.approx(hd95_by_hand(a, b, spacing or (1,) * len(shape)), rel=1e-6)
        true, predicted = np.zeros(shape, int), np.zeros(shape, int)
        for mask, regions in ((b, true), (a, predicted)):
            ndimage.label(mask, np.ones((3,) * len(shape)), regions)
        n, m = int(true.max()), int(predicted.max())
        assert scored.regions[c] == n
        assert scored.regions_found[c] == sum(a[true == i + 1].any() for i in range(n))
        assert scored.false_regions[c] == sum(not b[predicted == i + 1].any() for i in range(m))


def test_lesions_are_detected_one_by_one():
    truth, prediction = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[1:4, 1:4] = truth[4, 4] = truth[10:15, 10:15] = truth[18, 1] = 1  # three: the first two touch by a corner
    prediction[3:5, 3:5] = prediction[14:17, 14:17] = prediction[1, 18] = 1
    scored = score("case", prediction, truth, 1)
    assert (scored.regions, scored.regions_found, scored.false_regions) == ((3,), (2,), (1,))
    prediction[4:14, 4:14] = 1  # one region over two lesions finds both
    assert score("case", prediction, truth, 1).regions_found == (2,)
    assert score("case", prediction, np.zeros_like(truth), 1).false_regions == (2,)


def test_a_missed_class_scores_zero_and_an_absent_class_nan():
    blank, found = np.zeros((31, 41), np.uint8), np.zeros((31, 41), np.uint8)
    found[4:9, 5:9] = 1
    missed = score("missed", blank, found, 1)
    assert (missed.dice, missed.iou, missed.hd95) == ((0,), (0,), (50,))  # the diagonal: 30, 40, 50
    assert score("in mm", blank, found, 1, (2.0, 2.0)).hd95 == (100,)
    for prediction, false_positive in ((blank, False), (found, True)):
        absent = score("absent", prediction, blank, 1)
        assert all(math.isnan(v[0]) for v in (absent.dice, absent.iou, absent.hd95))
        assert absent.empty_truth == (True,)
        assert absent.false_positive == (false_positive,)


def test_a_perfect_mask_scores_one_and_no_distance():
    truth = blobs(0, (24, 24), 2)
    scored = score("same", truth, truth, 2)
    assert (scored.dice, scored.iou, scored.hd95) == ((1, 1), (1, 1), (0, 0))


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="give both one size"):
        score("case", np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), 1)


def test_a_calibrated_predictor_has_no_calibration_error_and_an_overconfident_one_its_gap():
    generator = np.random.default_rng(0)
    p = generator.random((500, 500))
    truth = (generator.random(p.shape) < p).astype(np.uint8)
    # Each of 15 bins has 16,667 pixels: a standard error of at most 0.004 each, of 0.003 on average.
    assert expected_calibration_error(np.stack([1 - p, p]), truth) < 0.005

    truth = (np.arange(10_000) % 10 < 7).astype(np.uint8).reshape(100, 100)  # there in 70 of 100
    said = np.full((100, 100), 0.95)
    assert expected_calibration_error(np.stack([1 - said, said]), truth) == pytest.approx(0.25, rel=1e-12)


def test_calibration_of_several_classes_is_the_mean_over_them():
    truth = np.repeat([[0, 1, 2, 2]], 5, 0).astype(np.uint8)
    p = np.empty((3, 5, 4))
    p[:] = np.array([0.5, 0.25, 0.25])[:, None, None]
    curve = reliability(p, truth)
    assert curve.ece == pytest.approx((0, 0.25), abs=1e-12)  # class 1 is there in a quarter, class 2 in a half
    assert expected_calibration_error(p, truth) == pytest.approx(0.125, rel=1e-12)


def test_reliability_of_pictures_adds_up_to_that_of_all_their_pixels():
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.ones(3), (4, 16, 20)).transpose(3, 0, 1, 2)
    truth = generator.integers(0, 3, (4, 16, 20))
    whole = reliability(p, truth)
    first, *rest = (reliability(p[:, i], truth[i]) for i in range(4))
    total = sum(rest, start=first)
    np.testing.assert_array_equal(total.count, whole.count)
    np.testing.assert_allclose(total.confidence, whole.confidence, rtol=1e-12)
    np.testing.assert_allclose(total.frequency, whole.frequency, rtol=1e-12)
    assert whole.count.sum() == 2 * truth.size  # probability 1 has a bin too


@pytest.mark.slow
def test_the_bootstrap_interval_covers_the_mean_and_repeats_itself():
    generator = np.random.default_rng(0)
    trials = [bootstrap_interval(generator.normal(0.8, 0.1, 40).tolist(), seed) for seed in range(60)]
    assert 0.85 < np.mean([low < 0.8 < high for low, high in trials]) <= 1  # 95 of 100, give or take 60 trials
    assert bootstrap_interval([0.1, 0.9, 0.5], 3) == bootstrap_interval([0.1, math.nan, 0.9, 0.5], 3)
    assert all(math.isnan(bound) for bound in bootstrap_interval([0.5, math.nan], 0))


def test_the_interval_of_several_classes_is_of_their_mean_over_cases_that_have_them():
    assert bootstrap_interval([(v,) for v in (0.1, 0.9, 0.5)], 3) == bootstrap_interval([0.1, 0.9, 0.5], 3)
    low, high = bootstrap_interval([(0.8, math.nan)] * 20 + [(0.8, 0.4)] * 20, 0)
    assert (low, high) == pytest.approx((0.6, 0.6))  # classes count alike, however many cases have them
    assert all(math.isnan(bound) for bound in bootstrap_interval([], 0))


def test_patients_are_resampled_whole_and_count_by_their_images():
    patients = ["a"] + ["b"] * 9  # half of the resamples have both, a quarter each only one
    found = bootstrap_interval([0.0] + [1.0] * 9, 0, level=0.2, groups=patients)
    assert found == pytest.approx((0.9, 0.9))


@settings(max_examples=40, deadline=None)  # the first example imports MONAI
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(13, 17), (2, 2), (1, 6), (24, 9), (4, 9, 7), (3, 3, 3)]),
    st.floats(0.02, 1),
    st.sampled_from([None, (0.7, 1.9, 0.4)]),
)
def test_dice_iou_and_hd95_are_those_of_monai(seed, shape, share, spacing):
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou

    a, b = np.random.default_rng(seed).random((2, *shape)) < share  # dense masks touch the border, or fill the picture
    if not (a.any() and b.any()):
        return
    spacing = spacing and spacing[: len(shape)]
    ours, theirs = (torch.from_numpy(mask)[None, None] for mask in (a, b))
    distance = compute_hausdorff_distance(ours, theirs, include_background=True, percentile=95, spacing=spacing)
    found = score("case", a.astype(np.uint8), b.astype(np.uint8), 1, spacing)
    expected = [float(compute_dice(ours, theirs)), float(compute_iou(ours, theirs)), float(distance)]
    assert [found.dice[0], found.iou[0], found.hd95[0]] == pytest.approx(expected, rel=1e-6)  # MONAI: float32


def test_dice_of_two_empty_masks_is_what_the_caller_asks_for():
    empty = np.zeros((3, 4), bool)
    assert math.isnan(binary_dice(empty, empty))
    assert binary_dice(empty, empty, empty=1.0) == 1
    assert binary_dice(empty, ~empty) == 0
    assert binary_dice(~empty, ~empty) == 1
