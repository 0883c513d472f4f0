"""Overlapping events: the latest choice wins."""

import copy
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from browser_input import choose, settled, turn, wait_until
from playwright.sync_api import expect

from app.core import catalogue, links
from app.core.session import Session
from app.gradio_ui.page_state import LatestRequest, PageState
from app.inputs import volumes


@pytest.fixture(scope="module")
def address(checkpoint):
    from app import gradio_ui

    return gradio_ui.serve(Session({"tiny": str(checkpoint), "other": str(checkpoint)}, "cpu"))[0]


@pytest.fixture
def brake(monkeypatch):
    """Block the event that selects a checkpoint, after it has read the image, until released."""
    begun, release, turn = threading.Event(), threading.Event(), volumes.turn

    def slowly(*arguments):
        begun.set()
        release.wait(60)
        return turn(*arguments)

    monkeypatch.setattr(volumes, "turn", slowly)
    yield begun, release
    release.set()


def test_an_image_uploaded_while_a_checkpoint_is_selected_stays(page, lesion, brake):
    begun, release = brake
    choose(page, "other")
    assert begun.wait(60)
    page.set_input_files("#upload input[type=file]", lesion)
    page.wait_for_selector("text=256 × 192 pixels")
    with page.expect_response(lambda answer: "/run/predict" in answer.url or "/queue/join" in answer.url):
        release.set()
    settled(page)
    expect(page.locator("#file-name")).to_contain_text("256 × 192 pixels")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")
    assert "Dice" not in page.locator("#facts").inner_text()  # only phantoms have a ground truth


def test_a_tab_opened_while_a_checkpoint_is_selected_stays(page, recorded, brake, monkeypatch):
    monkeypatch.setattr(catalogue, "recordings", lambda: {("other", 7): recorded})
    begun, release = brake
    page.locator("#tabs input[value=ensemble]").check(force=True)
    settled(page)
    choose(page, "other")
    assert begun.wait(60)
    page.locator("#tabs input[value=inside]").check(force=True)
    release.set()
    expect(page.locator("#diagram .block[data-panel=anchor]").first).to_be_visible()
    settled(page)
    expect(page.locator(".area-stage")).to_have_attribute("data-tab", "inside")


def test_a_tab_shows_the_latest_checkpoint_even_if_it_was_shown_for_the_one_before():
    latest, seen = LatestRequest(), []
    tab = SimpleNamespace(show=lambda selection, w: seen.append(selection) or {})
    states = SimpleNamespace(drawn="drawn")
    page = cast(Any, SimpleNamespace(tabs={"inside": tab}, states=states, selection=lambda *given: given))
    run = cast(Any, "run of the checkpoint before")
    PageState.enter(page, latest, "inside", ("inside",), {}, "tiny", "en", 7, run, "other")
    assert seen == [(7, None, "other", {})]
    PageState.enter(page, latest, "inside", ("inside",), {}, "other", "en", 7, None, "other")
    assert len(seen) == 1
    assert latest.tab == "inside"


@pytest.mark.parametrize(
    ("choice", "of_volume", "ends"),
    [
        ({"pictures": 1}, False, True),
        ({"pictures": 1}, True, True),
        ({"slices": 1}, False, True),
        ({"slices": 1}, True, False),  # a run of all slices continues
        ({"checkpoint": "other"}, True, True),
        ({"checkpoint": "tiny"}, False, False),  # the same checkpoint
        ({"language": "zh"}, False, False),
    ],
)
def test_a_run_ends_when_the_selection_changes(choice, of_volume, ends):
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


@pytest.mark.parametrize("under_way", [True, False])
def test_an_event_gets_the_image_of_a_choice_that_was_being_shown(under_way):
    latest, states = LatestRequest(), SimpleNamespace(image="image", finished_run="run")
    page = cast(Any, SimpleNamespace(states=states))
    assert PageState.current(page, latest, ["language", "image", "run"], ["en", 1, "of 1"]) == ["en", 1, "of 1"]
    begun = threading.Event()

    def choose():
        with latest.choosing():
            begun.set()
            time.sleep(0.2)
            latest.choose(2)

    choice = threading.Thread(target=choose)
    choice.start()
    assert begun.wait(10)
    if not under_way:  # its image has not reached the session yet
        choice.join()
    assert PageState.current(page, latest, ["language", "image", "run"], ["en", 1, "of 1"]) == ["en", 2, None]
    choice.join()


def test_a_run_that_ends_after_another_choice_is_not_kept_with_that_choice():
    latest, run = LatestRequest(), cast(Any, "run")
    latest.ran(None, "tiny", run)
    assert latest.finished_run == "run"
    latest.choose(2)
    latest.ran(None, "tiny", run)
    assert latest.finished_run is None
    latest.checkpoint = "other"
    latest.ran(2, "tiny", run)
    assert latest.finished_run is None
    latest.ran(2, "other", run)
    assert latest.finished_run == "run"


def test_what_is_scored_is_not_shown_once_another_image_has_been_chosen():
    latest = LatestRequest()
    assert latest.unless_another("tiny", lambda: {"scores": 1}, {}) == {"scores": 1}

    def slow():
        latest.pictures += 1
        return {"scores": 1}

    assert latest.unless_another("tiny", slow, {}) == {}


def begin(page, steps):
    turn(page, steps=steps)
    page.locator("#run").click()
    page.wait_for_selector(f"#film-steps >> text=/of {steps} ·/")


def test_an_upload_ends_the_run_of_another_image(page, lesion, ended, slow_steps):
    begin(page, 12)
    page.set_input_files("#upload input[type=file]", lesion)
    expect(page.locator("#file-name")).to_contain_text("256 × 192 pixels")
    expect(page.locator("#get-zip")).to_be_visible()  # of the upload, which is run next
    assert "Dice" not in page.locator("#facts").inner_text()
    wait_until(page, lambda: len(ended) == 2)  # the page shows the last event before the run is asked for another
    assert ended[0] < ended[1] == 14  # the opening, every step, the end


def test_a_run_ends_in_the_latest_language(page, slow_steps):
    begin(page, 5)
    page.locator(".language label", has_text="中文").click()
    page.wait_for_selector("#get-zip", state="visible")
    page.wait_for_selector("#film-steps >> text=结果")
    assert "刚刚" in page.locator("#facts").inner_text()


@pytest.mark.parametrize("slow_steps", [2.0], indirect=True)
def test_a_waiting_run_is_marked_and_can_be_cancelled(page, visit, address, slow_steps):
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


def test_no_input_is_accepted_before_initialisation(visit, address, monkeypatch):
    release, parse = threading.Event(), links.parse
    monkeypatch.setattr(links, "parse", lambda *given: release.wait(60) and parse(*given))
    page = visit(address)
    page.goto(address)
    page.wait_for_selector(".layout[inert]")
    release.set()
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")


def test_the_page_works_if_initialisation_fails(visit, address):
    page = visit(address)
    page.route("**/run/predict*", lambda route: route.fulfill(status=500, body="{}"))
    page.goto(address)
    page.wait_for_selector(".layout[inert]")
    page.wait_for_selector(".layout:not([inert])")
    page.unroute("**/run/predict*")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")


def applied(values, edits):
    """Apply edits as Gradio's page does, in place."""
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


def test_later_updates_do_not_change_pending_ones():
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
    assert arrived == run  # although the browser has rendered none of them


def test_a_slow_browser_shows_the_result_of_a_short_run(page):
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})  # as slow as a phone
    page.locator("#run").click()
    page.wait_for_selector("#film-steps .film[data-shown=run]")
    page.wait_for_selector("#get-zip", state="visible")
