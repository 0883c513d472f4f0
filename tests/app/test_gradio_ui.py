"""The Gradio page: public endpoints with a client, and the page in a browser."""

import json
from zipfile import ZipFile

import numpy as np
import pytest
from browser_input import settled, turn, wait_until
from PIL import Image
from playwright.sync_api import expect

from app.core import catalogue
from app.i18n import words
from app.views import descriptions

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64"/></svg>'


def test_a_client_finds_three_endpoints_and_segments_an_image(address, lesion):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=lesion.parent)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/segment",
        "/segment_trace",
        "/model_info",
    }
    assert client.predict(api_name="/model_info")["tiny"]["labels"] == ["lesion"]
    mask, probability, _, report = client.predict(
        handle_file(lesion), "tiny", 2, 3, 0, "ddim", "mean", anchor_weight=0.5, api_name="/segment"
    )
    assert report["settings"]["anchor_weight"] == 0.5
    labels = np.asarray(Image.open(mask))
    assert labels.shape == np.asarray(Image.open(probability)).shape == (192, 256)
    assert (labels > 0).sum() == report["areas"]["lesion"]["pixels"]


def test_a_client_streams_every_step(address, lesion):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=lesion.parent)
    job = client.submit(handle_file(lesion), "tiny", 2, 3, 0, "ddim", api_name="/segment_trace")
    job.result()
    reports, masks = zip(*job.outputs(), strict=True)
    assert [(step["step"], step["total"]) for step in reports] == [(1, 3), (2, 3), (3, 3)]
    assert all(len(step["shares"]) == 2 for step in reports)
    assert {np.asarray(Image.open(mask)).shape for mask in masks} == {(32, 32)}


