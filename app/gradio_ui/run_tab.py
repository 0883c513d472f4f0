"""Build the Run tab: run a model, watch every step, stop it, and download the result."""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from app.analysis.comparisons import Clock
from app.core.frames import Frame, Opening, Recording
from app.core.session import FinishedRun, RunOutput
from app.core.settings import read
from app.gradio_ui import files, film, run_button
from app.gradio_ui.events import BUSY, QUICK, Update, Updates, in_turn, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, Selection, Tab
from app.gradio_ui.sidebar import Sidebar
from app.i18n import Words, words
from app.views import descriptions, films, panels

__all__ = ["build"]

_FRAMES_PER_SECOND = 10
_PANEL = next(panel for panel in panels.PANELS if panel.key == "steps")


def build(page: PageState, sidebar: Sidebar) -> Tab:
    """Create the film of the steps, the figures and the downloads, and connect Run and Stop."""
    opening = page.opening.recording
    sidebar.batch.group.render()
    shown = film.build(page, _PANEL, opening, between=lambda: _below(page, sidebar, opening))
    facts, downloads = shown.between
    widgets = [*shown.widgets, facts, *downloads.widgets]

    def unrun(selection: Selection) -> Opening:
        """Return the image before a run, with the part of it that the checkpoint will see."""
        card = page.session.card_of(selection.checkpoint)
        return replace(selection.target.opening, field=card.field if card else 1.0)

    def show(selection: Selection, w: Words) -> Update:
        """Show a run, or the image if it has not been run yet."""
        if selection.recording is None:
            waiting = films.still(unrun(selection), w, descriptions.waiting(selection.target, w))
            return film.still(shown, waiting) | {facts: ""} | downloads.hidden()
        figures = {facts: descriptions.facts(selection.recording, w, live=selection.finished_run is not None)}
        return film.show(shown, selection, w) | figures | ({} if selection.finished_run else downloads.hidden())

    def run(latest: LatestRequest, image: object, name: str | None, language: str, *values: object) -> Updates:
        yield {sidebar.run: gr.update(interactive=False), sidebar.stop: gr.update(interactive=True)}
        (image,) = page.current(latest, [page.states.image], [image])
        updates = latest.until_another(name, going(latest, image, name, language, *values))
        waiting = run_button.waiting_line(latest.words(language))
        yield from in_turn(page.session.turns, updates, {sidebar.estimate: waiting})
        yield idle()  # Gradio sends the last update twice, so make it small

    def going(latest: LatestRequest, image: object, name: str | None, language: str, *values: object) -> Updates:
        w = latest.words(language)
        yield {page.controls.tab: "run", page.states.drawn: ("run",)} | sidebar.batch.hidden()
        try:
            with refusing(w, "errors.settings"):
                if name is None:
                    raise refusal(w("model.none"), w)
                selection, settings = page.selection(image, None, name), read(values)
                loading = films.live(unrun(selection), None, w, w("run.loading"), 0.0)
                yield film.still(shown, loading) | {facts: ""} | downloads.hidden()
                page.session.segmenter(name)
                with closing(page.session.run(name, selection.target, settings)) as events:
                    yield from watched(events, image, name, latest, language)
        except gr.Error:
            yield page.draw("run", page.selection(image, None, name), latest.words(language)) | idle()
            raise

    def watched(
        events: Iterator[Opening | Frame | RunOutput], image: object, name: str, latest: LatestRequest, language: str
    ) -> Updates:
        """Show the events of a run, at most ten frames per second, in the current language."""
        opening: Opening | None = None
        clock, painted = Clock(), 0.0
        for event in events:
            w = latest.words(language)
            match event:
                case Opening():
                    opening = event
                    status = w("run.anchor" if opening.anchor else "run.looking")
                    yield {shown.film: films.live(opening, None, w, status, 0.0)}
                case Frame() as frame:
                    now, done = time.perf_counter(), frame.index + 1
                    left = clock.left(done, frame.total)
                    if frame.index and frame.index + 1 < frame.total and now - painted < 1 / _FRAMES_PER_SECOND:
                        continue
                    painted, eta = now, "…" if math.isnan(left) else f"{left:.1f}"
                    status = w("run.step", step=done, total=frame.total, t=frame.t, eta=eta)
                    assert opening is not None
                    yield {shown.film: films.live(opening, frame, w, status, done / frame.total)}
                case RunOutput():
                    finished_run = FinishedRun.of(event)
                    latest.ran(image, name, finished_run)
                    took = descriptions.estimate(page.session.estimate(name, event.result.settings), w)
                    selection = page.selection(image, finished_run, name)
                    drawn = page.draw("run", selection, w)
                    yield drawn | {page.states.finished_run: finished_run, sidebar.estimate: took}
                    yield downloads.offered(event, selection.target, w)  # the result does not wait for its files

    def idle() -> Update:
        return {sidebar.run: gr.update(interactive=True), sidebar.stop: gr.update(interactive=False)}

    run_button.show_waiting(sidebar.run, sidebar.stop)
    event = sidebar.run.click(
        run,
        [
            page.states.latest,
            page.states.image,
            page.controls.checkpoint,
            page.controls.language,
            *page.controls.settings,
        ],
        [
            *widgets,
            sidebar.batch.group,
            page.controls.tab,
            page.states.image,
            page.states.finished_run,
            page.states.drawn,
            sidebar.run,
            sidebar.stop,
            sidebar.estimate,
        ],
        **BUSY,
    )
    event.then(idle, None, [sidebar.run, sidebar.stop], js=run_button.clear_waiting(sidebar.run), **QUICK)
    sidebar.stop.click(
        idle,
        None,
        [sidebar.run, sidebar.stop],
        cancels=[event],
        js="() => window.dispatchEvent(new Event('film-stop'))",
        **QUICK,
    ).then(None, None, None, js=run_button.clear_waiting(sidebar.run), **QUICK)
    return Tab("run", widgets, show)


def _below(page: PageState, sidebar: Sidebar, opening: Recording | None) -> tuple[gr.HTML, files.Files]:
    """Create what is between the film and its text: what the lines mean, controls of a volume, figures, downloads."""
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w('run.lines')}</p>"}, elem_classes="words", elem_id="lines")
    sidebar.slices.group.render()
    return _facts(opening), files.build(page)


def _facts(recording: Any) -> gr.HTML:
    text = descriptions.facts(recording, words("en"), live=False) if recording else ""
    return gr.HTML(text, elem_id="facts")
