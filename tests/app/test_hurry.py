"""A visitor in a hurry: of two choices that overlap on their way, the one made last is the one that stays."""

import threading

import pytest

from app import volumes
from app.session import Session


@pytest.fixture(scope="module")
def address(checkpoint):
    from app import gradio_ui

    return gradio_ui.serve(Session({"tiny": str(checkpoint), "other": str(checkpoint)}, "cpu"))[0]


@pytest.fixture
def brake(monkeypatch):
    """Holds the choice of a checkpoint up, once it has begun and looked at the picture, until it is released."""
    begun, release, turn = threading.Event(), threading.Event(), volumes.turn

    def slowly(*arguments):
        begun.set()
        release.wait(60)
        return turn(*arguments)

    monkeypatch.setattr(volumes, "turn", slowly)
    yield begun, release
    release.set()


def test_a_picture_brought_while_a_checkpoint_is_being_chosen_stays(page, lesion, brake):
    begun, release = brake
    page.locator("#checkpoint input").click()
    page.locator("[role=option]", has_text="other").click()
    assert begun.wait(60)
    page.set_input_files("#upload input[type=file]", lesion)
    page.wait_for_selector("text=192 × 256 pixels")
    with page.expect_response(lambda answer: "/run/predict" in answer.url or "/queue/join" in answer.url):
        release.set()
    page.wait_for_timeout(500)  # what has arrived is on the screen
    assert "192 × 256 pixels" in page.locator("#film-steps").inner_text()
    page.locator("#run").click()
    page.wait_for_selector("#get-mask", state="visible")
    assert "Dice" not in page.locator("#facts").inner_text()  # of a drawn picture the truth is known
