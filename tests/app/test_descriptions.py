"""Descriptions of checkpoints and images."""

import json
from dataclasses import replace

import numpy as np
import pytest

from app.core import catalogue
from app.i18n import words
from app.inputs.images import InputImage
from app.views import descriptions
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


def test_findings_are_joined_to_one_sentence():
    card = catalogue.Card("v2", "x", "dermoscopy, RGB", ("a",), "", "", "", 0, 64, {}, (0.0,) * 3, (0.5,) * 3)
    grey = InputImage(Picture(np.full((64, 64, 3), 128, np.uint8)))
    assert "the training images were in colour; it is nearly uniform." in descriptions.domain(card, grey, words("en"))
    assert descriptions.domain(card, grey, words("zh")).count("；") == 1


def test_errors_have_a_title_in_the_visitors_language():
    from app.gradio_ui.page_state import refusal

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
