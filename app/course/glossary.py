"""Explain terms on hover, link references, and quote the rows of docs/fidelity.md that a text names.

Terms and references are in app/i18n/glossary.toml. A term is marked at its first use in a chapter, so that a text stays
readable; references and row numbers (F1, F2, ...) are marked wherever they occur.
"""

import html
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from app.core import catalogue

__all__ = ["Glossary", "Row", "rows"]

_TERMS = Path(__file__).parents[1] / "i18n" / "glossary.toml"
_FIDELITY = catalogue.ROOT / "docs" / "fidelity.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of docs/fidelity.md, without Markdown."""

    subject: str
    paper: str
    released: str
    here: str


@cache
def rows() -> Mapping[str, Row]:
    """Read the rows by their number; empty where the document is not here, as in some installations."""
    if not _FIDELITY.is_file():
        return {}
    found = {}
    for line in _FIDELITY.read_text(encoding="utf-8").splitlines():
        cells = [_plain(cell.strip()) for cell in line.split(" | ")]
        if line.startswith("| F") and len(cells) == 5:
            found[cells[0].lstrip("| ")] = Row(cells[1], cells[2], cells[3], cells[4].rstrip("| "))
    return found


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


@cache
def _entries(language: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Return terms (form, in lower case: key and explanation) and references (name: URL)."""
    table = tomllib.loads(_TERMS.read_text(encoding="utf-8"))
    links = table.pop("links")
    terms = {
        form.lower(): (key, entry[language]["text"])
        for key, entry in table.items()
        for form in entry[language]["forms"]
    }
    return terms, links


@cache
def _pattern(language: str) -> re.Pattern[str]:
    terms, links = _entries(language)
    names = sorted((*terms, *links), key=len, reverse=True)
    inside = r"(?<![A-Za-z0-9_-]){}(?![A-Za-z0-9_-])"  # Chinese has no spaces between words
    forms = [inside.format(re.escape(n)) if n.isascii() and n[-1] != "." else re.escape(n) for n in names]
    return re.compile("|".join([*forms, r"\bF\d+b?\b"]), re.IGNORECASE)


@dataclass(slots=True)
class Glossary:
    """Marks the texts of one chapter, in reading order."""

    language: str
    _explained: set[str] = field(default_factory=set, init=False)

    def __call__(self, text: str) -> str:
        """Return a text as HTML."""
        parts, end = [], 0
        for match in _pattern(self.language).finditer(text):
            parts += [html.escape(text[end : match.start()]), self._marked(match[0])]
            end = match.end()
        return "".join([*parts, html.escape(text[end:])])

    def _marked(self, found: str) -> str:
        terms, links = _entries(self.language)
        shown = html.escape(found)
        if found in links:
            return f'<a href="{html.escape(links[found])}" target="_blank" rel="noopener">{shown}</a>'
        if row := rows().get(found):
            return f'<abbr title="{html.escape(f"{row.subject}. {row.here}")}">{shown}</abbr>'
        key, explained = terms.get(found.lower(), ("", ""))
        if not key or key in self._explained:
            return shown
        self._explained.add(key)
        return f'<abbr title="{html.escape(explained)}">{shown}</abbr>'
