"""Files dropped on the page in a browser: the checkpoint that fits is selected, and the image is run."""

import json
import shutil
from zipfile import ZipFile

import pytest
from PIL import Image
from playwright.sync_api import expect

from app.core.session import Session
from app.inputs import sample_images


@pytest.fixture(scope="module")
def address(checkpoint, tmp_path_factory):
    """A page with a checkpoint for skin lesions and one for the optic disc."""
    from app import gradio_ui

    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("checkpoints") / "fundus")
    config = json.loads((folder / "config.json").read_text())
    config["domain"] |= {"task": "optic-disc", "labels": ["disc"]}
    (folder / "config.json").write_text(json.dumps(config))
    return gradio_ui.serve(Session({"tiny": str(checkpoint), "fundus": str(folder)}, "cpu"))[0]


@pytest.fixture
def retina(tmp_path):
    rows = sample_images.sample_images("optic-disc")
    if not rows:
        pytest.skip("scikit-image, which has the photograph, is not installed")
    Image.fromarray(sample_images.pixels(rows[0], "optic-disc")).save(tmp_path / "eye.png")
    return tmp_path / "eye.png"


def test_a_photograph_of_a_retina_selects_its_checkpoint_and_is_run(page, retina):
    expect(page.locator("#checkpoint-tiny")).to_be_checked()
    page.set_input_files("#upload input[type=file]", retina)
    expect(page.locator("#checkpoint-fundus")).to_be_checked()
    expect(page.locator("#file-name")).to_contain_text("eye.png · 1411 × 1411 pixels")
    expect(page.locator("#file-name")).to_contain_text("Checkpoint fundus was selected")
    expect(page.locator("#facts")).to_contain_text("Computed just now")  # without a press of Run
    page.locator("#remove").click()
    expect(page.locator("#file")).to_be_hidden()
    expect(page.locator("#film-steps .now")).to_contain_text("Synthetic example")


def test_several_files_are_listed_in_a_table_and_packed_in_one_archive(page, retina, lesion, tmp_path):
    (tmp_path / "notes.txt").write_text("this is no picture")
    page.set_input_files("#upload input[type=file]", [retina, tmp_path / "notes.txt", lesion])
    rows = page.locator("#batch-table tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("eye.png")
    expect(rows.nth(0)).to_contain_text("fundus")
    expect(rows.nth(1)).to_contain_text("This image cannot be used")
    expect(rows.nth(2).locator("img")).to_have_count(1)
    expect(page.locator("#film-steps")).to_be_hidden()
    page.wait_for_selector("#batch-run-stop", state="hidden")
    with page.expect_download() as download:
        page.locator("#get-batch").click()
    with ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == [
            "01-eye-mask.png",
            "01-eye-run.json",
            "03-picture-mask.png",
            "03-picture-run.json",
        ]
    page.locator(".language label", has_text="中文").click()
    expect(rows.nth(1)).to_contain_text("无法使用")
    page.locator("#remove").click()
    expect(page.locator("#batch")).to_be_hidden()
    expect(page.locator("#film-steps")).to_be_visible()
