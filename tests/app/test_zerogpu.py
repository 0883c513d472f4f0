"""Runs in a ZeroGPU Space: another process, with pickled arguments and results."""

import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from app.core.frames import Frame, Opening
from app.core.session import RunOutput, Session
from app.core.settings import CONTROLS, read
from app.inputs.images import phantom


@pytest.fixture
def spaces(monkeypatch):
    """Replace the `spaces` package: pickle arguments and events, and record the functions that ran."""
    asked = []

    def gpu(function):
        def beside(*args):
            asked.append(function.__name__)
            for event in function(*pickle.loads(pickle.dumps(args))):
                yield pickle.loads(pickle.dumps(event))

        return beside

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    threads = torch.get_num_threads()
    yield asked
    torch.set_num_threads(threads)  # another process would not change it here


def chosen(**values):
    return read([values.get(control.field, control.default) for control in CONTROLS])


def test_a_run_on_zerogpu_gives_the_same_result(session, spaces):
    settings = chosen(steps=3, members=2, trace=True)
    *_, here = session.run("tiny", phantom(3), settings)
    assert not spaces  # a session created outside ZeroGPU does not use it
    events = list(Session(session.sources).run("tiny", phantom(3), settings))
    assert spaces == ["_watch_on_gpu"]
    assert [type(event) for event in events] == [Opening, Frame, Frame, Frame, RunOutput]
    assert events[-1].result.sidecar()["mask"] == here.result.sidecar()["mask"]


def test_errors_on_zerogpu_keep_their_message(session, spaces):
    with pytest.raises(ValueError, match="this checkpoint runs at multiples of"):
        list(Session(session.sources).run("tiny", phantom(3), replace(chosen(), size=100)))
