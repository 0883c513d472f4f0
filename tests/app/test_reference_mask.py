"""Scores against a reference mask that a visitor uploads or paints."""

import math

import numpy as np
import pytest
from PIL import Image

from app.analysis.reference_mask import check_canvas, painted, read_mask, score
from app.inputs.images import phantom
from app.views import paint


def test_empty_masks_follow_the_conventions_of_the_metrics():
    nothing, something = np.zeros((4, 5), np.uint8), np.eye(4, 5, dtype=np.uint8)
    assert score(nothing, something, ["a"])[0].hd95 == math.hypot(3, 4)
    assert score(something, nothing, ["a"])[0].facts()["dice"] is None


def test_a_mask_file_is_read_as_labels(tmp_path):
    reference = phantom(3).reference[0]
    for factor in (1, 255):
        path = tmp_path / "mask.png"
        Image.fromarray(reference * factor).save(path)
        np.testing.assert_array_equal(read_mask(path, 1, reference.shape), reference)


def test_a_mask_in_the_colours_of_the_page_keeps_its_labels(tmp_path):
    labels = (np.arange(16 * 20, dtype=np.uint8) % 14).reshape(16, 20)  # background and 13 organs
    paint.save_labels(tmp_path / "mask.png", labels)
    with Image.open(tmp_path / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)  # as other programs read it
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 13, labels.shape), labels)


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.full((32, 32), 7, np.uint8), "value 7"),
        (np.zeros((32, 40), np.uint8), "32 x 40"),
        (np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3), "in colour"),
    ],
)
def test_invalid_masks_are_rejected(tmp_path, pixels, match):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=match):
        read_mask(tmp_path / "mask.png", 2, (32, 32))


def test_paint_is_converted_to_classes_at_full_size():
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[:4, :4] = (0xE6, 0x9F, 0x00, 255)  # the colour of class 2
    layer[6:, 6:] = (0x50, 0xB0, 0xE0, 200)  # close to class 1, as at the soft edge of a brush
    labels = painted([layer], 2, (16, 16))
    assert labels[:8, :8].tolist() == [[2] * 8] * 8
    assert labels[12:, 12:].tolist() == [[1] * 4] * 4
    with pytest.raises(ValueError, match="nothing is painted"):
        painted([np.zeros((8, 8, 4), np.uint8)], 1, (8, 8))


def test_paint_on_another_image_is_not_scored():
    picture, other = phantom(3).picture.pixels, phantom(4).picture.pixels
    check_canvas(np.dstack([np.minimum(picture, 250) + 5, np.full(picture.shape[:2], 255, np.uint8)]), picture)
    for shown in (other, np.roll(picture, 1, 0), picture[:100]):
        with pytest.raises(ValueError, match="another image still"):
            check_canvas(np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)]), picture)


def test_every_organ_has_its_own_colour():
    layer = np.array([[[int(c[i : i + 2], 16) for i in (1, 3, 5)] + [255] for c in paint.CLASSES[:13]]], np.uint8)
    np.testing.assert_array_equal(painted([layer], 13, (1, 13)), np.arange(1, 14)[None])
