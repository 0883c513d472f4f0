"""Translations: complete in both languages, and chosen by URL and browser."""

import ast
import pickle
import string
from pathlib import Path

import pytest
from PIL import Image

from app.i18n import LANGUAGES, choose, words
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
    assert str(error) == "the picture is 4 x 9 pixels; give one of at least 8 on each side"
    assert words("en").reason(error) == str(error)
    assert words("zh").reason(error) == "图像为 4 x 9 像素；每边至少需要 8 像素"


# Of these files, everything that a visitor's picture, mask, settings or choice of checkpoint can be refused with.
REFUSING = (
    "app/core/settings.py",
    "app/core/session.py",
    "app/analysis/reference_mask.py",
    "app/inputs/volumes.py",
    "app/analysis/comparisons.py",
    "medsegdiff/checkpoint.py",
    "medsegdiff/imaging.py",
    "medsegdiff/decode.py",
    "medsegdiff/reader.py",
    "medsegdiff/itk_io.py",
)
NOT_A_VISITORS = (
    "the map leaves",
    "the labels are",
    "label volumes are",
    "labels run from",
    "JSON cannot",
    "nothing was saved",
    "7: 7",
)  # of who writes files


def test_every_sentence_of_refusal_is_known_in_every_language():
    unknown = [
        f"{file}: {sentence}"
        for file in REFUSING
        for sentence in refusals(ROOT / file)
        if not sentence.startswith(NOT_A_VISITORS) and words("zh").reason(ValueError(sentence)) == sentence
    ]
    assert unknown == []


def refusals(path):
    """Every sentence that the file raises or hands to `_refuse`, with something in the place of its numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {  # sentences, or parts of them, that the module keeps as constants
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Name)
    }

    def text(part):
        match part:
            case ast.Constant(value=str(said)):
                return said
            case ast.FormattedValue(value=ast.Name(id=name)):
                return str(named.get(name, 7))
            case _:
                return "7"

    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(args=[first, *_])) | ast.Call(func=ast.Name(id="_refuse"), args=[first, *_]):
                if isinstance(first, ast.JoinedStr):
                    yield "".join(map(text, first.values))
                elif isinstance(first, ast.Constant):
                    yield text(first)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phantom_task_has_translated_labels(language):
    w = words(language)
    for task in PAINTED:
        keys = [f"task.{task}", f"modality.{TASKS[task].modality}", *(f"class.{label}" for label in TASKS[task].labels)]
        assert [key for key in keys if not w.known(key, "")] == []
