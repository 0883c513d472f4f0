"""Show controls, films, numbers and tasks of a chapter as Streamlit widgets."""

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import streamlit as st

from app.core import catalogue
from app.core.settings import Choice, Control, Flags, Number, Slide
from app.course import thumbnails
from app.course.chapter import Chapter, Faders, Seen
from app.course.visit import Visit
from app.i18n import Words
from app.streamlit_ui import bridge
from app.views import descriptions
from app.views.charts import Figure, apart

__all__ = ["cell", "controls", "forget", "hold", "label_of", "numbers", "pictured", "show", "tasks"]

_CHARTS = 3  # most charts side by side; on a phone they stand below each other
_IN_A_ROW = 24  # most characters of all options in a row of buttons; longer ones use a select box


def label_of(field: str, w: Words) -> str:
    """Return the label of a control, preferring the course's text to the page's."""
    return w.known(f"control.{field}.label", w.known(f"settings.{field}.label", field))


def _help(field: str, w: Words) -> str:
    return w.known(f"control.{field}.help", w.known(f"settings.{field}.help", ""))


def _option(field: str, choice: str | int, w: Words) -> str:
    if field in ("size", "parser_size"):
        return descriptions.option("size", choice, w)
    short = w.known(f"control.{choice}", str(choice)) if choice in ("on", "off") else str(choice)
    return w.known(f"control.{field}.{choice}", w.known(f"settings.{field}.{choice}", short))


def controls(chapter: Chapter, visit: Visit, w: Words) -> None:
    """Show the visible controls, and store their values in the visit."""
    values = dict(visit.values[chapter.key])
    for control in chapter.controls:
        hidden = control.field in visit.hidden or (visit.recordings and control.field in chapter.unrecorded)
        if not hidden:
            values[control.field] = (
                _faders(control, chapter, visit, values, w)  # after the choice of a preset, which they show
                if isinstance(control, Faders)
                else _control(control, chapter, visit, w)
            )
    visit.change(chapter, values)


def _control(control: Control, chapter: Chapter, visit: Visit, w: Words) -> Any:
    field, key = (
        control.field,
        f"{chapter.key}.{control.field}.{w.language}",
    )  # a widget loses its value if its labels change
    value = visit.values[chapter.key][field]
    labels: dict[str, Any] = {"label": label_of(field, w), "help": _help(field, w) or None}
    if isinstance(control, Choice):
        hold(key, value)
    elif key not in st.session_state and not isinstance(control, Flags):
        st.session_state[key] = value  # Streamlit drops the state of hidden widgets
    match control:
        case Slide(low=low, high=high, step=step):
            whole = all(float(x).is_integer() for x in (low, high, step)) and isinstance(control.default, int)
            kind = int if whole else float
            st.session_state[key] = kind(st.session_state[key])
            return st.slider(**labels, min_value=kind(low), max_value=kind(high), step=kind(step), key=key)
        case Number(default=default, low=low, high=high, step=step):
            kind = int if step == 1 else float
            if default is None:  # so that it can be cleared
                labels |= {"value": None, "placeholder": w(f"settings.{field}.auto")}
            given = st.number_input(**labels, min_value=kind(low), max_value=kind(high), step=kind(step), key=key)
            return given if given is None else kind(given)
        case Flags(choices=choices):
            st.caption(labels["label"])
            return [c for c in choices if st.checkbox(_option(field, c, w), c in value, key=f"{key}.{c}")]
        case Choice(choices=choices) if field == "case":
            chosen = st.segmented_control(
                **labels, options=choices, format_func=lambda c: pictured(c, w), key=key, required=True
            )
            return value if chosen is None else chosen
        case Choice(choices=choices) if _fits([_option(field, choice, w) for choice in choices]):
            chosen = st.segmented_control(
                **labels, options=choices, format_func=lambda c: _option(field, c, w), key=key, required=True
            )
            return value if chosen is None else chosen  # while the page loads it may be none, although one is required
        case Choice(choices=choices):
            return st.selectbox(**labels, options=choices, format_func=lambda c: _option(field, c, w), key=key)


def hold(key: str, value: Any) -> None:
    """Keep the state of a widget, or begin with a value, and send it to the browser again.

    Streamlit sends a value that the state sets with one run only. A page that is still loading may miss that run, as the
    next one follows at once, and then shows no option as chosen, or sends none back.
    """
    held = st.session_state.get(key)
    st.session_state[key] = value if held is None else held


def pictured(seed: int, w: Words, name: str = "", task: str = catalogue.TASK) -> str:
    """Return the label of a phantom in Markdown: its picture, and its number or another name."""
    return f"![{w('course.phantom', number=seed)}]({thumbnails.of_image(seed, task)}) {name or seed}"


def _fits(names: Sequence[str]) -> bool:
    wide = sum(
        2 if ord(letter) > 0x2E80 else 1 for name in names for letter in name
    )  # a Chinese character is twice as wide
    return wide + 2 * len(names) <= _IN_A_ROW


