"""A visitor in a hurry: of two choices that overlap on their way, the one made last is the one that stays."""

import copy
import threading

import pytest
from browser_input import turn
from playwright.sync_api import expect

from app.core import links
from app.core.session import Session
from app.gradio_ui.page_state import LatestRequest
from app.inputs import volumes


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
    latest, closed = LatestRequest(), threading.Event()

    def run():
        try:
            yield from ({"step": i} for i in range(3))
        finally:
            closed.set()

    shown = latest.until_another("tiny", run(), of_volume=of_volume)
    next(shown)
    for name, value in choice.items():
        setattr(latest, name, value)
    assert [update["step"] for update in shown] == ([] if ends else [1, 2])
    assert closed.is_set()


def begin(page, steps):
    turn(page, steps=steps)
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
    other.wait_for_selector("body[data-ready]")
    begin(page, 50)
    run = other.locator("#run")
    for _ in range(2):
        run.click()
        other.wait_for_selector("#run[data-waiting=排队中]")
        assert "排队中" in run.evaluate("button => getComputedStyle(button, '::after').content")
        other.locator("#stop").click()
        other.wait_for_selector("#stop:disabled")
        other.wait_for_selector("#run:not([data-waiting])")
    other.locator("#tabs input[value=comparison]").check(force=True)
    other.locator("#compare").click()
    other.wait_for_selector("#compare[data-waiting]")
    run.click()
    other.wait_for_selector("#run[data-waiting]")
    other.locator("#stop").click()
    other.wait_for_selector("#run:not([data-waiting])")
    expect(other.locator("#compare[data-waiting]")).to_have_count(1)  # which waits on
    page.locator("#stop").click()
    other.wait_for_selector("#compared table")
    expect(other.locator("[data-waiting]")).to_have_count(0)
    expect(page.locator("[data-waiting]")).to_have_count(0)


def test_nothing_is_begun_that_the_greeting_would_take_away(visit, address, monkeypatch):
    release, parse = threading.Event(), links.parse
    monkeypatch.setattr(links, "parse", lambda *given: release.wait(60) and parse(*given))
    page = visit(address)
    page.goto(address)
    page.wait_for_selector(".layout[inert]")
    release.set()
    page.locator("#run").click()
    page.wait_for_selector("#get-mask", state="visible")


def test_a_greeting_that_fails_leaves_a_page_that_works(visit, address):
    page = visit(address)
    page.route("**/run/predict*", lambda route: route.fulfill(status=500, body="{}"))
    page.goto(address)
    page.wait_for_selector(".layout[inert]")
    page.wait_for_selector(".layout:not([inert])")
    page.unroute("**/run/predict*")
    page.locator("#run").click()
    page.wait_for_selector("#get-mask", state="visible")


def applied(values, edits):
    """What Gradio's page makes of edits: it writes them into the very values that came before."""
    for i, changes in enumerate(edits):
        for action, path, new in changes:
            holder = values if not path else values[i]
            for key in path[:-1]:
                holder = holder[key]
            key = path[-1] if path else i
            if action == "delete":
                del holder[key]
            elif action == "add" and isinstance(holder, list):
                holder.insert(key, new)
            else:
                holder[key] = holder[key] + new if action == "append" else new
    return list(values)


def test_what_is_sent_later_changes_nothing_that_waits_to_be_shown():
    import gradio as gr

    from app.gradio_ui.gradio_overrides import Page

    with Page() as page:
        widgets = [gr.HTML(), gr.HTML(), gr.HTML()]
        event = gr.on(None, lambda: [None] * 3, None, widgets)
    function = page.fns[event["id"]]
    run = [
        [{"shown": "live", "steps": [1]}, {"__type__": "update", "visible": False}, "a"],
        [{"shown": "live", "steps": [1, 2]}, {"__type__": "update"}, "ab"],
        [{"shown": "run", "steps": [3]}, {"__type__": "update", "visible": True}, "ab"],
        [{"__type__": "update"}, {"__type__": "update"}, "c"],
    ]
    arrived, held = [], []
    for values in copy.deepcopy(run):
        sent = page.handle_streaming_diffs(function, values, session_hash="one", run="first", final=False)
        held = applied(held, sent) if arrived else sent
        arrived.append(list(held))
    assert arrived == run  # though the browser has come to show none of them


def test_a_slow_browser_shows_how_a_quick_run_ended(page):
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})  # a telephone
    page.locator("#run").click()
    page.wait_for_selector("#film-steps .film[data-shown=run]")
    page.wait_for_selector("#get-mask", state="visible")
