"""The first room: run, watch every step, stop, take the result home."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from app import panels, views, wording
from app.experiments import Clock
from app.frames import Frame, Opening
from app.gradio_ui import files, film, go
from app.gradio_ui.choose import Act
from app.gradio_ui.desk import BUSY, QUICK, Desk, Room, Scene, Update, Wish, refusal, refusing
from app.i18n import Words, words
from app.session import Finished, Stage
from app.settings import read

__all__ = ["lay"]

_FRAMES_PER_SECOND = 10
_PANEL = next(panel for panel in panels.PANELS if panel.key == "steps")


def lay(desk: Desk, act: Act) -> Room:
    """Lay the film of the steps, the facts, the files, and wire Run and Stop."""
    opening = desk.opening.recording
    shown = film.lay(desk, _PANEL, opening, between=lambda: (_facts(opening), files.lay(desk)))
    facts, downloads = shown.between
    widgets = [*shown.widgets, facts, *downloads.widgets]

    def show(scene: Scene, w: Words) -> Update:
        """Show a run, or the picture that waits for one."""
        if scene.recording is None:
            waiting = views.still(scene.target.opening, w, wording.waiting(scene.target, w))
            return film.still(shown, waiting) | {facts: ""} | downloads.hidden()
        told = {facts: wording.facts(scene.recording, w, live=scene.stage is not None)}
        return film.show(shown, scene, w) | told | ({} if scene.stage else downloads.hidden())

    def run(wish: Wish, subject: object, name: str | None, language: str, *values: object) -> Iterator[Update]:
        yield {act.run: gr.update(interactive=False), act.stop: gr.update(interactive=True)}
        yield from wish.until_another(name, going(wish, subject, name, language, *values))
        yield idle()  # Gradio sends a run's last word twice, so let that be a short one

    def going(wish: Wish, subject: object, name: str | None, language: str, *values: object) -> Iterator[Update]:
        w = wish.words(language)
        yield {desk.room: "try", desk.drawn: ("try",)}
        try:
            with refusing(w, "errors.settings"):
                if name is None:
                    raise refusal(w("model.none"), w)
                scene, settings = desk.scene(subject, None, name), read(values)
                loading = views.live(scene.target.opening, None, w, w("run.loading"), 0.0)
                yield {shown.film: loading, facts: ""} | downloads.hidden()
                desk.session.segmenter(name)
                with closing(desk.session.run(name, scene.target, settings)) as events:
                    yield from watched(events, subject, name, lambda: wish.words(language))
        except gr.Error:
            yield desk.draw("try", desk.scene(subject, None, name), wish.words(language)) | idle()
            raise

    def watched(
        events: Iterator[Opening | Frame | Finished], subject: object, name: str, speak: Callable[[], Words]
    ) -> Iterator[Update]:
        """Show what arrives, ten pictures a second at most, in the language of that moment."""
        opening: Opening | None = None
        clock, painted = Clock(), 0.0
        for event in events:
            w = speak()
            match event:
                case Opening():
                    opening = event
                    status = w("run.anchor" if opening.anchor else "run.looking")
                    yield {shown.film: views.live(opening, None, w, status, 0.0)}
                case Frame() as frame:
                    now, done = time.perf_counter(), frame.index + 1
                    left = clock.left(done, frame.total)
                    if frame.index and frame.index + 1 < frame.total and now - painted < 1 / _FRAMES_PER_SECOND:
                        continue
                    painted, eta = now, "…" if math.isnan(left) else f"{left:.1f}"
                    status = w("run.step", step=done, total=frame.total, t=frame.t, eta=eta)
                    assert opening is not None
                    yield {shown.film: views.live(opening, frame, w, status, done / frame.total)}
                case Finished():
                    stage = Stage.of(event)
                    took = wording.estimate(desk.session.estimate(name, event.result.settings), w)
                    drawn = desk.draw("try", desk.scene(subject, stage, name), w)
                    yield drawn | downloads.offered(event, subject, w) | {desk.stage: stage, act.estimate: took}

    def idle() -> Update:
        return {act.run: gr.update(interactive=True), act.stop: gr.update(interactive=False)}

    go.said_to_wait(act.run, act.stop)
    event = act.run.click(
        run,
        [desk.wish, desk.subject, desk.checkpoint, desk.language, *desk.controls],
        [*widgets, desk.room, desk.subject, desk.stage, desk.drawn, act.run, act.stop, act.estimate],
        **BUSY,
    )
    event.then(idle, None, [act.run, act.stop], js=go.left_line(act.run), **QUICK)
    act.stop.click(
        idle,
        None,
        [act.run, act.stop],
        cancels=[event],
        js="() => window.dispatchEvent(new Event('film-stop'))",
        **QUICK,
    ).then(None, None, None, js=go.left_line(act.run), **QUICK)
    return Room("try", widgets, show)


def _facts(recording: Any) -> gr.HTML:
    told = wording.facts(recording, words("en"), live=False) if recording else ""
    return gr.HTML(told, elem_id="facts")