def test_a_client_receives_a_clear_error(address, lesion, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    text = tmp_path / "notes.png"
    text.write_text("this is no picture")
    with pytest.raises(Exception, match="convert it to one of PNG"):
        client.predict(handle_file(text), "tiny", 2, 3, 0, "ddim", "mean", api_name="/segment")
    with pytest.raises(Exception, match="choose one of tiny"):
        client.predict(handle_file(lesion), "/etc", 2, 3, 0, "ddim", "mean", api_name="/segment")


# ------------------------------------------------------------------------------------------------------------ a browser


def now(page):
    return page.locator("#film-steps .now").inner_text()


def pills(page):
    """Count the visible error marks that Gradio puts on widgets."""
    return page.evaluate(
        """[...document.querySelectorAll('[data-testid=status-tracker] .error')]
        .filter(e => e.checkVisibility({opacityProperty: true, visibilityProperty: true})).length"""
    )


def test_scrubbing_makes_no_requests(page):
    page.wait_for_selector(".page-tab-run .js-plotly-plot .main-svg")  # the last that the page fetches by itself
    settled(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    line = page.locator("#film-steps .time input")
    expect(page.locator("#film-steps .now")).to_contain_text("Result")
    line.focus()
    pictures = set()
    for key in ["End", "Home", *["ArrowRight"] * 3, "ArrowLeft"]:
        page.keyboard.press(key)
        pictures.add(
            hash(page.locator("#film-steps canvas").evaluate_all("all => all.map((c) => c.toDataURL()).join()"))
        )
    assert now(page).startswith("Step 2 of 10")
    assert line.get_attribute("aria-valuetext").startswith("step 2 of 10, t = 899, mask ")
    assert len(pictures) > 1
    page.locator("#film-steps button.play").click()
    page.wait_for_function("document.querySelector('#film-steps .now').textContent.includes('Result')")
    page.wait_for_function("document.querySelector('#film-steps output').textContent.includes('Result')")
    assert not asked


def test_the_film_plays_once_on_opening_unless_the_visitor_prefers_reduced_motion(visit, address):
    seen = "window.seen = new Set(); setInterval(() => seen.add(document.querySelector('#film-steps .now')?.textContent), 20)"
    for motion in ("no-preference", "reduce"):
        page = visit(address, reduced_motion=motion)
        page.add_init_script(seen)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        expect(page.locator("#film-steps .now")).to_contain_text("Result")
        page.wait_for_function(f"{str(motion == 'reduce').lower()} || window.__opened")  # it has played to the end
        texts = page.evaluate("[...window.seen].filter(Boolean)")
        assert any(text.startswith("Step 5") for text in texts) == (motion == "no-preference")


def test_the_opacity_slider_fades_the_mask_over_the_image(page):
    expect(page.locator("#film-steps .now")).to_contain_text("Result")
    image, _, _, mask = page.locator("#film-steps canvas").all()
    drawn = "canvas => canvas.toDataURL()"
    assert mask.evaluate(drawn) != image.evaluate(drawn)
    page.locator("#film-steps .opacity input").fill("0")
    assert mask.evaluate(drawn) == image.evaluate(drawn)


def test_uploads_are_segmented_and_bad_files_give_errors(page, lesion, tmp_path):
    upload = page.locator("#upload input[type=file]")
    for name, content in (("drawing.png", SVG), ("notes.png", "this is no picture")):
        bad = tmp_path / name
        bad.write_text(content)
        upload.set_input_files(bad)
        toast = page.locator(".toast-body")
        toast.wait_for()
        assert "cannot be used" in toast.inner_text()
        toast.locator("button").first.click()
        toast.wait_for(state="detached")
        settled(page)
        assert pills(page) == 0
    upload.set_input_files(lesion)
    expect(page.locator("#file-name")).to_contain_text("picture.png · 256 × 192 pixels")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")
    expect(page.locator("#film-steps .now")).to_contain_text("Result: 5 members")
    expect(page.locator("#facts")).to_contain_text("Computed just now")
    assert pills(page) == 0
    with page.expect_download() as download:
        page.locator("#get-zip").click()
    assert download.value.suggested_filename == "picture.zip"
    with ZipFile(download.value.path()) as archive:
        report = json.loads(archive.read("picture-run.json"))
        assert "picture-mask.png" in archive.namelist()
    assert report["run"]["picture"] == {"height": 192, "width": 256, "kind": "png", "modality": None}


def test_a_link_has_a_preview_and_an_unknown_checkpoint_in_it_is_reported(page, address):
    previews = page.locator("meta[property^='og:'], meta[name^='twitter:']")
    assert "Gradio" not in " ".join(previews.evaluate_all("all => all.map((meta) => meta.content)"))
    expect(page.locator("meta[property='og:url']")).to_have_attribute("content", address.rstrip("/"))
    page.goto(f"{address}?checkpoint=missing<b>")
    expect(page.locator("#unknown")).to_contain_text("missing<b>, which is not available here. tiny is shown")


def test_updates_show_no_status_on_their_outputs(address):
    import httpx

    config = httpx.get(f"{address}config", timeout=60).json()
    names = {component["id"]: component["props"].get("elem_id") for component in config["components"]}
    events = [event for event in config["dependencies"] if event["api_visibility"] == "private"]
    # Gradio updates the status of the event on each of these outputs at every step of a run.
    targets = [
        names[i] for e in events for i in (e["outputs"] if e["show_progress_on"] is None else e["show_progress_on"])
    ]
    assert targets == []


def test_stop_stops_within_a_step_and_the_next_run_works(page, ended, slow_steps):
    turn(page, steps=50, members=25)
    page.locator("#run").click()
    page.wait_for_selector("#film-steps .film[data-shown=live]")
    page.wait_for_function("document.querySelector('#film-steps .now').textContent.startsWith('Step ')")
    page.locator("#stop").click()
    page.wait_for_function("document.querySelector('#film-steps .now').textContent.startsWith('Stopped')")
    reached = now(page)
    wait_until(page, lambda: ended)  # the server has stopped it
    settled(page)
    assert now(page) == reached  # no further updates
    page.locator("#set-steps input[type=number]").fill("2")
    page.locator("#set-steps input[type=number]").press("Tab")
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")


def test_chinese_can_be_chosen_by_url_and_on_the_page(page, address, tmp_path):
    page.goto(address + "?lang=zh")
    page.wait_for_function("document.querySelector('#run')?.textContent.includes('运行')")
    page.wait_for_function("document.querySelector('#film-steps .now')?.textContent.includes('结果')")
    page.wait_for_function("document.documentElement.lang == 'zh'")  # set after the texts
    zone = "getComputedStyle(document.querySelector('#upload [data-testid=upload-text]'), '::after').content"
    assert (
        page.evaluate(zone) == '"您的图像：拖到此处，或点击选择"'
    )  # Gradio's own label would be English, the language of this browser
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(33 << 20)
    page.set_input_files("#upload input[type=file]", tmp_path / "large.png")
    expect(page.locator(".toast-message-text")).to_contain_text("此文件超过 32 MB")  # where Gradio's own is in English
    page.locator(".language label", has_text="English").click()
    page.wait_for_function("document.querySelector('#film-steps .now').textContent.includes('Result')")


def test_no_horizontal_scrolling_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#run").bounding_box()
    assert box["y"] + box["height"] < 844


def test_a_table_of_many_classes_shows_their_names_and_dice_on_a_phone(page):
    page.wait_for_selector("body[data-ready]")
    page.set_viewport_size({"width": 390, "height": 844})
    organs = catalogue.recording(catalogue.ROOT / "recordings" / "abdomen-ct-v2-7.npz")
    shown = descriptions.facts(organs, words("zh"), live=True)
    page.locator("#facts .prose").evaluate("(facts, html) => { facts.innerHTML = html; }", shown)
    assert max(th.bounding_box()["height"] for th in page.locator("#facts tbody th").all()) < 40  # one line each
    dice = page.locator("#facts tbody tr:nth-child(2) td:nth-child(2)")
    assert dice.inner_text() == f"{organs.facts['dice'][0][1]:.3f}"
    assert dice.bounding_box()["x"] + dice.bounding_box()["width"] < 390
