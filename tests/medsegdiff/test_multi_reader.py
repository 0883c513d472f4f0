"""Members against readers: known cases, an independent implementation, and general bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegdiff.data.folders import majority
from medsegdiff.metrics import bootstrap_interval, reliability
from medsegdiff.multi_reader import diversity, energy_distance, hungarian_iou, score_readers


def masks(seed, count, side=6, share=0.4):
    """Random masks of which some are empty."""
    generator = np.random.default_rng(seed)
    return ((generator.random((count, side, side)) < share) & (generator.random((count, 1, 1)) < 0.8)).astype(np.uint8)


def iou(a, b):
    """Independent of the package: sets of pixels."""
    one, other = set(zip(*np.nonzero(a), strict=True)), set(zip(*np.nonzero(b), strict=True))
    return len(one & other) / len(one | other) if one | other else 1.0


@pytest.mark.parametrize("seed", range(5))
def test_each_number_is_its_definition_over_sets_of_pixels(seed):
    members, readers = masks(seed, 4), masks(seed + 100, 2)
    cross, own, theirs = (
        np.mean([1 - iou(a, b) for a in x for b in y])
        for x, y in ((members, readers), (members, members), (readers, readers))
    )
    assert energy_distance(members, readers) == pytest.approx(2 * cross - own - theirs, abs=1e-12)
    assert diversity(members) == pytest.approx(own, abs=1e-12)
    repeated = [*readers, *readers]  # four members, two readers: all 24 assignments
    best = max(
        np.mean([iou(members[i], repeated[j]) for i, j in enumerate(order)])
        for order in itertools.permutations(range(4))
    )
    assert hungarian_iou(members, readers) == pytest.approx(best, abs=1e-12)
    mean = members.mean(0)
    found = score_readers("a", members[0], np.stack([1 - mean, mean]), members, readers, majority(readers))
    assert found.brier == pytest.approx(((mean - readers.mean(0)) ** 2).mean(), abs=1e-12)
    dice = [[2 * v / (1 + v) for v in (iou(a, b) for a in members)] for b in readers]
    assert found.dice_best_match == pytest.approx(np.mean([max(row) for row in dice]), abs=1e-12)
    assert found.marked == sum(bool(reader.any()) for reader in readers)


def test_hand_made_cases():
    left, right, none = (np.zeros((1, 4, 4), np.uint8) for _ in range(3))
    left[:, :, :2], right[:, :, 2:] = 1, 1
    both = np.concatenate([left, right])
    assert energy_distance(left, right) == 2  # certain of the one, and it was the other
    assert energy_distance(none, none) == 0  # two empty masks agree
    assert energy_distance(left, none) == 2
    assert energy_distance(both, both[::-1]) == 0  # a set has no order
    assert energy_distance(both, np.repeat(both, 3, 0)) == 0  # proportions count, not numbers
    assert energy_distance(left, both) == pytest.approx(0.5)  # 2/2 - 0 - 1/2
    assert (diversity(both), diversity(left)) == (0.5, 0)
    assert hungarian_iou(left, both) == 0.5
    assert hungarian_iou(np.repeat(left, 3, 0), both) == 0.5  # three members, two readers: six pairs


def test_members_drawn_from_the_readers_own_distribution_come_near_the_floor():
    pool = masks(3, 12, share=0.6)
    generator = np.random.default_rng(0)
    unlike = diversity(pool)  # of two draws with replacement
    trials = [energy_distance(*(pool[generator.integers(0, 12, n)] for n in (16, 4))) for _ in range(600)]
    assert np.mean(trials) == pytest.approx(unlike * (1 / 16 + 1 / 4), rel=0.06)  # six standard errors of 600 trials


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4))
def test_bounds_and_symmetry(seed, m, n):
    members, readers = masks(seed, m), masks(seed + 1, n)
    ged = energy_distance(members, readers)
    assert -1e-12 <= ged <= 2
    assert ged == pytest.approx(energy_distance(readers, members), abs=1e-12)
    assert 0 <= hungarian_iou(members, readers) <= 1


@pytest.mark.parametrize(
    ("votes", "label"), [([0, 0, 1, 1], 1), ([0, 0, 0, 1], 0), ([1, 2, 2, 1], 2), ([0, 1, 2, 2], 2), ([3, 1, 1, 0], 1)]
)
def test_the_majority_is_the_most_votes_and_of_a_tie_the_highest_label(votes, label):
    assert majority(np.array(votes, np.uint8)[:, None, None]).tolist() == [[label]]


def test_calibration_against_the_share_of_readers():
    readers = np.array([[[1, 0, 0]], [[1, 1, 0]]], np.uint8)  # shares 1, 1/2, 0
    share = readers.mean(0)
    assert reliability(np.stack([1 - share, share]), readers).ece == (0.0,)
    sure = np.array([[1.0, 1.0, 0.0]])
    assert reliability(np.stack([1 - sure, sure]), readers).ece[0] == pytest.approx(0.5 / 3)


def test_the_interval_over_patients_is_wider_than_over_their_like_pictures():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(0.5, 0.2, 20), 8)
    patients = [f"p{i // 8}" for i in range(160)]
    low, high = bootstrap_interval(values.tolist(), 0, groups=patients)
    narrow = bootstrap_interval(values.tolist(), 0)
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(8**0.5, rel=0.25)
    assert all(np.isnan(bootstrap_interval([0.1, 0.2], 0, groups=["p", "p"])))  # one patient
