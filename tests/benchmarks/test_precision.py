"""The precision check passes if masks agree, and fails if they differ or cannot be read."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import precision
from medsegdiff.data.synthetic import draw


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for kind, pixels in (("images", (drawn := draw("skin-lesion", 3)).image), ("masks", drawn.labels)):
        (tmp_path / "val" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "val" / kind / "drawn.png")
    return tmp_path


@pytest.mark.slow
def test_bfloat16_keeps_a_drawn_picture_s_mask_and_a_mask_that_differs_is_told(data, capsys, monkeypatch):
    words = ["--data", str(data), "--checkpoint", "skin-lesion-v2", "--members", "1", "--steps", "2", "--size", "128"]
    assert precision.main(words) == 0
    assert "over 1 pictures with a mask" in capsys.readouterr().out
    monkeypatch.setattr(precision, "ENOUGH", 1.0)  # no two precisions agree to the pixel
    assert precision.main(words) == 1


def test_a_folder_without_pictures_is_one_sentence(tmp_path, capsys):
    assert precision.main(["--data", str(tmp_path), "--checkpoint", "skin-lesion-v2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
