"""Translations: complete in both languages, and chosen by URL and browser."""

import ast
import pickle
import string
from pathlib import Path

import pytest
from PIL import Image
from pydicom import Dataset

from app.i18n import LANGUAGES, _errors, choose, words
from medsegdiff import imaging
from medsegdiff.data.synthetic import TASKS as PAINTED
from medsegdiff.data.tasks import TASKS
from medsegdiff.imaging import PictureError

ROOT = Path(__file__).parents[2]


def test_every_language_has_the_same_keys_and_placeholders():
    texts = {language: words(language).sentences for language in LANGUAGES}
    assert len({frozenset(sentences) for sentences in texts.values()}) == 1
    for key in texts["en"]:
        placeholders = {
            frozenset(name for _, name, _, _ in string.Formatter().parse(s[key]) if name) for s in texts.values()
        }
        assert len(placeholders) == 1, key
        assert all(s[key] for s in texts.values()), key


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, "zh-Hans-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr-FR,fr;q=0.9,zh-TW;q=0.6,en;q=0.5", "zh"),
        (None, "en-GB,zh;q=0.5", "en"),
        ("zh", "en-US", "zh"),
        ("xx", "de", "en"),
        (None, "zh;q=nonsense", "en"),
        (None, None, "en"),
    ],
)
def test_the_url_takes_precedence_over_the_browser(asked, accepted, language):
    assert choose(asked, accepted) == language


def test_what_the_package_refuses_is_said_in_chinese():
    from app.core.settings import CONTROLS, read

    with pytest.raises(ValueError, match="members") as refused:
        read([99 if control.field == "members" else control.default for control in CONTROLS])
    message = words("zh").because("errors.settings", refused.value)
    assert message == "这些设置无法运行：members 为 99；请选择 1 到 25。"
    assert words("en").because("errors.settings", refused.value).endswith(f"{refused.value}.")


def test_an_error_of_the_reading_process_arrives_with_its_code_and_is_translated(tmp_path):
    Image.new("L", (9, 4)).save(tmp_path / "small.png")
    with pytest.raises(PictureError) as refused:
        imaging.read(tmp_path / "small.png")
    error = pickle.loads(pickle.dumps(refused.value))
    assert (error.code, error.params) == ("image.too_small", {"height": 4, "width": 9, "least": 8})
    assert str(error) == "the picture is 9 x 4 pixels; give one of at least 8 on each side"
    assert words("en").reason(error) == str(error)
    assert words("zh").reason(error) == "图像为 9 x 4 像素；每边至少需要 8 像素"


def test_every_error_with_a_code_is_translated():
    translated = {code: placeholders(text) for code, text in _errors("zh").items()}
    raised = {code: placeholders(text) for code, text in coded_errors()}
    raised["dicom.no_image_but"] = {"kind"}  # in English {what}, a phrase that holds the kind
    assert raised == translated


@pytest.mark.parametrize("kind", ["SEG", "RTDOSE", "RTSTRUCT", "RTPLAN"])
def test_a_dicom_file_that_is_no_image_is_named_in_chinese_by_its_kind(tmp_path, kind):
    data = Dataset()
    data.SOPClassUID, data.Modality = "1.2.3", kind
    data.save_as(tmp_path / "other.dcm", implicit_vr=True, little_endian=True)
    with pytest.raises(PictureError) as refused:
        imaging.read(tmp_path / "other.dcm")
    expected = f"这个 DICOM 文件的类型是 {kind}，不是图像；请选择它所属序列中的图像"
    assert words("zh").reason(refused.value) == expected


def test_errors_name_the_planes_as_the_page_does():
    w, axes = words("zh"), (0, 1, 2)
    planes = [w(f"planes.{plane}") for plane in ("sagittal", "coronal", "axial")]
    assert [w(f"volume.axis_{axis}").startswith(plane) for axis, plane in zip(axes, planes, strict=True)] == [True] * 3
    assert all(f"{axis}（{plane}）" in _errors("zh")["volume.axis"] for axis, plane in zip(axes, planes, strict=True))


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def coded_errors():
    """Find every `SomeError("topic.problem", "sentence", ...)` in the code."""
    for path in (*ROOT.glob("medsegdiff/**/*.py"), *ROOT.glob("app/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id=name), args=[ast.Constant(value=str(code)), ast.Constant(value=str(text))]
                ) if name.endswith("Error"):
                    yield code, text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phantom_task_has_translated_labels(language):
    w = words(language)
    for task in PAINTED:
        keys = [f"task.{task}", f"modality.{TASKS[task].modality}", *(f"class.{label}" for label in TASKS[task].labels)]
        assert [key for key in keys if not w.known(key, "")] == []
