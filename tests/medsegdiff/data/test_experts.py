"""Experts' masks reconstructed from the share of experts per pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsegdiff.data.experts import experts
from medsegdiff.data.folders import cases


def written(root: Path, **maps: np.ndarray) -> Path:
    for folder, pixels in maps.items():
        (root / folder).mkdir(parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / folder / "eye.png")
    return root


def test_outlines_inside_one_another_come_back_as_they_were(tmp_path):
    y, x = np.mgrid[:32, :32]
    distance = np.hypot(x - 16, y - 16)
    truth = np.stack([(distance < 8 + r).astype(np.uint8) + (distance < 3 + r) for r in range(4)])  # rim 1, cup 2
    shares = {
        name: np.rint((truth >= label).mean(0) * 255) for label, name in ((1, "experts_disc"), (2, "experts_cup"))
    }
    root = written(tmp_path, images=np.zeros((32, 32, 3)), masks=truth[0], **shares)
    (case,) = cases(root)
    found = experts(case, 2)
    assert found is not None
    np.testing.assert_array_equal(found, truth[::-1])  # marked by one, the largest, comes first
    assert experts(case, 1) is None


def test_a_picture_without_experts_has_none_and_two_sizes_are_refused(tmp_path):
    plain = written(tmp_path / "plain", images=np.zeros((8, 8, 3)), masks=np.zeros((8, 8)))
    assert experts(cases(plain)[0], 2) is None
    odd = {"experts_disc": np.zeros((8, 8)), "experts_cup": np.zeros((8, 9))}
    odd_sizes = written(tmp_path / "odd", images=np.zeros((8, 8, 3)), masks=np.zeros((8, 8)), **odd)
    with pytest.raises(ValueError, match=r"experts_cup.*eye.png is \(8, 9\), .*\(8, 8\); make them one size"):
        experts(cases(odd_sizes)[0], 2)
