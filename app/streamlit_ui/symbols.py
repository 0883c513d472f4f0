"""List the symbols of a chapter's equations, each with its meaning and its current value or picture.

Pointing at a symbol, or focusing it, outlines the parts of the page that show it. CSS alone does that: `:has` finds the
symbol, and a custom property, which also reaches into a component, outlines the view of a film.
"""

import html
from collections.abc import Mapping
from typing import Any

from app.components.scrubber import tile
from app.course.chapter import Chapter, Seen, Symbol
from app.course.visit import Visit
from app.i18n import Words
from app.streamlit_ui import widgets
from app.streamlit_ui.bridge import VIEWS
from app.views import paint

__all__ = ["listed"]

_SIDE = 56  # of a picture, in pixels
_OUTLINE = "3px solid #D55E00"


def listed(chapter: Chapter, seen: Seen, visit: Visit, w: Words) -> str:
    """Return the list as HTML, with the style that outlines parts; empty without symbols, or if nothing was computed."""
    if not chapter.symbols or not seen.facts:
        return ""
    values = visit.values[chapter.key] | dict(seen.facts)
    rows, rules = [], []
    for i, symbol in enumerate(chapter.symbols):
        shown = _value(symbol, chapter, seen, values, visit.places.get(chapter.key), w)
        meaning = html.escape(w(f"course.{chapter.key}.symbol_{symbol.key}"))
        rows.append(f"<li tabindex=0 class=symbol-{i}><var>{symbol.mark}</var><span>{meaning}</span>{shown}</li>")
        pointed = f".stMain:has(.symbol-{i}:is(:hover, :focus))"
        rules += [f"{pointed} {rule}" for part in symbol.parts if (rule := _rule(part, chapter, seen))]
    return f"<style>{' '.join(rules)}</style><ul class=symbols>{''.join(rows)}</ul>"


def _rule(part: str, chapter: Chapter, seen: Seen) -> str:
    """Return the selector and declaration that outline a part, or an empty text where the page does not show it."""
    kind, _, place = part.partition(" ")
    if kind == "tile":
        found = _view(place, seen)
        return f".st-key-film-{chapter.key}-{found[0]} {{ --lit-{found[1]}: {_OUTLINE}; }}" if found else ""
    if kind == "fact":
        row = 1 + sum(bool(fact.label) for fact in seen.numbers[: int(place)])
        return f".facts > div:nth-child({row}) {{ outline: {_OUTLINE}; outline-offset: 4px; border-radius: 2px; }}"
    if kind == "chart":
        name = f".st-key-chart-{chapter.key}-{place.replace('.', '-')}"
    else:
        name = f"[class*='st-key-{chapter.key}-{kind}-']"
    return f"{name} {{ outline: {_OUTLINE}; outline-offset: 4px; border-radius: 4px; }}"


def _view(place: str, seen: Seen) -> tuple[int, int] | None:
    film, view = map(int, place.split("."))
    count = len(seen.films[film]["views"]) if film < len(seen.films) else 0
    view += count if view < 0 else 0
    return (film, view) if 0 <= view < min(count, VIEWS) else None


def _value(symbol: Symbol, chapter: Chapter, seen: Seen, values: Mapping[str, Any], at: int | None, w: Words) -> str:
    """Return the current value of a symbol as HTML: the picture of a view at its position, or a number."""
    if symbol.value:
        text = widgets.cell(symbol.value, values.get(symbol.value), w)
        return f"<b>{html.escape(text)}</b>" if text else ""
    kind, _, place = symbol.parts[0].partition(" ") if symbol.parts else ("", "", "")
    if kind == "tile":
        found = _view(place, seen)
        if not found:
            return ""
        film = seen.films[found[0]]
        here = film["at"] if at is None or film["run"] != seen.films[0]["run"] else min(at, len(film["positions"]) - 1)
        uri = paint.data_uri(paint.fit(tile(film, found[1], here), (_SIDE, _SIDE)), 80)
        return f'<img src="{uri}" alt="{html.escape(film["views"][found[1]]["title"])}">'
    if kind == "fact":
        return f"<b>{html.escape(seen.numbers[int(place)].value)}</b>"
    if kind in values:
        return f"<b>{html.escape(widgets.cell(kind, values[kind], w))}</b>"
    return ""
