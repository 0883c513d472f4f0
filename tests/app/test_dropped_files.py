"""Files dropped on the page in a browser: the checkpoint that fits is selected, and the image is run."""

import json
import shutil

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


def test_a_photograph_of_a_retina_selects_its_checkpoint_and_is_run(page, retina, lesion):
    expect(page.locator("#checkpoint-tiny")).to_be_checked()
    page.set_input_files("#upload input[type=file]", [retina, lesion])
    expect(page.locator("#checkpoint-fundus")).to_be_checked()
    expect(page.locator("#file-name")).to_contain_text("eye.png · 1411 × 1411 pixels")
    expect(page.locator("#file-name")).to_contain_text("You chose 2 files. Only this one is used")
    expect(page.locator("#file-name")).to_contain_text("Checkpoint fundus was selected")
    expect(page.locator("#facts")).to_contain_text("Computed just now")  # without a press of Run
    page.locator("#remove").click()
    expect(page.locator("#file")).to_be_hidden()
    expect(page.locator("#film-steps .now")).to_contain_text("Synthetic example")
