"""Show a panel of a run as widgets: its film, text and charts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr

from app.components import scrubber
from app.core.frames import Recording
from app.gradio_ui.events import Update
from app.gradio_ui.page_state import PageState, Selection
from app.i18n import Words, words
from app.views import panels

__all__ = ["PanelWidgets", "build", "run_of", "show", "still"]

_PLOTS = 4  # most charts of a panel


@dataclass(frozen=True, slots=True)
class PanelWidgets:
    """The widgets of one panel."""

    panel: panels.Panel
    film: Any
    plots: list[Any]
    between: Any = None  # widgets between film and text

    @property
    def widgets(self) -> list[Any]:
        """All widgets that a selection can change."""
        return [self.film, *self.plots]


def build(
    page: PageState, panel: panels.Panel, opening: Recording | None = None, *, between: Callable[[], Any] = lambda: None
) -> PanelWidgets:
    """Create the widgets of a panel; with a recording, its result is shown on page load.

    The film itself follows in the visitor's language; in the page, it would be half of what has to arrive before the first paint.
    """
    first = None
    if opening:
        _cached(panel, opening, "en")  # ready for the first visitor
        first = panels.film_of(panel, opening, words("en"), run_of(opening), last_only=True)
    film = gr.HTML(
        first, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id=f"film-{panel.key}", visible=True
    )
    middle = between()
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w(f'panel.{panel.key}.text')}</p>"}, elem_classes="words")
    with gr.Row(elem_classes="charts"):
        plots = [gr.Plot(show_label=False, container=False, visible=False) for _ in range(_PLOTS)]
    return PanelWidgets(panel, film, plots, middle)


def still(shown: PanelWidgets, film: dict[str, Any] | None) -> Update:
    """Show one film, or none, and hide the charts."""
    return {shown.film: film} | {plot: gr.update(visible=False, value=None) for plot in shown.plots}


def show(shown: PanelWidgets, selection: Selection, w: Words) -> Update:
    """Show the panel of a run; empty if the run has no data for it."""
    recording = selection.recording
    if recording is None or not shown.panel.needs(recording):
        return still(shown, None)
    # Shipped recordings never change, so their films are built once for all visitors.
    film, figures = (_render if selection.finished_run else _cached)(shown.panel, recording, w.language)
    charts = dict(zip(shown.plots, figures, strict=False))
    return {shown.film: film or None} | {
        plot: gr.update(value=charts.get(plot), visible=plot in charts) for plot in shown.plots
    }


def _render(panel: panels.Panel, recording: Recording, language: str) -> tuple[dict[str, Any], list[Any]]:
    w = words(language)
    return panels.film_of(panel, recording, w, run_of(recording)), panels.charts_of(panel, recording, w)


def run_of(recording: Recording) -> str:
    """Identify a run, so that its films move together."""
    return f"{recording.facts['digest'][:8]}-{id(recording)}"


_cached = lru_cache(maxsize=64)(_render)
