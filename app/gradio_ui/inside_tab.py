"""The second room: what every named part of the network did at every step, and what becomes of it when one is changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.analysis import comparisons
from app.analysis.comparisons import CHANGES, Change, Pair
from app.components import equaliser, scrubber
from app.core.session import FinishedRun
from app.gradio_ui import film, run_button
from app.gradio_ui.page_state import QUICK, LatestRequest, PageState, Selection, Tab, Update, refusal, refusing
from app.i18n import Words, words
from app.views import comparison_views, descriptions, panels
from medsegdiff.records import Progress

__all__ = ["build"]

_PANELS = [panel for panel in panels.PANELS if panel.tab == "inside"]
# A chart drawn where nobody sees it does not know its width; it measures again when the window says so.
_SHOW_PART = """(key) => {
    document.querySelector('.parts').dataset.part = key;
    setTimeout(() => window.dispatchEvent(new Event('resize')), 60);
}"""
_SHOW_DIALS = """(key) => {
    const shown = (dials) => (dials.id === 'dials-' + key ? 'flex' : 'none');
    document.querySelectorAll('#change-%s .dials').forEach((dials) => { dials.style.display = shown(dials); });
}"""


def build(page: PageState) -> Tab:
    """Lay a choice of parts, every part's panel, and below each what can be changed in it."""
    opening = page.opening.recording
    empty = gr.HTML("", elem_classes="words")
    there = descriptions.parts(opening, words("en"))
    part = page.localized(
        gr.Radio,
        lambda w: {"label": w("page.parts")},
        choices=there,
        value=there[0][1] if there else None,
        show_label=False,
        container=False,
        interactive=True,
        elem_id="parts",
        elem_classes="segments",
    )
    shown: list[film.Shown] = []
    changes: list[_Changed] = []
    with gr.Column(elem_classes="parts"):
        for panel in _PANELS:
            with gr.Column(elem_classes=["part", f"part-{panel.key}"]):
                shown.append(film.build(page, panel))
                changes.append(_lay_change(page, panel.key))
    part.change(None, [part], None, js=_SHOW_PART, **QUICK)

    def show(selection: Selection, w: Words) -> Update:
        there = descriptions.parts(selection.recording, w)
        update: Update = {
            part: gr.update(choices=there, value=there[0][1] if there else None, visible=bool(there)),
            empty: "" if there else f"<p>{w('inside.empty')}</p>",
        }
        for panel, changed in zip(shown, changes, strict=True):
            update |= film.show(panel, selection, w) | {changed.film: None, changed.told: ""}
        return update

    panel_widgets = [widget for panel in shown for widget in panel.widgets]
    results = [widget for changed in changes for widget in (changed.film, changed.told)]
    return Tab("inside", [empty, part, *panel_widgets, *results], show)


@dataclass(frozen=True, slots=True)
class _Changed:
    """Where the outcome of a change is shown."""

    film: Any
    told: Any


def _lay_change(page: PageState, panel: str) -> _Changed:
    """Lay the changes of one part: which, how much, run again, and both runs side by side."""
    rows = [row for row in CHANGES if row.panel == panel]
    with gr.Column(elem_classes="change", elem_id=f"change-{panel}"):
        page.localized(
            gr.HTML,
            lambda w: {"value": f"<h3>{w('change.heading')}</h3><p>{w('change.text')}</p>"},
            elem_classes="words",
        )
        which = page.localized(
            gr.Radio,
            lambda w: {
                "label": w("change.which"),
                "choices": [(w(f"change.{row.key}.title"), row.key) for row in rows],
            },
            value=rows[0].key,
            show_label=False,
            container=False,
            interactive=True,
            elem_classes="segments",
            elem_id=f"which-{panel}",
        )
        dials = {row.key: _lay_dials(page, row) for row in rows}
        runs = run_button.build(page, lambda w: {"value": w("change.run")}, f"again-{panel}")
        told = gr.HTML("", elem_classes="words told", elem_id=f"told-{panel}")
        result = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id=f"film-pair-{panel}")
    which.change(None, [which], None, js=_SHOW_DIALS % panel, **QUICK)
    turned = [widget for widgets in dials.values() for widget in widgets]

    def again(
        latest: LatestRequest,
        key: str,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
        *values: Any,
    ) -> Iterator[Update]:
        w, selection = latest.words(language), page.selection(image, finished_run, name)
        if selection.recording is None:
            raise refusal(w("inside.empty"), w)
        given = dict(zip(turned, values, strict=True))
        row = next((row for row in rows if row.key == key), rows[0])
        numbers = [given[widget] for widget in dials[row.key]]
        with refusing(w, "errors.settings"):
            fields = comparisons.change(row.key, [] if row.custom else numbers, numbers[0] if row.custom else [])
            events = comparisons.intervene(
                page.session, selection.target, selection.recording, selection.labels, row.key, fields
            )
            for event in events:
                w = latest.words(language)
                match event:
                    case Progress():
                        yield {runs.line: run_button.status(event, w)}
                    case Pair():
                        yield {
                            result: comparison_views.pair_film(event, w),
                            told: comparison_views.pair_words(event, w),
                        }

    runs.does(again, [which, *page.seen, *turned], [result, told])
    return _Changed(result, told)


def _lay_dials(page: PageState, row: Change) -> list[Any]:
    """Lay the dials of one change; they show when it is chosen."""
    with gr.Row(elem_classes="dials", elem_id=f"dials-{row.key}"):
        if row.custom:
            return [_lay_equaliser(page)]
        return [
            page.localized(
                gr.Slider,
                lambda w, field=dial.field: {"label": w(f"dial.{field}.label"), "info": w(f"dial.{field}.help")},
                minimum=dial.low,
                maximum=dial.high,
                step=dial.step,
                value=dial.default,
                interactive=True,
                elem_id=f"dial-{row.key}-{dial.field}",
            )
            for dial in row.dials
        ]


def _lay_equaliser(page: PageState) -> Any:
    """Lay a profile to draw."""
    return page.localized(
        gr.HTML,
        lambda w: {"label": w("dial.custom.label")},
        value=[1.0] * equaliser.GAINS,
        html_template=equaliser.MARKUP,
        js_on_load=equaliser.SCRIPT,
        elem_id="equaliser",
    )
