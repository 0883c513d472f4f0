"""Every word a visitor reads, in every language of the page.

One TOML file per language, all with the same keys and the same {placeholders}; a key is the path to a sentence, as in
`words("run.button")`. Which language a visitor sees is asked of the address (?lang=zh), then of the browser.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["LANGUAGES", "Words", "choose", "words"]

LANGUAGES = {"en": "English", "zh": "中文"}


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    language: str
    sentences: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Look a sentence up and fill its placeholders in."""
        return self.sentences[key].format(**values)

    def known(self, key: str, otherwise: str) -> str:
        """Look up what may have no translation, such as the name of a class."""
        return self.sentences.get(key, otherwise)


def _flat(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value.strip()


@cache
def words(language: str) -> Words:
    """Read a language; an unknown one is English."""
    language = language if language in LANGUAGES else "en"
    text = (Path(__file__).parent / f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, dict(_flat(tomllib.loads(text))))


def choose(asked: str | None, accepted: str | None) -> str:
    """Choose a language from ?lang= and from Accept-Language; any kind of Chinese (zh-TW, zh-Hans-CN ...) is zh.

    >>> choose(None, "zh-HK,zh;q=0.9,en;q=0.8")
    'zh'
    >>> choose("en", "zh-CN")
    'en'
    """
    wishes = []
    for part in (accepted or "").split(","):
        name, _, quality = part.partition(";q=")
        try:
            wishes.append((-float(quality or 1), name))
        except ValueError:
            continue
    for tag in [asked or "", *(name for _, name in sorted(wishes, key=lambda wish: wish[0]))]:
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            return language
    return "en"
