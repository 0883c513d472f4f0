"""Build the course page: language, list of chapters, and the current chapter."""

import html
import os
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

import pandas  # noqa: F401  here, or one thread's import of it is seen half done by plotly in another
import streamlit as st

from app.course import thumbnails
from app.course.bench import Bench
from app.course.chapter import Chapter, Seen
from app.course.chapters import CHAPTERS
from app.course.visit import TEACHER, Visit
from app.i18n import LANGUAGES, Words, words
from app.streamlit_ui import bridge, sheet, widgets
from app.streamlit_ui import chapter as one
from app.views.diagram import diagram

__all__ = ["main"]

_STYLE = Path(__file__).with_name("course.css")
_FORCED = "MEDSEGDIFF_RECORDINGS"


@st.cache_resource
def _bench() -> Bench:
    return Bench()


def main() -> None:
    """Draw the page; Streamlit calls this function again after every interaction."""
    st.set_page_config(page_title="MedSegDiff course · 课程", page_icon="🩻", layout="wide")
    visit: Visit = st.session_state.setdefault("visit", None) or Visit.begin(st.query_params, st.context.locale)
    st.session_state["visit"] = visit
    forced = os.environ.get(_FORCED, "") not in ("", "0") or find_spec("torch") is None
    visit.recordings = visit.recordings or forced
    w = words(visit.language, "course")
    st.html(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>")
    chapter = next((c for c in CHAPTERS if c.key == visit.chapter), None)
    if ("print" in st.query_params or st.session_state.get("printing")) and chapter:
        bridge.keep(visit.kept() if visit.restored else None, "kept", visit.restore, warn=False)
        sheet.printed(_bench(), chapter, visit, w)
        return
    _head(visit)
    training = st.session_state.get("training")
    unsaved = bool(training and training["trainer"] and training["trainer"].history.noise)
    bridge.keep(visit.kept() if visit.restored else None, "kept", visit.restore, warn=unsaved)
    if "nav" not in visit.hidden:
        _list(visit, w, forced)
    w = words(visit.language, "course")
    _address(visit)
    if chapter is None:
        sheet.teacher(visit, w)
    else:
        mapped = "nav" not in visit.hidden
        network = st.expander(w("course.map"), key="map", on_change="rerun") if mapped else None
        seen = one.page(_bench(), chapter, visit, w)
        if network and network.open:
            with network:
                _map(chapter, seen, visit, w)
    st.html(f"<p class=foot>{html.escape(w('course.notice_medical'))}</p>")


def _head(visit: Visit) -> None:
    left, right = st.columns([3, 1], vertical_alignment="center")
    widgets.hold("language", visit.language)
    chosen = right.segmented_control(
        "Language · 语言",
        list(LANGUAGES),
        format_func=lambda language: LANGUAGES[language],
        label_visibility="collapsed",
        required=True,
        key="language",
    )
    visit.set_language(chosen or visit.language)
    w = words(visit.language, "course")
    brand = f"<b>{html.escape(w('course.title'))}</b><span>{html.escape(w('course.subtitle'))}</span>"
    left.html(f"<div class=brand>{brand}</div>")


def _map(chapter: Chapter, seen: Seen, visit: Visit, w: Words) -> None:
    """Show the network with the blocks of the chapter marked, and pictures of its run; a block opens its chapter."""
    widgets.hold("network", "v1")
    if st.session_state.get("mapped") != chapter.key:
        st.session_state.update(mapped=chapter.key, network=chapter.kind or st.session_state["network"])
    kind = st.segmented_control(
        w("course.map_network"),
        ("v1", "v2"),
        format_func=str.upper,
        required=True,
        key="network",
        label_visibility="collapsed",
    )
    titles = {c.key: f"{i}. {w(f'course.{c.key}.title')}" for i, c in enumerate(CHAPTERS, 1)}
    opens = {block: (c.key, w("course.map_opens", title=titles[c.key])) for c in CHAPTERS for block in c.blocks}

    def opened(key: str) -> None:
        visit.chapter = key if key in titles else visit.chapter

    recording = seen.recording if kind == chapter.kind else None
    run = seen.films[0]["run"] if recording else ""
    drawn = diagram(kind or "v1", recording, w, run, opens=opens)
    bridge.diagram({**drawn, "here": chapter.key}, "diagram", opened)
    st.caption(w("course.map_text") + (f" {w('course.map_run')}" if recording else ""))


def _list(visit: Visit, w: Words, forced: bool) -> None:
    w = words(visit.language, "course")

    def name(key: str) -> str:
        if key == TEACHER:
            return w("course.teacher")
        number = next(i for i, c in enumerate(CHAPTERS, 1) if c.key == key)
        tick = " ✓" if visit.finished(CHAPTERS[number - 1]) else ""
        return f"{number}. {w(f'course.{key}.title')}{tick}"

    names = {key: name(key) for key in (*(c.key for c in CHAPTERS), TEACHER)}
    widget = f"chapters.{crc32('|'.join(names.values()).encode()):x}"  # a radio loses its value if its labels change
    st.session_state[widget] = visit.chapter

    def go() -> None:
        visit.chapter = st.session_state[widget]

    with st.sidebar:
        pictured = {key: f"![]({thumbnails.of_chapter(key)}) {name}" for key, name in names.items() if key != TEACHER}
        st.radio(
            w("course.chapters"), list(names), format_func=(names | pictured).__getitem__, key=widget, on_change=go
        )
        done = sum(visit.finished(c) for c in CHAPTERS)
        st.caption(w("course.progress", done=done, total=len(CHAPTERS)))
        if forced:
            st.caption(w("course.mode_forced"))
        else:
            widgets.hold("recordings", visit.recordings)
            visit.recordings = st.toggle(w("course.mode"), key="recordings", help=w("course.mode_help"))
        if any(visit.done.values()) or any(visit.answers.values()):
            with st.popover(w("course.forget"), type="tertiary"):
                st.button(w("course.forget_all"), help=w("course.forget_help"), on_click=visit.forget, key="forget")


def _address(visit: Visit) -> None:
    """Keep chapter and language in the URL, and the other parameters of a link while its chapter is open."""
    current = dict(st.query_params)
    keep = current if current.get("chapter", visit.chapter) == visit.chapter else {}
    query = {**keep, **visit.query(visit.hidden, controls=False)}
    if not visit.recordings:
        query.pop("mode", None)
    if query != current:
        st.query_params.from_dict(query)
