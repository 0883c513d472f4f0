"""The tabs of the page in a browser: changes, comparisons, reference masks, links and accessibility."""

import re

import numpy as np
import pytest
from browser_input import settled, unfold
from PIL import Image
from playwright.sync_api import expect

from app.analysis.reference_mask import score
from app.core import links
from app.core.settings import CONTROLS

# Findings in Gradio's own markup, which this page cannot fix: (rule, part of the element).
ALLOWED = (
    ("image-redundant-alt", 'alt="Settings"'),  # in its footer
    ("aria-prohibited-attr", 'aria-label="Empty value"'),  # until a chart is loaded
    ("aria-prohibited-attr", 'data-testid="image"'),  # until the editor is loaded
)


def check_members(page, members):
    page.wait_for_selector("#film-steps .film[data-shown=run]")
    page.locator("#settings button").first.click()
    page.wait_for_function(f"document.querySelector('#set-members input[type=number]')?.value === '{members}'")


def enter(page, tab):
    page.wait_for_selector("body[data-ready]")
    page.locator(f"#tabs input[value={tab}]").check(force=True)
    page.wait_for_selector(f".page-tab-{tab}", state="visible")


def test_a_component_is_changed_on_the_same_noise(page):
    enter(page, "inside")
    page.wait_for_function("document.querySelector('.parts').dataset.part === 'anchor'")
    page.locator("#which-anchor label").nth(1).click()  # a different sigma
    page.wait_for_selector("#dial-sigma-sigma", state="visible")
    page.locator("#again-anchor").click()
    page.wait_for_selector("#film-pair-anchor .film[data-shown=run]")
    text = page.locator("#summary-anchor").inner_text()
    assert text.startswith("Dice between the two masks: ")
    assert "against the ground truth" in text
    expect(page.locator("#film-pair-anchor canvas")).to_have_count(3)
    steps = page.locator("#film-pair-anchor input[type=range]")
    expect(steps).to_have_attribute("max", "11")  # ten steps between the opening and the result


def test_a_block_follows_the_timeline_and_opens_its_panel(page):
    enter(page, "inside")
    blocks = page.locator("#diagram .block")
    expect(blocks).to_have_count(13)
    noisy = blocks.filter(has_text="Noisy mask xₜ")
    shown = "block => block.querySelector('svg').getAttribute('viewBox').split(' ')[0]"
    page.locator("#timeline .time input").press("End")  # the opening film may still be playing in the other tab
    expect(noisy).to_have_attribute("aria-label", re.compile("Result"))
    last = float(noisy.evaluate(shown))
    other = page.locator("#film-steps button.play")  # the same run's film in the first tab
    other.evaluate("button => button.click()")
    expect(noisy).not_to_have_attribute("aria-label", re.compile("Result"))
    page.locator("#timeline .time input").press("Home")
    page.locator("#timeline .time input").press("ArrowRight")
    expect(other).to_have_attribute("title", "Play")  # it has paused, so the step chosen here stays
    expect(noisy).to_have_attribute("aria-label", re.compile("step 1 of 10"))
    assert 0 < float(noisy.evaluate(shown)) < last
    expect(blocks.filter(has_text="t = 999")).to_have_class(re.compile("active"))
    page.locator("#diagram [data-panel=transformer]").first.press("Enter")
    expect(page.locator("#diagram [aria-pressed=true] text")).to_have_text(["NBP-Filter", "SS-Former"])
    expect(page.locator(".part-transformer")).to_be_focused()
    expect(page.locator("#film-transformer .now")).to_contain_text("Step 1 of 10")


def test_two_setups_are_compared_with_a_slider(page):
    enter(page, "comparison")
    page.locator("#a-steps input[type=number]").fill("2")
    page.locator("#a-steps input[type=number]").press("Tab")
    page.locator("#compare").click()
    page.wait_for_selector("#compared table")
    head = page.locator("#compared thead").inner_text()
    assert "steps: 2" in head
    assert "without diffusion (anchor only)" in head  # there is no other model for this task
    expect(page.locator("#slider img")).to_have_count(2)
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")
    enter(page, "comparison")
    settled(page)
    assert page.locator("#compared thead").inner_text() == head  # kept for the same image
    page.locator("#examples img").nth(1).click()
    page.wait_for_selector("#compared table", state="hidden")


def test_displayed_scores_match_the_downloads(page):
    enter(page, "reference_mask")
    page.wait_for_selector("#scores table")
    arrays = {}
    for name in ("mask", "reference"):
        with page.expect_download() as download:
            page.locator(f"#get-reference-{name}").click()
        arrays[name] = np.asarray(Image.open(download.value.path()))
    found = score(arrays["mask"], arrays["reference"], ["lesion"])[0]
    cells = page.locator("#scores tbody td").all_inner_texts()
    assert cells == [f"{found.dice:.4f}", f"{found.iou:.4f}", f"{found.hd95:.2f}"]


