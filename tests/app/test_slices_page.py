"""Volumes in a browser: choose slice and window, run, and download masks with the geometry of the volume."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from browser_input import choose, settled, turn, unfold
from PIL import Image
from playwright.sync_api import expect

from app.core.session import Session


@pytest.fixture(scope="module")
def address(checkpoint, tmp_path_factory):
    """A page with a checkpoint for 2-D images and one for sagittal slices."""
    from app import gradio_ui

    folder = tmp_path_factory.mktemp("checkpoints")
    changes = {
        "tiny": {"task": "skin-lesion", "mean": [0.7, 0.5, 0.4], "std": [0.2] * 3},  # in colour
        "sagittal": {"task": "hippocampus", "modality": "MR slice", "mean": [0.0] * 3, "std": [0.5] * 3},
    }
    for name, change in changes.items():
        config = json.loads((shutil.copytree(checkpoint, folder / name) / "config.json").read_text())
        config["domain"] |= change
        (folder / name / "config.json").write_text(json.dumps(config))
    return gradio_ui.serve(Session({name: str(folder / name) for name in changes}, "cpu"))[0]


@pytest.fixture
def nifti(tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(14, 12, 10)).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-4.0, 5.0, 6.0))
    sitk.WriteImage(image, str(tmp_path / "secret-name.nii.gz"), True)
    return tmp_path / "secret-name.nii.gz"


def upload(page, path):
    page.set_input_files("#upload input[type=file]", path)


def few(page):
    """Choose few members and steps."""
    turn(page, members=2, steps=2)


def save(page, selector, folder):
    with page.expect_download() as offered:
        page.locator(selector).click()
    offered.value.save_as(folder / offered.value.suggested_filename)
    return folder / offered.value.suggested_filename


def test_the_mask_of_a_slice_has_the_geometry_of_its_volume(page, nifti, tmp_path):
    expect(page.locator("#slices")).to_be_hidden()
    upload(page, nifti)
    page.wait_for_selector("#slices")
    page.wait_for_selector("text=slice 8 of 14")
    page.locator("#slice-axis label").first.click()
    page.wait_for_selector("text=slice 6 of 10")
    page.locator("#slice-index input[type=number]").fill("3")
    page.locator("#slice-index input[type=number]").press("Enter")
    page.wait_for_selector("text=slice 3 of 10")
    page.locator("#film-steps canvas").hover()
    page.mouse.wheel(0, 100)
    page.wait_for_selector("text=slice 4 of 10")
    with page.expect_response("**/run/predict"):  # a new window selects a new image, which would end a run
        page.locator("#window-low input").fill("-1")
    few(page)
    page.locator("#run").click()
    unfold(page, "#files", "#get-nifti")
    mask = sitk.ReadImage(str(save(page, "#get-nifti", tmp_path)))
    report = json.loads(save(page, "#get-report", tmp_path).read_text())
    assert mask.GetSize() == (10, 12, 14)
    np.testing.assert_allclose(mask.GetOrigin(), (-4, 5, 6), atol=1e-5)
    assert (report["picture"]["axis"], report["picture"]["index"]) == (0, 3)
    assert report["picture"]["window"][0] == -1
    flat = np.asarray(Image.open(save(page, "#get-mask", tmp_path)))
    labels = sitk.GetArrayFromImage(mask)
    np.testing.assert_array_equal(labels[::-1, :, 3], flat)
    assert "secret-name" not in json.dumps(report)
    page.locator("#remove").click()  # nor does the page keep the name of a file that has been removed
    expect(page.locator("#slices")).to_be_hidden()
    assert "secret-name" not in page.content()


def check_planes(page, marked):
    """Move the three planes, and compare what each shows with the downloaded mask (z, y, x)."""
    planes = page.locator("#planes figure")
    expect(planes).to_have_count(3)
    planes.nth(0).locator("input").fill("4")
    frame = planes.nth(2).locator("canvas")  # axial: x to the right, y downwards
    box = frame.bounding_box()
    frame.click(position={"x": box["width"] * 7.5 / 10, "y": box["height"] * 2.5 / 12})
    planes.nth(2).locator("input").press("Home")
    covers = [marked[:, :, 7].mean(), marked[:, 2].mean(), marked[0].mean()]
    for plane, (name, count), share in zip(planes.all(), (("8", 10), ("3", 12), ("1", 14)), covers, strict=True):
        label = plane.locator("canvas").get_attribute("aria-label")
        assert f"slice {name} of {count}. The mask covers {100 * share:.1f} %" in label


@pytest.mark.parametrize("slow_steps", [0.2], indirect=True)
def test_all_slices_are_segmented_and_can_be_stopped(page, nifti, tmp_path, slow_steps):
    upload(page, nifti)
    page.wait_for_selector("#slices")
    few(page)
    page.locator("#all-slices").click()
    page.wait_for_selector("text=14 slices segmented in")
    expect(page.locator("#film-volume canvas")).to_have_count(1)
    mask = sitk.ReadImage(str(save(page, "#get-volume-nifti", tmp_path)))
    assert mask.GetSize() == (10, 12, 14)
    check_planes(page, sitk.GetArrayFromImage(mask) > 0)
    page.locator(".language label", has_text="中文").click()
    expect(page.locator("#file-name")).to_contain_text("10 × 12 像素，第 8 层，共 14 层")
    expect(page.locator("#film-volume .now")).to_contain_text("第 8 层，共 14 层")
    expect(page.locator("#volume-sizes")).to_contain_text("已分割 14 层")
    expect(page.locator("#planes figcaption").first).to_contain_text("矢状面")
    page.locator(".language label", has_text="English").click()
    page.wait_for_selector("text=14 slices segmented in")
    page.locator("#set-steps input[type=number]").fill("50")
    page.locator("#set-steps input[type=number]").press("Enter")
    page.locator("#all-slices").click()
    page.wait_for_selector("#all-slices-line progress")
    page.locator("#all-slices-stop").click()
    page.wait_for_selector("#all-slices:enabled")
    expect(page.locator("#all-slices-line progress")).to_have_count(0)
    expect(page.locator("#film-volume canvas")).to_have_count(1)  # results of the first run
    upload(page, shutil.copy(nifti, tmp_path / "another.nii.gz"))
    expect(page.locator("#film-volume canvas")).to_have_count(0)  # cleared for another volume
    expect(page.locator("#get-volume-nifti")).to_be_hidden()
    page.locator(".language label", has_text="中文").click()
    expect(page.locator("#file-name")).to_contain_text("another.nii.gz · 10 × 12 像素")
    settled(page)
    expect(page.locator("#film-volume canvas")).to_have_count(0)


def test_changing_slice_or_checkpoint_repeats_the_check(page, tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    values[..., 0] = 0  # nothing in the outermost slices
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.nii.gz"), True)
    choose(page, "sagittal")
    page.wait_for_selector("#examples img[alt*=hippocampus]")
    upload(page, tmp_path / "a.nii.gz")
    page.wait_for_selector("text=slice 11 of 20")
    page.wait_for_selector("#domain .doubt >> text=not the kind of image")  # noise is no hippocampus
    expect(page.locator("#slice-axis input").first).to_be_checked()
    page.locator("#slice-index input[type=number]").fill("1")
    page.locator("#slice-index input[type=number]").press("Enter")
    page.wait_for_selector("#domain .doubt >> text=nearly uniform")
    choose(page, "tiny")
    page.wait_for_selector("text=slice 11 of 20")
    page.wait_for_selector("#domain .doubt >> text=training images were in colour")
    expect(page.locator("#slice-axis input").nth(2)).to_be_checked()
    expect(page.locator("#slice-index input[type=number]")).to_have_value("11")
    few(page)
    page.locator("#run").click()
    unfold(page, "#files", "#get-report")
    with page.expect_download() as offered:
        page.locator("#get-report").click()
    assert json.loads(offered.value.path().read_text())["picture"]["axis"] == 2


def test_compared_checkpoints_follow_the_selected_task(page):
    for name in ("sagittal", "tiny"):
        choose(page, name)
        for side in "ab":
            page.wait_for_function(f"document.querySelector('#{side}-checkpoint input').value === '{name}'")


def test_an_8_bit_image_shows_no_volume_controls(page, nifti, tmp_path):
    upload(page, nifti)
    page.wait_for_selector("#slices")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "flat.png")
    upload(page, tmp_path / "flat.png")
    page.wait_for_selector("text=60 × 40 pixels")
    expect(page.locator("#slices")).to_be_hidden()
