"""The course in a browser: all chapters in both languages, scrubbing, narrow screens and printing."""

import os
import re
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from app.core import catalogue
from app.course.chapters import CHAPTERS
from app.course.visit import TEACHER
from app.i18n import LANGUAGES, words

pytestmark = pytest.mark.slow
KEYS = [*(c.key for c in CHAPTERS), TEACHER]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a course server, started as by `make course`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("course") / "log"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.headless=true"]
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=catalogue.ROOT, env=os.environ, stdout=out, stderr=out)
    found = f"http://localhost:{port}"
    try:
        for _ in range(120):
            try:
                urlopen(f"{found}/_stcore/health", timeout=2)
                break
            except (URLError, OSError):
                time.sleep(0.5)
        yield found
    finally:
        server.terminate()
        server.wait(20)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def page(visit, address):
    """A page that makes requests to its server only, without errors."""
    page = visit(address, viewport={"width": 1440, "height": 900})
    page.set_default_timeout(180_000)
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    return page


def sound(page):
    """Check that the chapter is rendered completely and without errors."""
    page.wait_for_selector(".foot")
    page.wait_for_selector(".stSpinner", state="detached")
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.locator("[data-testid=stAlert]").count() == 0
    assert page.locator("[data-testid=stMain]").evaluate(
        "e => e.scrollWidth <= e.clientWidth"
    )  # no horizontal scrolling


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_chapters_render_without_errors(page, address, language):
    w = words(language, "course")
    page.goto(f"{address}/?lang={language}")
    for i, key in enumerate(KEYS):
        if i:
            title = w("teacher.title") if key == TEACHER else f"{i + 1}. {w(f'course.{key}.title')}"
            page.locator("[data-testid=stSidebar] label", has_text=title).last.click()
        heading = w("teacher.title") if key == TEACHER else w(f"course.{key}.title")
        page.wait_for_selector(f"h1.question:has-text('{heading}')")
        sound(page)
        if key not in ("own", TEACHER):
            page.wait_for_selector(".film[data-shown=run]")
        assert f"chapter={key}" in page.url


@pytest.mark.parametrize("key", ["raters", "parser", TEACHER])
def test_no_horizontal_scrolling_on_a_phone(page, address, key):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/?chapter={key}&lang=zh")
    sound(page)


def test_scrubbing_completes_a_task_and_updates_the_numbers(page, address):
    page.goto(f"{address}/?chapter=forward&lang=en")
    line = page.locator(".film input[type=range]").first
    line.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".tasks li.done")
    expect(page.locator(".facts dd").first).to_have_text("999")
    expect(page.locator(".film .now").first).to_contain_text("t = 999")


def test_a_block_of_the_map_opens_its_chapter_and_is_marked_there(page, address):
    page.goto(f"{address}/?chapter=forward&lang=en")
    sound(page)
    page.locator("summary", has_text=words("en", "course")("course.map")).click()
    expect(page.locator(".diagram [aria-pressed=true]")).to_have_count(1)  # the noisy mask
    page.locator(".diagram [data-panel=parser]").first.click()
    page.wait_for_selector("h1.question:has-text('FF-Parser')")
    expect(page.locator(".diagram [data-panel=parser][aria-pressed=true]")).to_have_count(2)
    page.wait_for_function("location.search.includes('chapter=parser')")


def test_faders_show_the_chosen_filter_and_are_reset(page, address):
    page.goto(f"{address}/?chapter=parser&lang=en")
    sound(page)
    gains, last = page.locator(".equaliser output"), page.locator(".equaliser input").last
    w = words("en", "course")
    box = page.get_by_role("combobox", name=w("control.filter.label"))

    def choose(name):
        box.click()
        page.get_by_role("option", name=w(f"control.filter.{name}"), exact=True).click()

    choose("lowpass")
    expect(gains).to_have_text([*["1.0"] * 2, *["0.0"] * 7])
    expect(last).to_have_value("0")
    last.press("ArrowUp")
    expect(gains).to_have_text([*["1.0"] * 2, *["0.0"] * 6, "0.1"])
    expect(box).to_have_value(w("control.filter.own"), timeout=30_000)
    choose("closed")
    expect(gains).to_have_text(["0.0"] * 9)
    page.locator(".st-key-reset button").click()
    expect(gains).to_have_text(["1.0"] * 9)


def test_a_symbol_outlines_what_shows_it_and_has_its_current_value(page, address):
    page.goto(f"{address}/?chapter=forward&lang=en")
    sound(page)
    noisy, snr = page.locator(".film canvas").first, page.locator(".facts > div").nth(1)
    page.locator(".symbol-0").hover()
    expect(noisy).to_have_css("outline-style", "solid")
    expect(snr).to_have_css("outline-style", "none")
    page.locator(".symbol-4").focus()  # and without a pointer
    expect(snr).to_have_css("outline-style", "solid")
    page.locator(".film input[type=range]").first.press("End")
    expect(page.locator(".symbol-1 b")).to_have_text("999")


def test_on_a_phone_picture_and_timeline_stay_in_view_and_the_controls_are_in_a_drawer(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/?chapter=forward&lang=zh")
    sound(page)
    picture, line = page.locator(".film canvas").first, page.locator(".film input[type=range]").first
    control = page.locator("[class*=st-key-forward-kind]")
    page.locator(".symbol-0").scroll_into_view_if_needed()
    for part in (picture, line):
        expect(part).to_be_in_viewport(ratio=0.99)
    expect(control).to_be_hidden()
    page.locator(".st-key-drawer summary").click()
    control.get_by_role("radio").last.click()
    expect(page.locator(".tasks li.done")).to_have_count(1)  # the schedule is cosine
    for part in (control, picture):
        expect(part).to_be_in_viewport(ratio=0.99)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", ["raters", "transformer", "training"])
def test_a_chapter_prints_on_one_page(page, address, key, language):
    page.goto(f"{address}/?chapter={key}&lang={language}&print=1")
    page.wait_for_selector(".tasks")
    page.wait_for_selector(".katex")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.evaluate("document.fonts.ready")
    paper = page.pdf(format="A4", print_background=False)
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", paper))
    assert pages == 1
