"""A volume on the page, by a browser: choose its slice and window, run it, take home masks that lie where it lies."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image


@pytest.fixture(scope="module")
def address(session):
    from app import gradio_ui

    return gradio_ui.serve(session)[0]


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 1400}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#rooms label:nth-child(3)")
    page.wait_for_function("document.documentElement.lang === 'en'")
    yield page
    assert not page.faults
    context.close()


@pytest.fixture
def nifti(tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(14, 12, 10)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-4.0, 5.0, 6.0))
    sitk.WriteImage(image, str(tmp_path / "secret-name.nii.gz"), True)
    return tmp_path / "secret-name.nii.gz"


def bring(page, path):
    page.set_input_files("#upload input[type=file]", path)


def few(page):
    """Few members and steps."""
    page.locator("#settings > button").click()
    for name in ("members", "steps"):
        page.locator(f"#set-{name} input[type=number]").fill("2")
        page.locator(f"#set-{name} input[type=number]").press("Enter")


def save(page, selector, folder):
    with page.expect_download() as offered:
        page.locator(selector).click()
    offered.value.save_as(folder / offered.value.suggested_filename)
    return folder / offered.value.suggested_filename


def test_a_slice_is_chosen_run_and_taken_home_on_the_voxels_of_its_volume(page, nifti, tmp_path):
    assert not page.locator("#slices").is_visible()
    bring(page, nifti)
    page.wait_for_selector("#slices")
    page.wait_for_selector("text=slice 8 of 14")
    page.locator("#slice-axis label").first.click()
    page.wait_for_selector("text=slice 6 of 10")
    page.locator("#slice-index input[type=number]").fill("4")
    page.locator("#slice-index input[type=number]").press("Enter")
    page.wait_for_selector("text=slice 4 of 10")
    page.locator("#window-low input").fill("-1")
    page.wait_for_timeout(500)
    few(page)
    page.locator("#run").click()
    page.wait_for_selector("#get-nifti")
    mask = sitk.ReadImage(str(save(page, "#get-nifti", tmp_path)))
    report = json.loads(save(page, "#get-report", tmp_path).read_text())
    assert mask.GetSize() == (10, 12, 14)
    np.testing.assert_allclose(mask.GetOrigin(), (-4, 5, 6), atol=1e-5)
    assert (report["picture"]["axis"], report["picture"]["index"]) == (0, 3)
    assert report["picture"]["window"][0] == -1
    flat = np.asarray(Image.open(save(page, "#get-mask", tmp_path)))
    laid = sitk.GetArrayFromImage(mask)
    np.testing.assert_array_equal(laid[::-1, :, 3], flat)
    assert "secret-name" not in page.content()


def test_all_slices_are_segmented_and_stop_stops_them(page, nifti, tmp_path):
    bring(page, nifti)
    page.wait_for_selector("#slices")
    few(page)
    page.locator("#all-slices").click()
    page.wait_for_selector("text=All 14 slices in")
    assert page.locator("#film-volume canvas").count() == 1
    mask = sitk.ReadImage(str(save(page, "#get-volume-nifti", tmp_path)))
    assert mask.GetSize() == (10, 12, 14)
    page.locator("#set-steps input[type=number]").fill("50")
    page.locator("#set-steps input[type=number]").press("Enter")
    page.locator("#all-slices").click()
    page.wait_for_selector("#all-slices-line progress")
    page.locator("#all-slices-stop").click()
    page.wait_for_selector("#all-slices:enabled")
    assert page.locator("#all-slices-line progress").count() == 0


def test_an_ordinary_picture_has_no_slices(page, nifti, tmp_path):
    bring(page, nifti)
    page.wait_for_selector("#slices")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "flat.png")
    bring(page, tmp_path / "flat.png")
    page.wait_for_selector("text=40 × 60 pixels")
    assert not page.locator("#slices").is_visible()
