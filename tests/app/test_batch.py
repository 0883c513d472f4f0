"""Several files segmented one after another."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from app.core.settings import CONTROLS, read
from app.export.batch import BatchRow, segment_files
from app.inputs import uploads
from medsegdiff.errors import InputError


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS], trace=False)


def files(folder, count):
    paths = []
    for i in range(count):
        paths.append(folder / f"image {i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)).save(paths[-1])
    return paths


def test_each_file_gives_a_row_and_a_bad_one_does_not_stop_the_rest(session, tmp_path):
    paths, out = files(tmp_path, 2), tmp_path / "out"
    out.mkdir()
    paths.insert(1, tmp_path / "notes.png")
    paths[1].write_text("this is no picture")
    events = list(segment_files(session, [str(p) for p in paths], "tiny", settings(members=2, steps=3), out))
    rows = [event for event in events if isinstance(event, BatchRow)]
    assert [row.name for row in rows] == ["image 0.png", "notes.png", "image 1.png"]
    assert "convert it to one of PNG" in str(rows[1].error)
    assert [(p.done, p.total, p.part) for p in events if not isinstance(p, BatchRow)] == [
        *((step, 9, 1) for step in (1, 2, 3)),
        *((step, 9, 3) for step in (7, 8, 9)),
    ]
    for number, row in ((1, rows[0]), (3, rows[2])):
        stem = f"{number:02d}-image-{number // 2}"
        mask = np.asarray(Image.open(out / f"{stem}-mask.png"))
        assert mask.shape == (48, 64)
        assert row.share == pytest.approx((mask > 0).mean())
        assert json.loads((out / f"{stem}-run.json").read_text())["run"]["checkpoint"] == "tiny"


def test_what_is_not_read_is_deleted_when_the_run_is_stopped_or_too_long(session, tmp_path, monkeypatch):
    gone = []
    monkeypatch.setattr(uploads, "_delete", lambda path, age: gone.append(path))
    monkeypatch.setattr(uploads, "_SECONDS", 0.0)
    paths = files(tmp_path, 3)
    events = segment_files(session, [str(p) for p in paths], "tiny", settings(members=1, steps=2), tmp_path)
    next(events)
    events.close()
    with pytest.raises(InputError, match="choose fewer files"):
        next(segment_files(session, [str(p) for p in paths], "tiny", settings(members=1, steps=2), tmp_path, most=5))
    until = time.monotonic() + 60
    while len(gone) < 6 and time.monotonic() < until:  # by timers
        time.sleep(0.05)
    assert sorted(gone) == sorted(paths * 2)
