"""Provide all texts of the page and the course in every language.

Each language has one TOML file per book, with the same keys and {placeholders}; texts are looked up by their key, as in
`words("run.button")`. The language is chosen by the URL (?lang=zh), then by the browser. Error messages are in English in
the code; their translations are in errors.LANGUAGE.toml, by the code of the error.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medsegdiff.errors import InputError

__all__ = ["LANGUAGES", "Words", "choose", "words"]

LANGUAGES = {"en": "English", "zh": "中文"}


@dataclass(frozen=True, slots=True)
class Words:
    """The texts in one language."""

    language: str
    sentences: dict[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        """Look up a text and fill in its placeholders."""
        return self.sentences[key].format(**values)

    def because(self, key: str, error: Exception) -> str:
        """Format a text that has a {reason} with an error message, translated if possible."""
        return self(key, reason=self.reason(error).strip().rstrip("."))

    def reason(self, error: Exception) -> str:
        """Translate an error by its code; without a translation, return its English sentence."""
        if not isinstance(error, InputError):
            return str(error)
        try:
            return _errors(self.language)[error.code].format(**error.params)
        except KeyError:  # no translation, or not these parameters
            return error.sentence

    def known(self, key: str, otherwise: str) -> str:
        """Look up a text that may have no translation, such as the name of a class."""
        return self.sentences.get(key, otherwise)


@cache
def _errors(language: str) -> dict[str, str]:
    """Load the translations of error messages by code; the English ones are in the errors themselves."""
    path = Path(__file__).parent / f"errors.{language}.toml"
    return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8")))) if path.is_file() else {}


def _flat(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value.strip()


@cache
def words(language: str, *books: str) -> Words:
    """Load the texts of a language, with additional books (`course`: course.en.toml ...); the default is English."""
    language = language if language in LANGUAGES else "en"
    sentences: dict[str, str] = {}
    for name in (language, *(f"{book}.{language}" for book in books)):
        text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
        sentences |= _flat(tomllib.loads(text))
    return Words(language, sentences)


def choose(asked: str | None, accepted: str | None) -> str:
    """Choose a language from ?lang= and Accept-Language; all variants of Chinese (zh-TW, zh-Hans-CN ...) give zh.

    >>> choose(None, "zh-HK,zh;q=0.9,en;q=0.8")
    'zh'
    >>> choose("en", "zh-CN")
    'en'
    """
    preferred = []
    for part in (accepted or "").split(","):
        name, _, quality = part.partition(";q=")
        try:
            preferred.append((-float(quality or 1), name))
        except ValueError:
            continue
    for tag in [asked or "", *(name for _, name in sorted(preferred, key=lambda pair: pair[0]))]:
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            return language
    return "en"
