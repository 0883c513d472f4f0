"""Build the printable page of a chapter, and the page for instructors."""

import html
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.components import scrubber
from app.course.bench import Bench
from app.course.chapter import Chapter, Seen, source
from app.course.chapters import CHAPTERS
from app.course.chapters import own as own_chapter
from app.course.chapters import training as training_chapter
from app.course.visit import QUESTIONS, Visit
from app.i18n import Words
from app.streamlit_ui import chapter as one
from app.streamlit_ui import widgets
from app.views import paint
from app.views.panels import PANELS

__all__ = ["printed", "teacher"]

_LINES = 13  # most lines of code on the printed page
_HEADING = 5  # lines taken by the name and margins of a code block
_TILES = 6


def printed(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> None:
    """Build one printable page: question, current film, numbers, notes, equations, code and tasks."""
    c = f"course.{chapter.key}"
    number = next(i for i, each in enumerate(CHAPTERS, 1) if each.key == chapter.key)
    above = f"{w('course.title')} · {w('course.chapter', number=number, total=len(CHAPTERS))}"
    hint, back = st.columns([3, 1], vertical_alignment="center")
    hint.html(f"<p class='screen soft'>{html.escape(w('course.print_hint'))}</p>")
    back.button(w("course.print_back"), on_click=_back, key="back", width="stretch")
    st.html(
        f"<p class=above>{html.escape(above)}</p><h1 class=question>{html.escape(w(f'{c}.title'))}</h1>"
        f"<p class=ask>{html.escape(w(f'{c}.question'))}</p>"
    )
    seen = Seen()
    try:
        seen = _seen(bench, chapter, visit, w)
    except ValueError as error:
        st.html(f"<p class=soft>{html.escape(w.reason(error))}</p>")
    place = visit.places.get(chapter.key)
    strips = [
        _strip(film, place if film["positions"] == seen.films[0]["positions"] else None) for film in seen.films[:2]
    ]
    if strips:
        st.html("".join(f"<div class=strip>{strip}</div>" for strip in strips))
    widgets.numbers(seen)
    st.html(f"<div class=notice><h3>{html.escape(w('course.notice'))}</h3><p>{html.escape(w(f'{c}.notice'))}</p></div>")
    left, right = st.columns([1, 1.15], gap="medium")
    with left:
        one.equations(chapter, w)
        st.html(f"<h3>{html.escape(w('course.differ'))}</h3><p>{html.escape(w(f'{c}.differ'))}</p>")
    with right:
        left_over = _LINES
        for spec in chapter.sources:
            lines = source(spec).splitlines()
            if left_over < len(lines) + _HEADING and left_over < _LINES:
                break
            st.html(f"<p class=soft>{html.escape(spec)}</p>")
            st.code("\n".join(lines[:_LINES] + (["..."] if len(lines) > _LINES else [])), language="python")
            left_over -= len(lines) + _HEADING
        done = visit.done[chapter.key]
        widgets.tasks([(w(f"{c}.task_{task.key}"), task.key in done) for task in chapter.tasks], w("course.tasks"), "")


def _back() -> None:
    st.session_state["printing"] = False
    st.query_params.pop("print", None)


def _seen(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Return what the visitor last saw; for a chapter that shows no run of its own here, a recorded one."""
    own, training = st.session_state.get("own"), st.session_state.get("training")
    if chapter.key == "own" and own and own["result"]:
        return next(iter(own_chapter.show(own["result"]["recording"], w, "printed").values()))
    if chapter.key == "training" and training and training["trainer"]:
        return training_chapter.show(training["trainer"].history, training["trainer"].testing, w, "printed")
    if chapter.key == "own" or (one.replayed(bench, chapter, visit) and chapter.key != "training"):
        recording = next((run for _, run in one.recorded(bench, chapter, w).values()), None)
        panel = next(p for p in PANELS if p.key == chapter.panel)
        return one.seen_in(recording, panel, w, "printed") if recording else Seen()
    return one.seen_of(bench, chapter, visit, w)


def _strip(film: Mapping[str, Any], place: int | None) -> str:
    """Extract the tiles of one position from a film, as HTML."""
    at = min(film["at"] if place is None else place, len(film["positions"]) - 1)
    figures = []
    for row, view in enumerate(film["views"][:_TILES]):
        spoken = min(at, len(view["alts"]) - 1)
        title = view["titles"][at] if view["titles"] else view["title"]
        alt, title = html.escape(view["alts"][spoken]), html.escape(title)
        uri = paint.data_uri(scrubber.tile(film, row, at), 90)
        figures.append(f'<figure><img src="{uri}" alt="{alt}"><figcaption>{title}</figcaption></figure>')
    return "".join(figures) + f"<p class=soft>{html.escape(film['positions'][at]['label'])}</p>"


def teacher(visit: Visit, w: Words) -> None:
    """Build the instructor page: schedule, learning goals, questions and answers, links, and notes for classrooms."""
    minutes = sum(c.minutes for c in CHAPTERS)
    st.html(
        f"<h1 class=question>{html.escape(w('teacher.title'))}</h1>"
        f"<p class=ask>{html.escape(w('teacher.intro', minutes=minutes))}</p>"
    )
    rows = "".join(
        f"<tr><td>{i}. {html.escape(w(f'course.{c.key}.title'))}</td><td>{c.minutes}</td>"
        f"<td>{html.escape(w(f'course.{c.key}.goal'))}</td>"
        f"<td>{html.escape(w('teacher.' + _cost(c)))}</td></tr>"
        for i, c in enumerate(CHAPTERS, 1)
    )
    heads = "".join(f"<th>{html.escape(w(f'teacher.table_{k}'))}</th>" for k in ("chapter", "minutes", "goal", "cost"))
    st.html(f"<div class=wide><table class=plan><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>")
    st.html(f"<h3>{html.escape(w('teacher.questions'))}</h3>")
    for i, c in enumerate(CHAPTERS, 1):
        with st.expander(f"{i}. {w(f'course.{c.key}.title')}", key=f"answers.{c.key}"):
            predicted = (html.escape(w(f"course.{c.key}.{key}")) for key in ("predict", f"predict_{c.prediction}"))
            st.html("<p class=quiz>{}</p><p>{}</p>".format(*predicted))
            for n, right in zip(QUESTIONS, c.answers, strict=True):
                question, option, answer = (
                    html.escape(w(f"course.{c.key}.{key}")) for key in (f"q{n}", f"q{n}_{right}", f"a{n}")
                )
                st.html(f"<p class=quiz>{question}</p><p><b>{option}.</b> {answer}</p>")
            st.html(f"<p class=soft>{html.escape(', '.join(c.fidelity))} · docs/fidelity.md</p>")
    for key in ("links", "offline", "privacy"):
        st.html(
            f"<h3>{html.escape(w(f'teacher.{key}_heading'))}</h3><p class=prose>{html.escape(w(f'teacher.{key}'))}</p>"
        )


def _cost(chapter: Chapter) -> str:
    by_chapter = {"raters": "cost_raters", "reverse": "cost_reverse", "training": "cost_train", "own": "cost_v2"}
    return by_chapter.get(chapter.key) or {"": "cost_none", "v1": "cost_v1", "v2": "cost_v2"}[chapter.kind]
