"""Sessions: loading checkpoints and running them, without a page."""

import os
import runpy
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from app.core import catalogue
from app.core.frames import Frame, Opening, Recording
from app.core.session import RunOutput, Session
from app.core.settings import CONTROLS, read
from app.export.files import write_result
from app.inputs.images import phantom, upload
from scripts import record_runs


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS])


def test_a_run_opens_with_the_anchor_then_steps_then_ends(session):
    events = list(session.run("tiny", phantom(3), settings(steps=4, members=2)))
    assert [type(e) for e in events] == [Opening, Frame, Frame, Frame, Frame, RunOutput]
    assert events[0].anchor[0].shape == (32, 32)
    frames = events[1:5]
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert [f.t for f in frames] == sorted((f.t for f in frames), reverse=True)
    assert frames[0].planes
    assert isinstance(events[-1].recording, Recording)


def test_a_run_needs_nothing_that_only_training_installs(session, monkeypatch):
    for name in ("monai", "accelerate", "scipy", *(name for name in sys.modules if name.startswith("monai."))):
        monkeypatch.setitem(sys.modules, name, None)  # importing it raises an error
    *_, finished = session.run("tiny", phantom(3), settings(steps=2, members=2))
    assert finished.recording.facts["dice"]


def test_interleaved_runs_do_not_affect_each_other(session):
    chosen = settings(steps=3, members=2)
    alone = [f for f in session.run("tiny", phantom(3), chosen) if isinstance(f, Frame)]
    one, other = (session.run("tiny", phantom(seed), chosen) for seed in (3, 7))
    woven = [event for pair in zip(one, other, strict=True) for event in pair][::2]
    for a, b in zip(alone, [f for f in woven if isinstance(f, Frame)], strict=True):
        np.testing.assert_array_equal(a.x_0, b.x_0)


def test_a_run_that_is_closed_ends_there(session):
    with closing(session.run("tiny", phantom(3), settings())) as events:
        next(events)
        next(events)
    with pytest.raises(StopIteration):
        next(events)


def test_a_volume_opens_along_the_axis_of_the_task(tmp_path):
    for card, sides in ((catalogue.card(catalogue.shipped()["hippocampus-v2"]), (14, 12)), (None, (12, 10))):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((14, 12, 10), np.float32)), str(tmp_path / "a.nii.gz"))
        picture = upload(str(tmp_path / "a.nii.gz"), card).picture
        assert (picture.height, picture.width) == sides


def test_files_hold_the_exact_values_of_the_result(session, tmp_path):
    *_, finished = session.run("tiny", phantom(3), settings(steps=2))
    paths = write_result(tmp_path, finished)
    np.testing.assert_array_equal(np.asarray(Image.open(paths["mask"])), finished.result.labels)
    stored = np.asarray(Image.open(paths["probability"])) / 65535
    # rounding to 16 bits moves a value by half a level at most
    np.testing.assert_allclose(stored, 1 - finished.result.probability[0], atol=0.6 / 65535)


@pytest.mark.parametrize("name", ["/etc", "../checkpoints", "owner/name@main", ""])
def test_a_checkpoint_is_chosen_by_name_and_never_by_path(session, name):
    with pytest.raises(ValueError, match="choose one of tiny"):
        session.segmenter(name)


@pytest.mark.parametrize("repository", ["/etc", "..", "a/b/c", "owner"])
def test_hub_names_must_be_owner_and_name(session, repository):
    with pytest.raises(ValueError, match="write owner/name"):
        session.fetch(repository, "main")


def test_the_page_opens_with_v2_where_readers_disagree():
    assert next(iter(catalogue.shipped())) == f"{catalogue.OPENING_TASK}-v2"


def offered(monkeypatch, *folders):
    """Return the checkpoints, folders by name, that `python app.py --checkpoint FOLDER ...` offers."""
    from app import gradio_ui

    sessions: list[Session] = []

    def serve(session, **_):
        sessions.append(session)
        return "", lambda: None

    monkeypatch.setattr(gradio_ui, "serve", serve)
    for name in ("warm", "prefetch"):
        monkeypatch.setattr(Session, name, lambda self: None)
    arguments = (word for folder in folders for word in ("--checkpoint", str(folder)))
    monkeypatch.setattr(sys, "argv", ["app.py", "--device", "cpu", *arguments])
    runpy.run_path(str(catalogue.ROOT / "app.py"), run_name="started")["main"]()
    return sessions[0].sources


def test_every_checkpoint_given_is_offered_beside_those_shipped(checkpoint, monkeypatch, tmp_path):
    names = {
        "a/checkpoint": "a",
        "b/checkpoint": "b",
        "b/best": "b-best",
        "more/b/best": "more-b-best",
        "model": "model",
        "c/model": "c-model",
        "d/skin-lesion-v2": "d-skin-lesion-v2",
    }
    own = {name: str(shutil.copytree(checkpoint, tmp_path / "runs" / folder)) for folder, name in names.items()}
    found = offered(monkeypatch, *own.values(), own["a"])  # one of them twice
    assert list(found.items()) == [*own.items(), *Session(catalogue.shipped(), "cpu").sources.items()]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('"task": "skin-lesion"', '"task": "../skin"'), r"mine: .*task is '\.\./skin'"),
        (lambda text: text[:-20], r"mine: .*config\.json is not JSON"),
        (lambda text: None, r"mine: .*config\.json is missing"),
    ],
    ids=["task", "cut short", "missing"],
)
def test_a_checkpoint_with_an_invalid_config_is_refused_at_the_start(
    checkpoint, monkeypatch, tmp_path, change, sentence
):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "mine"))
    text = change((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    if text:
        (folder / "config.json").write_text(text)
    with pytest.raises(SystemExit, match=sentence) as refused:
        offered(monkeypatch, folder)
    assert "\n" not in str(refused.value.code)


def test_recordings_are_named_as_the_page_names_their_checkpoints(checkpoint, monkeypatch, tmp_path):
    own = [str(shutil.copytree(checkpoint, tmp_path / run / "checkpoint")) for run in ("a", "b")]
    name, folder = next(iter(catalogue.shipped().items()))
    own.append(os.path.relpath(folder))  # as one types it; the catalogue has an absolute path
    named: list[str] = []
    monkeypatch.setattr(record_runs, "hardest", lambda session, name, seeds: named.append(name) or {})
    words = ["--hard", "1", "--out", str(tmp_path), *(word for folder in own for word in ("--checkpoint", folder))]
    monkeypatch.setattr(sys, "argv", ["record_runs", *words])
    record_runs.main()
    assert named == ["a", "b", name] == list(offered(monkeypatch, *own))[:3]


def test_a_shipped_checkpoint_can_be_offered_first(monkeypatch):
    *_, (name, folder) = (shipped := catalogue.shipped()).items()
    found = offered(monkeypatch, folder)
    assert next(iter(found)) == name
    assert found.keys() == Session(shipped, "cpu").sources.keys()
