"""A visitor's file is read by all who sent it, and gone a moment later."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.analysis.reference_mask import read_mask
from app.inputs import uploads
from app.inputs.images import upload
from app.inputs.volumes import VolumeCache, take


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> float:
    """A minute of half a second."""
    monkeypatch.setattr(uploads, "_SECONDS", 0.5)
    return 0.5


def sent(folder: Path) -> Path:
    path = folder / "shared.png"
    Image.fromarray(np.eye(48, dtype=np.uint8) * 255).save(path)
    return path


def gone(path: Path) -> bool:
    until = time.monotonic() + 10  # a busy machine wakes a timer late
    while path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not path.exists()


def test_a_class_that_sends_one_picture_shares_its_file(tmp_path, soon):
    path = sent(tmp_path)
    for _ in range(3):
        assert upload(str(path)).picture.height == 48
    assert take(str(path), VolumeCache(), "skin-lesion").picture.height == 48
    assert read_mask(path, 1, (48, 48)).sum() == 48
    assert gone(path)


def test_a_file_sent_again_has_a_minute_of_its_own(tmp_path, soon):
    path = sent(tmp_path)
    upload(str(path))
    time.sleep(0.6 * soon)
    sent(tmp_path)
    time.sleep(0.6 * soon)  # the first reader's minute is over, the second has not read yet
    assert path.exists()
    upload(str(path))
    assert gone(path)


def test_what_cannot_be_read_is_deleted_too(tmp_path, soon):
    path = tmp_path / "drawing.png"
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(ValueError, match="PNG, JPEG"):
        upload(str(path))
    assert gone(path)
