"""Agreement of the members on each structure, on masks with known answers."""

import numpy as np
import pytest

from medsegdiff.confidence import overlaps, summary


def test_pairwise_dice_and_interval_of_known_members():
    members = np.zeros((3, 8, 10), np.uint8)
    members[0, 2:4, 2:6] = 1  # 8 pixels
    members[1, 2:4, 4:8] = 1  # 8 pixels, 4 of them in common with the first
    members[2, 6, 0] = 2
    counts = overlaps(members, 3)
    assert counts[0].tolist() == [[8, 4, 0], [4, 8, 0], [0, 0, 0]]
    found = summary(counts, ("liver", "spleen", "tumour"), "pixels", 0.5, "mm2")
    assert found["liver"]["pairwise_dice"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["liver"]["pixels"] == pytest.approx([0.4, 8])  # 2.5 % of the way from 0 to 8, twice the step
    assert found["liver"]["mm2"] == pytest.approx([0.2, 4])
    assert found["spleen"]["pairwise_dice"] == 0  # two pairs of which one has it
    assert found["tumour"] == {"pairwise_dice": None, "pixels": [0, 0], "mm2": [0, 0]}
    assert summary(counts[:, :1, :1], ("liver", "spleen", "tumour"), "pixels") == {}


def test_counts_of_slices_add_up_to_those_of_the_volume():
    volume = np.random.default_rng(0).integers(0, 3, (4, 5, 8, 9)).astype(np.uint8)  # members, slices
    total = sum(overlaps(volume[:, i], 2) for i in range(5))
    assert np.array_equal(total, overlaps(volume.reshape(4, 40, 9), 2))
