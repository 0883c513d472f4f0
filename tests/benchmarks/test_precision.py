"""The precision check passes if masks agree, and fails if they differ or cannot be read."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks import precision
from medsegdiff.config import Domain
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


def test_a_limit_takes_pictures_from_the_whole_folder(monkeypatch, tmp_path):
    read: list[int] = []
    found = [SimpleNamespace(samples=lambda *_, i=i: read.append(i) or ()) for i in range(10)]
    domain = Domain(task="skin-lesion", modality="", labels=("lesion",))
    fakes = {"cases": lambda *_: found, "load": lambda _: None, "Segmenter": lambda *_: SimpleNamespace(domain=domain)}
    for name, fake in fakes.items():
        monkeypatch.setattr(precision, name, fake)
    monkeypatch.setattr(precision.options, "settings", lambda _: None)
    arguments = Namespace(checkpoint=str(tmp_path), data=tmp_path, device="cpu", dtype="bfloat16", limit=6)
    precision._agreement(arguments)
    assert read == [0, 1, 3, 5, 6, 8]
