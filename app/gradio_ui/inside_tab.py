"""Build the Inside tab: what each network component computes at every step, and runs with one change."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.analysis import comparisons
from app.analysis.comparisons import CHANGES, Change, Pair
from app.components import diagram, equaliser, scrubber
from app.core.session import FinishedRun
from app.gradio_ui import film, run_button
from app.gradio_ui.events import QUICK, Update, Updates, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, Selection, Tab
from app.i18n import Words, words
from app.views import comparison_views, descriptions, films, panels
from app.views.diagram import diagram as network_diagram
from medsegdiff.progress import Progress

__all__ = ["build"]

_PANELS = [panel for panel in panels.PANELS if panel.tab == "inside"]
# Plotly charts drawn while hidden have no width; a resize event makes them measure again.
_SHOW_PART = """(key) => {
    document.querySelector('.parts').dataset.part = window.__panel = key;
    window.dispatchEvent(new CustomEvent('panel-shown', { detail: key }));
    setTimeout(() => window.dispatchEvent(new Event('resize')), 60);
}"""
# Open the panel of a block that was chosen in the diagram: select it, scroll to it, and move the keyboard focus there.
_OPEN_PANEL = """
window.addEventListener('panel', ({ detail: key }) => {
    const input = document.querySelector(`#parts input[value="${key}"]`), panel = document.querySelector(`.part-${key}`);
    input.click();
    Object.assign(panel, { tabIndex: -1, role: 'group', ariaLabel: input.closest('label').textContent.trim() });
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    setTimeout(() => {
        panel.focus({ preventScroll: true });
        document.getElementById('parts').scrollIntoView({ behavior: still ? 'auto' : 'smooth' });
    });
});
"""
_SHOW_DIALS = """(key) => {
    const shown = (dials) => (dials.id === 'dials-' + key ? 'flex' : 'none');
    document.querySelectorAll('#change-%s .dials').forEach((dials) => { dials.style.display = shown(dials); });
}"""


def build(page: PageState) -> Tab:
    """Create the choice of components, a panel for each, and below it the changes that apply to it."""
    opening = page.opening.recording
    empty = gr.HTML("", elem_classes="words")
    network = gr.HTML(
        None, html_template=diagram.MARKUP, js_on_load=diagram.SCRIPT + _OPEN_PANEL, elem_id="diagram", min_height=0
    )
    timeline = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="timeline")
    legend = gr.HTML("", elem_classes="words")
    available = descriptions.parts(opening, words("en"))
    part = page.localized(
        gr.Radio,
        lambda w: {"label": w("page.parts")},
        choices=available,
        value=available[0][1] if available else None,
        show_label=False,
        container=False,
        interactive=True,
        elem_id="parts",
        elem_classes="segments",
    )
    shown: list[film.PanelWidgets] = []
    changes: list[_ChangeWidgets] = []
    with gr.Column(elem_classes="parts"):
        for panel in _PANELS:
            with gr.Column(elem_classes=["part", f"part-{panel.key}"]):
                shown.append(film.build(page, panel))
                changes.append(_build_change(page, panel.key))
    part.change(None, [part], None, js=_SHOW_PART, **QUICK)

    def show(selection: Selection, w: Words) -> Update:
        recording, card = selection.recording, page.session.card_of(selection.checkpoint)
        available, run = descriptions.parts(recording, w), film.run_of(recording) if recording else ""
        update: Update = {
            network: network_diagram(card.kind, recording, w, run) if card else None,
            timeline: scrubber.timeline(films.positions(recording, w), w, run=run) if recording else None,
            legend: f"<p>{w('diagram.text' if recording else 'diagram.waiting')}</p>" if card else "",
            part: gr.update(choices=available, value=available[0][1] if available else None, visible=bool(available)),
            empty: "" if available else f"<p>{w('inside.empty')}</p>",
        }
        for panel, changed in zip(shown, changes, strict=True):
            update |= film.show(panel, selection, w) | {changed.film: None, changed.summary: ""}
        return update

    panel_widgets = [widget for panel in shown for widget in panel.widgets]
    results = [widget for changed in changes for widget in (changed.film, changed.summary)]
    return Tab("inside", [empty, network, timeline, legend, part, *panel_widgets, *results], show)


@dataclass(frozen=True, slots=True)
class _ChangeWidgets:
    """The widgets that show the effect of a change."""

    film: Any
    summary: Any


def _build_change(page: PageState, panel: str) -> _ChangeWidgets:
    """Create the widgets to change one component: choice, parameters, run button, and both runs side by side."""
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
        dials = {row.key: _build_dials(page, row) for row in rows}
        runs = run_button.build(page, lambda w: {"value": w("change.run")}, f"again-{panel}")
        summary = gr.HTML("", elem_classes="words summary", elem_id=f"summary-{panel}")
        result = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id=f"film-pair-{panel}")
    which.change(None, [which], None, js=_SHOW_DIALS % panel, **QUICK)
    all_dials = [widget for widgets in dials.values() for widget in widgets]

    def run_changed(
        latest: LatestRequest,
        key: str,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
        *values: Any,
    ) -> Updates:
        w, selection = latest.words(language), page.selection(image, finished_run, name)
        if selection.recording is None:
            raise refusal(w("inside.empty"), w)
        given = dict(zip(all_dials, values, strict=True))
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
                            summary: comparison_views.pair_words(event, w),
                        }

    runs.does(run_changed, [which, *page.seen, *all_dials], [result, summary])
    return _ChangeWidgets(result, summary)


def _build_dials(page: PageState, row: Change) -> list[Any]:
    """Create the parameter controls of one change, visible while it is selected."""
    with gr.Row(elem_classes="dials", elem_id=f"dials-{row.key}"):
        if row.custom:
            return [_build_equaliser(page)]
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


def _build_equaliser(page: PageState) -> Any:
    """Create the equaliser for custom gains."""
    return page.localized(
        gr.HTML,
        lambda w: {"label": w("dial.custom.label")},
        value=[1.0] * equaliser.GAINS,
        html_template=equaliser.MARKUP,
        js_on_load=equaliser.SCRIPT,
        elem_id="equaliser",
    )
