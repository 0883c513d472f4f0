"""Two languages, one catalogue."""

import string

import pytest

from app.i18n import LANGUAGES, choose, words


def test_every_language_says_everything_with_the_same_placeholders():
    spoken = {language: words(language).sentences for language in LANGUAGES}
    assert len({frozenset(sentences) for sentences in spoken.values()}) == 1
    for key in spoken["en"]:
        placeholders = {
            frozenset(name for _, name, _, _ in string.Formatter().parse(s[key]) if name) for s in spoken.values()
        }
        assert len(placeholders) == 1, key
        assert all(s[key] for s in spoken.values()), key


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
def test_the_address_speaks_before_the_browser_and_english_last(asked, accepted, language):
    assert choose(asked, accepted) == language
