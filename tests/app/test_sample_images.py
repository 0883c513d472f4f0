"""Sample images of installed packages: offered only if the package is installed."""

import hashlib
import sys

import numpy as np
import pytest
from PIL import Image

import app.inputs.sample_images
from app.core.catalogue import Card
from app.core.domain_check import UNKNOWN
from app.i18n import LANGUAGES, words
from app.inputs.images import phantom
from app.inputs.sample_images import SAMPLES, SampleImage, pixels, sample_images
from app.views import descriptions


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A sample image in a package that was installed for this test."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    (tmp_path / "pictures_of_tests-1.0.dist-info").mkdir()
    (tmp_path / "pictures_of_tests-1.0.dist-info" / "METADATA").write_text("Name: pictures-of-tests\nVersion: 1.0\n")
    Image.fromarray(picture).save(tmp_path / "one.png")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    digest = hashlib.sha256((tmp_path / "one.png").read_bytes()).hexdigest()
    return SampleImage(
        990_100, "one", "pictures-of-tests", "one.png", digest, {"skin-lesion": (5, 10, 25, 40)}
    ), picture


def test_an_image_is_read_from_its_package_and_cropped_for_the_task(installed):
    row, picture = installed
    assert sample_images("skin-lesion", (row,)) == (row,)
    assert sample_images("brain-flair", (row,)) == ()
    np.testing.assert_array_equal(pixels(row, "skin-lesion"), picture[10:40, 5:25])


def test_without_the_package_or_with_another_file_in_it_nothing_is_offered(installed):
    row, _ = installed
    missing = SampleImage(1, "one", "no-such-package-at-all", row.file, row.sha256, row.crops)
    other = SampleImage(2, "one", row.package, row.file, "0" * 64, row.crops)
    assert sample_images("skin-lesion", (missing, other)) == ()


@pytest.mark.parametrize("row", SAMPLES, ids=lambda row: row.key)
def test_every_sample_image_has_a_caption_and_a_reserved_number(row):
    assert 900_100 <= row.number < 10**6
    for language in LANGUAGES:
        w = words(language)
        assert w(f"sample.{row.key}.alt")
        assert row.package in w(f"sample.{row.key}.text")
        assert any(
            licence in w(f"sample.{row.key}.text") for licence in ("CC0", "BSD", "licence are not stated", "许可证")
        )


@pytest.mark.skipif(not sample_images("abdomen-mr"), reason="this pydicom does not contain the image")
def test_the_liver_is_read_from_dicom_with_its_grey_values_windowed():
    image = phantom(990_002, "abdomen-mr")
    assert (image.sample, image.reference, image.picture.pixels.shape) == ("liver", (), (300, 484, 3))
    black, tissue = image.picture.pixels[:20, :20], image.picture.pixels[60:250, 60:430]
    assert black.max() < 20
    assert tissue.mean() > 40
    assert tissue.max() == 255


@pytest.mark.skipif(not sample_images("brain-flair"), reason="this nibabel does not contain the image")
def test_the_head_lies_upright_in_the_middle_of_its_crop():
    image = phantom(990_005, "brain-flair")
    assert (image.sample, image.picture.pixels.shape) == ("head", (96, 96, 3))
    rows, columns = np.nonzero(image.picture.pixels[..., 0] > 60)
    assert abs(columns.mean() - 47.5) < 4  # the crop is centred on the head, whose sides are alike
    assert np.ptp(rows) > 1.2 * np.ptp(columns)  # from front to back it is longer than wide
    front, back = (np.ptp(columns[abs(rows - row) < 2]) for row in (rows.min() + 20, rows.max() - 20))
    assert front < back  # a head is widest towards the back


@pytest.mark.slow
@pytest.mark.skipif(not sample_images("optic-disc-cup"), reason="pip install --no-deps scikit-image")
def test_the_retina_crop_is_centred_on_the_bright_disc():
    card = Card("v2", "optic-disc-cup", "fundus", ("disc rim", "cup"), "", "", "", 0, 256, {})
    (item,) = descriptions.thumbnails(None, card, words("en"))["real"]
    image = phantom(item["seed"], "optic-disc-cup")
    assert (image.seed, image.reference, image.picture.pixels.shape) == (None, (), (556, 556, 3))
    assert "retina" in descriptions.waiting(image, words("en"))
    grey = image.picture.pixels.mean(2)
    bright = np.argwhere(grey > np.percentile(grey, 97)).mean(0)
    assert np.abs(bright - 278).max() < 70  # an eighth of the crop's width
    assert phantom(item["seed"], "optic-disc").picture.pixels.shape == (1411, 1411, 3)
    assert descriptions.thumbnails(None, None, words("en"))["real"] == []
    assert phantom(item["seed"], "skin-lesion").seed == item["seed"]  # for another task, the number is an ordinary seed


@pytest.mark.parametrize(
    ("task", "package", "english", "chinese"),
    [
        ("optic-disc-cup", False, "scikit-image, which is not installed on this server. A synthetic example", "未安装"),
        (
            "skin-lesion",
            True,
            "not suitable for the selected checkpoint. A synthetic example is shown",
            "不适用于当前模型",
        ),
    ],
)
def test_a_phantom_that_replaces_a_sample_image_is_announced(task, package, english, chinese, monkeypatch):
    if not package:
        monkeypatch.setattr(app.inputs.sample_images, "_path", lambda *_: None)
    card = Card("v2", task, "fundus", ("disc rim", "cup"), "", "", "", 0, 256, {})
    image = phantom.__wrapped__(990_001, task)
    assert image.reference  # drawn
    assert english in descriptions.domain(card, image, UNKNOWN, words("en"))
    assert chinese in descriptions.domain(card, image, UNKNOWN, words("zh"))
    assert descriptions.domain(card, phantom(3), UNKNOWN, words("en")) == ""
