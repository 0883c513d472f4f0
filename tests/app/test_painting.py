"""Painting a reference mask with the pointer in a browser, on the recorded run of a shipped checkpoint."""

import numpy as np
import pytest
from browser_input import settled
from PIL import Image

from app.analysis.reference_mask import score
from app.core import catalogue
from app.core.session import Session
from app.views import paint


@pytest.fixture(scope="module")
def address():
    from app import gradio_ui

    if not catalogue.recordings():
        pytest.skip("no checkpoint with recordings is shipped")
    return gradio_ui.serve(Session(catalogue.shipped(), "cpu"))[0]


def stroke(page, *places):
    """Paint a line through these points, given as fractions of the image's height and width."""
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    side = min(box["width"], box["height"]) * 0.8  # the square image is centred and does not fill the canvas
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    for i, (row, column) in enumerate(places):
        page.mouse.move(left + column * side, top + row * side, steps=2)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def on_screen(page, source):
    """Return the scores shown for this source, and those recomputed from the downloaded files."""
    with page.expect_request(lambda request: "/queue/join" in request.url):
        page.locator("#score").click()
    settled(page)  # a second score names the same source
    page.wait_for_function(f"document.querySelector('#scores').textContent.includes('{source}')")
    arrays = []
    for name in ("mask", "reference"):
        with page.expect_download() as download:
            page.locator(f"#get-reference-{name}").click()
        arrays.append(np.asarray(Image.open(download.value.path())))
    found = score(*arrays, ["lesion"])[0]
    cells = page.locator("#scores tbody td").all_inner_texts()
    assert cells == [f"{found.dice:.4f}", f"{found.iou:.4f}", f"{found.hd95:.2f}"]
    return found, arrays[1]


def test_scores_of_a_painted_mask_match_the_downloads(page):
    page.locator("#tabs input[value=reference_mask]").check(force=True)
    page.wait_for_selector("#scores table")
    page.wait_for_selector("#editor button[aria-label=Pan]:enabled")  # the image is on the canvas
    stroke(page, (0.3, 0.3), (0.3, 0.7))
    first, painted = on_screen(page, "you painted")
    rows, columns = np.nonzero(painted)
    assert painted.shape == (128, 128)  # that of the image
    assert columns.max() - columns.min() > 2 * (rows.max() - rows.min())  # the line has the painted orientation
    assert rows.mean() < 64
    stroke(page, (0.4, 0.3), (0.5, 0.7), (0.6, 0.3), (0.7, 0.7))
    second, more = on_screen(page, "you painted")
    assert more.sum() > painted.sum()
    assert (more[painted > 0] > 0).all()
    assert (second.dice, second.iou, second.hd95) != (first.dice, first.iou, first.hd95)
    page.locator("#editor button[aria-label='Clear canvas']").click()
    page.locator("#score").click()
    page.wait_for_selector(".toast-body >> text=nothing is painted")
    assert "Error" not in page.locator("#scores").inner_text()  # nor where only a screen reader finds it


def test_paint_stays_until_the_image_changes(page):
    page.locator("#tabs input[value=reference_mask]").check(force=True)
    page.wait_for_selector("#scores table")
    page.wait_for_selector("#editor button[aria-label=Pan]:enabled")
    stroke(page, (0.3, 0.3), (0.7, 0.7))
    _, painted = on_screen(page, "you painted")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")
    page.locator("#tabs input[value=reference_mask]").check(force=True)
    page.wait_for_function("document.querySelector('#scores').textContent.includes('you painted')")  # of the new run
    _, again = on_screen(page, "you painted")
    np.testing.assert_array_equal(again, painted)
    page.evaluate("""() => {
        window.__painted = 0;  // scores of paint that are shown from now on
        new MutationObserver(() => {
            window.__painted += document.querySelector('#scores').textContent.includes('you painted');
        }).observe(document.querySelector('#scores'), { childList: true, subtree: true, characterData: true });
        document.querySelectorAll('#examples img')[1].click();
        document.querySelector('#score').click();  // at once, while the canvas has the first image and its paint
    }""")
    page.wait_for_selector(".toast-body")
    page.wait_for_function(  # the canvas takes the new image shortly after the scores do, so the first click may be early
        """() => {
            document.querySelector("#score").click();
            const shown = [...document.querySelectorAll(".toast-body")].map((toast) => toast.textContent);
            return shown.some((text) => text.includes("nothing is painted"));
        }""",
        polling=500,
    )
    assert page.evaluate("window.__painted") == 0


@pytest.mark.parametrize(("name", "legend"), [("skin-lesion-v2", []), ("optic-disc-cup-v2", ["盘沿", "视杯"])])
def test_the_brush_has_one_colour_per_class(page, address, name, legend):
    if name not in catalogue.shipped():
        pytest.skip(f"{name} is not shipped")
    page.goto(f"{address}?lang=zh&tab=reference_mask&checkpoint={name}")
    page.wait_for_selector("#editor button[aria-label=Pan]:enabled")
    page.locator("#editor button[aria-label=Color]").click()
    page.wait_for_selector("#editor button.color")
    classes = max(len(legend), 1)
    assert page.evaluate(
        "[...document.querySelectorAll('#editor button.color')].map(b => b.style.backgroundColor)"
    ) == [f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})" for c in paint.CLASSES[:classes]]
    assert page.locator(".swatches span").all_inner_texts() == legend