def _faders(control: Faders, chapter: Chapter, visit: Visit, values: Mapping[str, Any], w: Words) -> tuple[float, ...]:
    """Show the faders at the preset that is chosen among the values, or at their own gains."""
    chosen = values[control.choice]
    value = control.presets.get(chosen, values[control.field])

    def drawn(gains: tuple[float, ...]) -> None:
        held = visit.values[chapter.key]
        held[control.field] = tuple(min(max(g, control.low), control.high) for g in gains)
        held[control.choice] = control.own
        forget(chapter, control.choice)
        visit.places.pop(chapter.key, None)

    st.caption(f"{label_of(control.field, w)}  \n{_help(control.field, w)}")
    preset = chosen if chosen in control.presets else ""
    bridge.faders(value, label_of(control.field, w), f"{chapter.key}.{control.field}", drawn, preset)
    return value


def forget(chapter: Chapter, field: str) -> None:
    """Discard the state of a control's widget, which then shows the value of the visit."""
    for key in [k for k in st.session_state if str(k).startswith(f"{chapter.key}.{field}.")]:
        st.session_state.pop(key)


def show(
    chapter: Chapter, seen: Seen, visit: Visit, *, prefix: str = "", mark: Callable[[str], str] = html.escape
) -> None:
    """Show the films, numbers and charts of a chapter."""

    def moved(at: int) -> None:
        visit.places[chapter.key] = at

    for i, film in enumerate(seen.films):
        if seen.text and film is seen.films[-1]:
            st.html(f"<p class='prose part'>{mark(seen.text)}</p>")
        place = visit.places.get(chapter.key)
        at = min(place, len(film["positions"]) - 1) if place is not None and not i else film["at"]
        name = f"{prefix}film.{chapter.key}.{i}"
        if i:
            shared = film["positions"] == seen.films[0]["positions"]
            bridge.film({**film, "at": at}, name, moved if shared else _stay)
            continue
        with st.container(key="picture"):
            bridge.film({**film, "at": at}, name, moved, pinned=True)
        numbers(seen)
    if not seen.films:
        numbers(seen)
    for i, row in enumerate(_rows(seen.figures)):
        for j, (column, figure) in enumerate(zip(st.columns(len(row)), row, strict=True)):
            column.plotly_chart(
                figure,
                key=f"{prefix}chart.{chapter.key}.{i}.{j}",
                config={"displayModeBar": False},
                theme=None,
                width="stretch",
            )


def _stay(at: int) -> None:
    """Leave the chapter where it is: a film with a timeline of its own was moved."""


def _rows(figures: Sequence[Figure]) -> list[list[Figure]]:
    """Arrange charts in rows: the panels of one figure side by side, and figures of one panel in twos.

    Of an odd number the first has a row of its own, so that pairs, such as the two of a stage, stay together.
    """
    rows: list[list[Figure]] = []
    for single, group in groupby(map(apart, figures), lambda parts: len(parts) == 1):
        found = list(group)
        for charts in [[c for (c,) in found]] if single else found:
            width = 2 if single else _CHARTS
            first = len(charts) % 2 if single else 0
            rows += [charts[:first]] if first else []
            rows += [charts[i : i + width] for i in range(first, len(charts), width)]
    return rows


def numbers(seen: Seen) -> None:
    """Show facts as labelled numbers, and facts without a label as text."""
    labelled = [fact for fact in seen.numbers if fact.label]
    for fact in seen.numbers:
        if not fact.label:
            st.html(f"<p class=soft>{fact.value}</p>")
    if labelled:
        cells = (
            f"<div><dt>{html.escape(f.label)}</dt><dd>{html.escape(f.value)}</dd>"
            f"<dd class=detail>{html.escape(f.detail)}</dd></div>"
            for f in labelled
        )
        st.html(f"<dl class=facts>{''.join(cells)}</dl>")


def tasks(rows: Sequence[tuple[str, bool]], heading: str, finished: str) -> None:
    """Show the list of tasks, with a tick for those that are done."""
    items = "".join(
        f'<li class="{"done" if done else "open"}"><span aria-hidden=true>{"✓" if done else ""}</span>'
        f"{html.escape(text)}</li>"
        for text, done in rows
    )
    whole = f"<p class=whole>{html.escape(finished)}</p>" if all(done for _, done in rows) else ""
    st.html(f"<div class=tasks><h3>{html.escape(heading)}</h3><ul>{items}</ul>{whole}</div>")


def rows_of(notes: Sequence[Mapping[str, Any]], w: Words) -> list[dict[str, str]]:
    """Format the rows of the notebook."""
    return [{w.known(f"log.{k}", label_of(k, w)): cell(k, v, w) for k, v in row.items()} for row in notes]


def cell(field: str, value: Any, w: Words) -> str:
    """Format the value of a control or fact."""
    if isinstance(value, tuple | list):
        return " ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else _option(field, value, w)
