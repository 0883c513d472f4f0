"""Build the printable page of a chapter, and the page for instructors."""

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app.course.bench import Bench
from app.course.chapter import Chapter, Seen, source
from app.course.chapters import CHAPTERS
from app.course.visit import Visit
from app.i18n import Words
from app.streamlit_ui import chapter as one
from app.streamlit_ui import widgets
from app.views import paint

__all__ = ["printed", "teacher"]

_LINES = 20  # most lines of code on the printed page
_HEADING = 5  # lines taken by the name and margins of a code block
_TILES = 6


def printed(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> None:
    """Build one printable page: question, current film, numbers, notes, equations, code and tasks."""
    c = f"course.{chapter.key}"
    number = next(i for i, each in enumerate(CHAPTERS, 1) if each.key == chapter.key)
    above = f"{w('course.title')} · {w('course.chapter', number=number, total=len(CHAPTERS))}"
    st.html(
        "<div class=screen><p class=soft>"
        f"{html.escape(w('course.print_hint'))} <a href='{html.escape(visit.link(''))}' target=_self>"
        f"{html.escape(w('course.print_back'))}</a></p></div>"
        f"<p class=above>{html.escape(above)}</p><h1 class=question>{html.escape(w(f'{c}.title'))}</h1>"
        f"<p class=ask>{html.escape(w(f'{c}.question'))}</p>"
    )
    seen = Seen()
    if not one.replayed(bench, chapter, visit) or chapter.key == "training":
        try:
            seen = one.seen_of(bench, chapter, visit, w)
        except ValueError as error:
            st.html(f"<p class=soft>{html.escape(w.reason(error))}</p>")
    for film in seen.films[:2]:
        st.html(f"<div class=strip>{_strip(film, visit.places.get(chapter.key))}</div>")
    widgets.numbers(seen)
    st.html(f"<div class=notice><h3>{html.escape(w('course.notice'))}</h3><p>{html.escape(w(f'{c}.notice'))}</p></div>")
    left, right = st.columns([1, 1.15], gap="medium")
    with left:
        one.equations(chapter, w)
        st.html(f"<h3>{html.escape(w('course.differ'))}</h3><p>{html.escape(w(f'{c}.differ'))}</p>")
        widgets.tasks([(w(f"{c}.task_{task.key}"), False) for task in chapter.tasks], w("course.tasks"), "")
    with right:
        left_over = _LINES
        for spec in chapter.sources:
            lines = source(spec).splitlines()
            if left_over < len(lines) + _HEADING and left_over < _LINES:
                break
            st.html(f"<p class=soft>{html.escape(spec)}</p>")
            st.code("\n".join(lines[:_LINES] + (["..."] if len(lines) > _LINES else [])), language="python")
            left_over -= len(lines) + _HEADING


def _strip(film: Mapping[str, Any], place: int | None) -> str:
    """Extract the tiles of one position from a film, as HTML."""
    sheet = Image.open(io.BytesIO(base64.b64decode(film["sprite"].partition(",")[2])))
    width, height = film["tile"]
    at = min(film["at"] if place is None else place, len(film["positions"]) - 1)
    figures = []
    for row, view in enumerate(film["views"][:_TILES]):
        tile = sheet.crop((at * width, row * height, (at + 1) * width, (row + 1) * height))
        alt, title = html.escape(view["alts"][at]), html.escape(view["title"])
        uri = paint.data_uri(np.asarray(tile.convert("RGB")), 90)
        figures.append(f'<figure><img src="{uri}" alt="{alt}"><figcaption>{title}</figcaption></figure>')
    return "".join(figures) + f"<p class=soft>{html.escape(film['positions'][at]['label'])}</p>"


def teacher(visit: Visit, w: Words) -> None:
    """Build the instructor page: schedule, learning goals, questions and answers, links, and notes for classrooms."""
    minutes = sum(c.minutes for c in CHAPTERS)
    st.html(
        f"<h1 class=question>{html.escape(w('teacher.title'))}</h1>"
        f"<p class=ask>{html.escape(w('teacher.intro', minutes=minutes))}</p>"
    )
    cost = {"": "cost_none", "v1": "cost_v1", "v2": "cost_v2"}
    rows = "".join(
        f"<tr><td>{i}. {html.escape(w(f'course.{c.key}.title'))}</td><td>{c.minutes}</td>"
        f"<td>{html.escape(w(f'course.{c.key}.goal'))}</td>"
        f"<td>{html.escape(w('teacher.' + _cost(c, cost)))}</td></tr>"
        for i, c in enumerate(CHAPTERS, 1)
    )
    heads = "".join(f"<th>{html.escape(w(f'teacher.table_{k}'))}</th>" for k in ("chapter", "minutes", "goal", "cost"))
    st.html(f"<div class=wide><table class=plan><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>")
    st.html(f"<h3>{html.escape(w('teacher.questions'))}</h3>")
    for i, c in enumerate(CHAPTERS, 1):
        with st.expander(f"{i}. {w(f'course.{c.key}.title')}", key=f"answers.{c.key}"):
            for n in (1, 2):
                question, answer = (html.escape(w(f"course.{c.key}.{letter}{n}")) for letter in "qa")
                st.html(f"<p class=quiz>{question}</p><p>{answer}</p>")
            st.html(f"<p class=soft>{html.escape(', '.join(c.fidelity))} · docs/fidelity.md</p>")
    for key in ("links", "offline", "privacy"):
        st.html(
            f"<h3>{html.escape(w(f'teacher.{key}_heading'))}</h3><p class=prose>{html.escape(w(f'teacher.{key}'))}</p>"
        )


def _cost(chapter: Chapter, known: dict[str, str]) -> str:
    return "cost_train" if chapter.key == "training" else "cost_v2" if chapter.key == "own" else known[chapter.kind]
