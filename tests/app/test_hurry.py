"""A visitor in a hurry: of two choices that overlap on their way, the one made last is the one that stays."""

import threading

import pytest
from playwright.sync_api import expect

from app import volumes
from app.gradio_ui.desk import Wish
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


@pytest.mark.parametrize(
    ("choice", "of_volume", "ends"),
    [
        ({"pictures": 1}, False, True),
        ({"pictures": 1}, True, True),
        ({"slices": 1}, False, True),
        ({"slices": 1}, True, False),  # one may look at slices while all are being segmented
        ({"checkpoint": "other"}, True, True),
        ({"checkpoint": "tiny"}, False, False),  # a link has chosen it again
        ({"language": "zh"}, False, False),
    ],
)
def test_a_run_is_of_what_was_chosen_when_it_began(choice, of_volume, ends):
    wish, closed = Wish(), threading.Event()

    def run():
        try:
            yield from ({"step": i} for i in range(3))
        finally:
            closed.set()

    shown = wish.until_another("tiny", run(), of_volume=of_volume)
    next(shown)
    for name, value in choice.items():
        setattr(wish, name, value)
    assert [update["step"] for update in shown] == ([] if ends else [1, 2])
    assert closed.is_set()


def begin(page, steps):
    page.locator("#settings > button").click()
    page.locator("#set-steps input[type=number]").fill(str(steps))
    page.locator("#set-steps input[type=number]").press("Enter")
    page.locator("#run").click()
    page.wait_for_selector(f"#film-steps >> text=/of {steps} ·/")


def test_a_picture_brought_while_another_is_being_segmented_ends_that_run_and_stays(page, lesion, ended, unhurried):
    begin(page, 50)
    page.set_input_files("#upload input[type=file]", lesion)
    page.wait_for_selector("text=192 × 256 pixels")
    page.wait_for_selector("#run:enabled")
    page.wait_for_timeout(500)  # what was on its way has come
    assert "192 × 256 pixels" in page.locator("#film-steps").inner_text()
    assert page.locator("#get-mask").is_hidden()
    assert ended[0] < 52  # the opening, every step, the end


def test_a_run_ends_in_the_language_that_was_chosen_meanwhile(page, unhurried):
    begin(page, 25)
    page.locator(".language label", has_text="中文").click()
    page.wait_for_selector("#get-mask", state="visible")
    page.wait_for_selector("#film-steps >> text=结果")
    assert "刚刚" in page.locator("#facts").inner_text()


def test_who_waits_in_line_is_told_so_and_may_leave(page, visit, address, unhurried):
    other = visit(address)
    other.goto(f"{address}?lang=zh")
    other.wait_for_function("document.documentElement.lang === 'zh'")
    begin(page, 50)
    run = other.locator("#run")
    for _ in range(2):
        run.click()
        other.wait_for_selector("#run[data-waiting=排队中]")
        assert "排队中" in run.evaluate("button => getComputedStyle(button, '::after').content")
        other.locator("#stop").click()
        other.wait_for_selector("#stop:disabled")
        other.wait_for_selector("#run:not([data-waiting])")
    run.click()
    other.wait_for_selector("#run[data-waiting]")
    page.locator("#stop").click()
    other.wait_for_selector("#get-mask", state="visible")
    expect(other.locator("[data-waiting]")).to_have_count(0)
    expect(page.locator("[data-waiting]")).to_have_count(0)
