"""Descriptions of checkpoints and images."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from app.analysis.ensemble import marked_disagreement
from app.core import catalogue, domain_check
from app.core.session import Session
from app.i18n import words
from app.inputs import sample_images
from app.inputs.images import InputImage, phantom
from app.views import descriptions, paint
from app.views.diagram import diagram
from medsegdiff.config import RunSettings
from medsegdiff.data.synthetic import draw
from medsegdiff.image_ref import Picture


def test_only_the_measured_weights_are_described_with_their_dice():
    path = catalogue.ROOT / "results" / "skin-lesion-v2" / "5x10.json"
    if not path.is_file():
        pytest.skip("no results are here")
    known, results = catalogue.card(catalogue.shipped()["skin-lesion-v2"]), json.loads(path.read_text())
    text = descriptions.brief(known, words("en"))
    assert f"Dice {results['mean_dice']:.3f} on {len(results['cases'])} validation cases" in text
    assert text.startswith("<p>dermoscopy, RGB · Lesion · ")
    assert "许可：CC0；权重可自由使用" in descriptions.brief(known, words("zh"))
    tumours = catalogue.card(catalogue.shipped()["brain-flair-v2"])
    assert "on 101 validation cases" in descriptions.brief(tumours, words("en"))  # 41 more have no tumour, and no Dice
    assert "Dice" not in descriptions.brief(replace(known, sha256="0" * 64), words("en"))


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_every_block_with_a_trace_has_a_picture_and_a_panel(kind):
    recording, w = catalogue.recording(catalogue.recordings()[f"skin-lesion-{kind}", 7]), words("en")
    drawn, waiting = diagram(kind, recording, w)["blocks"], diagram(kind, None, w)["blocks"]
    assert not [block["label"] for block in drawn if block["off"]]
    assert {block["panel"] for block in drawn} == {"", *(key for _, key in descriptions.parts(recording, w))}
    assert [block["label"] for block in waiting] == [block["label"] for block in drawn]
    assert all((block["row"], block["panel"]) == (-1, "") for block in waiting)
    unparsed = replace(recording, frames=tuple(replace(frame, planes=()) for frame in recording.frames))
    off = [block for block in diagram(kind, unparsed, w)["blocks"] if block["off"]]  # a run with components turned off
    assert len(off) == sum(bool(block["panel"]) for block in drawn)


CARDS = {
    "skin-lesion-v2": catalogue.Card(
        "v2", "skin-lesion", "", ("a",), "", "", "", 0, 64, {}, (0.1, 0.2, 0.3), (0.5,) * 3
    ),
    "optic-disc-v2": catalogue.Card("v2", "optic-disc", "", ("a",), "", "", "", 0, 64, {}, (0.1, 0.2, 0.3), (0.5,) * 3),
}


def test_a_verdict_names_the_reasons_and_a_checkpoint_that_fits_in_each_language():
    retina = sample_images.sample_images("optic-disc")
    if not retina:
        pytest.skip("scikit-image, which carries the fundus photograph, is not installed")
    fundus = InputImage(Picture(sample_images.pixels(retina[0], "optic-disc")))
    blank = InputImage(Picture(np.full((64, 64, 3), 128, np.uint8)))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8).repeat(3, -1)
    shown = {}
    for language in ("en", "zh"):
        for name, image in (("fundus", fundus), ("blank", blank), ("noise", InputImage(Picture(noise)))):
            for key, card in CARDS.items():
                found = domain_check.check(image, card, CARDS)
                shown[language, name, key] = descriptions.domain(card, image, found, words(language))
    assert shown["en", "fundus", "optic-disc-v2"] == (
        '<p class="fine">This image resembles the training images (fundus photograph).</p>'
    )
    assert "optic-disc-v2 was trained on such images" in shown["en", "fundus", "skin-lesion-v2"]
    assert "optic-disc-v2 是用这类图像训练的" in shown["zh", "fundus", "skin-lesion-v2"]
    assert "it is nearly uniform. No checkpoint here fits it closely" in shown["en", "blank", "skin-lesion-v2"]
    assert "最接近的是 " in shown["zh", "blank", "skin-lesion-v2"]
    assert "它与训练图像不像；它是灰度图，而训练图像是彩色" in shown["zh", "noise", "optic-disc-v2"]
    card = replace(CARDS["skin-lesion-v2"], task="hippocampus")
    front = InputImage(Picture(noise, slice_count=9, source_kind="nifti", axis=1))  # a coronal slice
    assert "it is a coronal slice, the training slices were sagittal" in descriptions.domain(
        card, front, domain_check.check(front, card, {}), words("en")
    )
    assert domain_check.check(InputImage(Picture(noise), seed=3), CARDS["optic-disc-v2"], CARDS).verdict is None


def test_the_range_of_the_members_areas_is_a_share_of_the_whole_image(session):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 400, 3), np.uint8)  # larger than a recording shows
    *_, output = session.run("tiny", InputImage(picture=Picture(pixels)), RunSettings(members=3, steps=2))
    found = {"lesion": {"pixels": [60_000, 120_000], "pairwise_dice": 0.5}}
    recording = replace(output.recording, facts=output.recording.facts | {"confidence": found})
    assert "95 % of members 25.0 to 50.0 %" in descriptions.facts(recording, words("en"), live=True)


def test_disagreement_is_that_of_the_marked_pixels_whatever_their_share_of_the_image():
    recording = catalogue.recording(catalogue.recordings()["lung-nodule-v2", 13])
    outcome = recording.outcome
    members, spread = np.zeros((2, 100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    members[0, :2, :5] = members[1, 1:3, :5] = 1  # they share 5 of 15 pixels, and disagree wholly on the others
    spread[0, :5] = spread[2, :5] = 255
    small = replace(recording, outcome=replace(outcome, members=members, disagreement=spread))
    assert marked_disagreement(small) == pytest.approx(0.5 * 10 / 15)
    assert "<dd>0.33</dd>" in descriptions.facts(small, words("en"), live=True)
    empty = replace(recording, outcome=replace(outcome, members=0 * members, disagreement=spread))
    assert "no member marked anything" in descriptions.facts(empty, words("en"), live=True)


def test_a_checkpoint_of_an_unknown_task_is_shown_with_the_examples_of_the_default_task():
    cards = {"my_polyps": replace(CARDS["skin-lesion-v2"], task="my_polyps")} | CARDS
    tile, *_ = descriptions.tasks(cards, "my_polyps", words("en"))["tiles"]
    assert (tile["label"], tile["versions"][0]["name"]) == ("my_polyps", "my_polyps")
    assert tile["src"] == paint.data_uri(draw("skin-lesion", catalogue.examples("my_polyps")[0], 96).image)
    np.testing.assert_array_equal(phantom(5, "my_polyps").picture.pixels, draw("skin-lesion", 5).image)


def test_the_page_opens_with_a_checkpoint_of_an_unknown_task(checkpoint, tmp_path):
    from app.gradio_ui.mcp_disconnect import ConnectedCalls
    from app.gradio_ui.page import build

    own = shutil.copytree(checkpoint, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config["domain"]["task"] = "my_polyps"
    (own / "config.json").write_text(json.dumps(config))
    built = build(Session({"tiny": str(checkpoint), "own": str(own)}, "cpu"), ConnectedCalls())
    (tiles,) = (block.value for block in built.blocks.values() if getattr(block, "elem_id", None) == "tasks")
    assert [tile["label"] for tile in tiles["tiles"]] == ["skin lesion", "my_polyps"]


def test_errors_have_a_title_in_the_visitors_language():
    from app.gradio_ui.events import refusal

    assert refusal("...", words("zh")).title == "出错了"
    assert refusal("...").title == "Error"


def test_the_browser_edition_is_linked_only_where_its_address_is_configured(monkeypatch):
    monkeypatch.delenv("MEDSEGDIFF_WEB_URL", raising=False)
    assert descriptions.in_browser(words("en")) == ""
    monkeypatch.setenv("MEDSEGDIFF_WEB_URL", 'https://example.org/?a="b"')
    link = descriptions.in_browser(words("zh"))
    assert 'href="https://example.org/?a=&quot;b&quot;&amp;lang=zh"' in link
    assert "图像不会上传" in link
    monkeypatch.setenv("MEDSEGDIFF_WEB_URL", "javascript:alert(1)")
    assert descriptions.in_browser(words("en")) == ""