def test_an_uploaded_mask_is_scored(page, tmp_path):
    enter(page, "reference_mask")
    page.wait_for_selector("#scores table")
    half = np.zeros((256, 256), np.uint8)
    half[:, :128] = 255
    Image.fromarray(half).save(tmp_path / "mine.png")
    with page.expect_file_chooser() as chooser:
        page.locator("#upload-reference").click()
    chooser.value.set_files(tmp_path / "mine.png")
    page.wait_for_function("document.querySelector('#scores').textContent.includes('you uploaded')")
    with page.expect_download() as download:
        page.locator("#get-reference-reference").click()
    np.testing.assert_array_equal(np.asarray(Image.open(download.value.path())), half // 255)
    cells = page.locator("#scores tbody td").all_inner_texts()
    page.locator(".language label", has_text="中文").click()
    expect(page.locator("#scores")).to_contain_text("您上传的")
    assert page.locator("#scores tbody td").all_inner_texts() == cells


def test_a_member_is_selected_and_downloaded(page):
    enter(page, "ensemble")
    unfold(page, "#fold-pick", "#members button")
    page.locator("#members button").nth(1).click()
    page.wait_for_selector("#members button:nth-child(2)[aria-pressed=true]")
    with page.expect_download() as download:
        page.locator("#get-member").click()
    assert download.value.suggested_filename == "skin-lesion-7-member-2.png"
    assert set(np.unique(np.asarray(Image.open(download.value.path())))) <= {0, 1}


def test_the_threshold_changes_the_mask_without_a_request(page):
    enter(page, "ensemble")
    covers = page.locator("#uncertainty .covers")
    expect(covers).to_contain_text("Above the threshold 0.50")
    settled(page)
    asked, shares = [], []
    page.on("request", lambda request: asked.append(request.url))
    for threshold in ("1", "50", "99"):
        page.locator("#uncertainty input[type=range]").fill(threshold)
        shares.append(float(re.findall(r"covers ([\d.]+) %", covers.inner_text())[0]))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    assert not asked


def test_a_link_restores_settings_and_hides_parts(page, address):
    values = [3 if control.field == "steps" else control.default for control in CONTROLS]
    query = links.write(values, language="zh", example=3, tab="reference_mask", hide=["upload"])
    page.goto(address + query)
    page.wait_for_selector("#examples button:nth-child(2)[aria-pressed=true]")
    page.wait_for_function("document.querySelector('#scores')?.textContent.includes('请先')")  # 3 has no run yet
    page.locator("#settings button").first.click()
    expect(page.locator("#set-steps input[type=number]")).to_have_value("3")
    expect(page.locator("#upload")).to_be_hidden()
    expect(page.locator("#share")).to_be_hidden()


def test_a_link_is_shown_only_while_it_restores_what_is_shown(page):
    page.wait_for_selector("body[data-ready]")
    unfold(page, "#share", "#make-link")
    for change in ("#examples button:nth-child(2)", "#tabs input[value=inside]"):
        page.locator("#make-link").click()
        expect(page.locator("#link textarea")).to_have_value(re.compile("^http"))
        page.locator(change).click(force=True)
        expect(page.locator("#link")).to_be_hidden()
        settled(page)


def test_an_unlike_image_gives_a_warning_before_the_run(page, tmp_path):
    Image.fromarray(np.full((40, 200), 90, np.uint8)).save(tmp_path / "grey.png")
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "grey.png")
    page.wait_for_selector("#domain .doubt")
    text = page.locator("#domain").inner_text()
    assert "it is nearly uniform" in text
    assert "200 × 40 pixels would be distorted" in text


def test_closing_the_browser_tab_frees_its_place_in_the_queue(page, browser, address):
    other = browser.new_context(locale="en-US").new_page()
    other.goto(address + "?steps=50&members=25&size=512")  # would take minutes
    check_members(other, members="25")
    other.locator("#run").click()
    other.wait_for_function("document.querySelector('#film-steps .now').textContent.startsWith('Step ')")
    other.context.close()
    page.goto(address + "?steps=1&members=1")
    check_members(page, members="1")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")


@pytest.mark.parametrize("look", [("light", "en", 1280), ("dark", "zh", 390)])
def test_axe_finds_no_violations(page, address, look):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    theme, language, width = look
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}?lang={language}&__theme={theme}")
    page.wait_for_selector("#film-steps .film[data-shown=run]")
    found = []
    for tab in ("run", "inside", "ensemble", "comparison", "reference_mask"):
        enter(page, tab)
        settled(page)
        for violation in axe.Axe().run(page).response["violations"]:
            for node in violation["nodes"]:
                if not any(rule == violation["id"] and part in node["html"] for rule, part in ALLOWED):
                    found.append(f"{tab}: {violation['id']}: {node['html'][:160]} {node['target']}")
    assert found == []


def test_films_have_text_alternatives_before_they_are_painted(visit, address):
    page = visit(address)
    page.add_init_script(
        "Object.defineProperty(HTMLImageElement.prototype, 'onload', { set() {} })"
    )  # sprites are never painted
    page.goto(address)
    page.wait_for_selector("#film-steps canvas")
    expect(page.locator("#film-steps canvas:not([aria-label])")).to_have_count(0, timeout=5000)


def test_no_horizontal_scrolling_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("inside", "ensemble", "comparison", "reference_mask"):
        enter(page, tab)
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, tab
