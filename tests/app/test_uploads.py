"""Deletion of uploaded files, which several visitors may share."""

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
    """Shorten the minute before deletion to half a second."""
    monkeypatch.setattr(uploads, "_SECONDS", 0.5)
    return 0.5


def sent(folder: Path) -> Path:
    path = folder / "shared.png"
    Image.fromarray(np.eye(48, dtype=np.uint8) * 255).save(path)
    return path


def gone(path: Path) -> bool:
    until = time.monotonic() + 10  # timers can be late on a busy machine
    while path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not path.exists()


def test_visitors_who_upload_the_same_image_share_its_file(tmp_path, soon):
    path = sent(tmp_path)
    for _ in range(3):
        assert upload(str(path)).picture.height == 48
    assert take(str(path), VolumeCache(), None).picture.height == 48
    assert read_mask(path, 1, (48, 48), take(str(path), VolumeCache(), None)).sum() == 48
    assert gone(path)


@pytest.mark.slow
def test_a_second_upload_restarts_the_minute(tmp_path, soon):
    path = sent(tmp_path)
    upload(str(path))
    time.sleep(0.6 * soon)
    sent(tmp_path)
    time.sleep(0.6 * soon)  # the first minute is over, the second read has not happened yet
    assert path.exists()
    upload(str(path))
    assert gone(path)


def test_unreadable_files_are_deleted_too(tmp_path, soon):
    path = tmp_path / "drawing.png"
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(ValueError, match="PNG, JPEG"):
        upload(str(path))
    assert gone(path)
