"""What a ZeroGPU Space asks of a run: a process of its own, with everything that goes in and comes out pickled."""

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
def temporary_upload(monkeypatch):
    """Stand in for the `spaces` package: hand arguments in and events out as bytes, and note who ran."""
    asked = []

    def lend(function):
        def beside(*args):
            asked.append(function.__name__)
            for event in function(*pickle.loads(pickle.dumps(args))):
                yield pickle.loads(pickle.dumps(event))

        return beside

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    threads = torch.get_num_threads()
    yield asked
    torch.set_num_threads(threads)  # a process of its own would have kept its number to itself


def chosen(**values):
    return read([values.get(control.field, control.default) for control in CONTROLS])


def test_a_run_beside_a_lent_card_is_the_run_taken_here(session, temporary_upload):
    settings = chosen(steps=3, members=2, trace=True)
    *_, here = session.run("tiny", phantom(3), settings)
    assert not temporary_upload  # a session that was made where no card is lent never asks for one
    events = list(Session(session.sources).run("tiny", phantom(3), settings))
    assert temporary_upload == ["_watch_on_gpu"]
    assert [type(event) for event in events] == [Opening, Frame, Frame, Frame, RunOutput]
    assert events[-1].result.sidecar()["mask"] == here.result.sidecar()["mask"]


def test_a_run_refused_beside_the_card_says_why(session, temporary_upload):
    with pytest.raises(ValueError, match="this checkpoint runs at multiples of"):
        list(Session(session.sources).run("tiny", phantom(3), replace(chosen(), size=100)))
