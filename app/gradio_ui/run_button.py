"""A button that runs a network, its Stop beside it, and a line that says how far it is."""

import html
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from app.gradio_ui.page_state import BUSY, QUICK, LatestRequest, PageState, Texts, Update
from app.i18n import LANGUAGES, Words, words
from medsegdiff.records import Progress

__all__ = ["RunButton", "build", "clear_waiting", "show_waiting", "status"]

# A run's first word disables its button; until then, and beyond what a reader would call at once, it waits for others'.
_WAIT = """() => {
    const button = document.getElementById(%s), words = %s;
    const begun = new MutationObserver(() => { clearTimeout(late); delete button.dataset.waiting; begun.disconnect(); });
    const late = setTimeout(() => { button.dataset.waiting = words[document.documentElement.lang] || words.en; }, 700);
    begun.observe(button, { attributes: true, attributeFilter: ['disabled'] });
    return { __type__: 'update', interactive: true, visible: true };
}"""
_LEAVE = "() => { delete document.getElementById(%s)?.dataset.waiting; }"


class RunButton:
    """The three widgets, and how a run is wired to them."""

    __slots__ = ("_desk", "_run", "_stop", "line")

    def __init__(self, page: PageState, run: Any, stop: Any, line: Any) -> None:
        self._desk, self._run, self._stop, self.line = page, run, stop, line

    @property
    def widgets(self) -> list[Any]:
        """All that a run of it may change."""
        return [self._run, self._stop, self.line]

    def does(
        self,
        handler: Callable[..., Iterator[Update]],
        inputs: list[Any],
        outputs: list[Any],
        *,
        of_volume: bool = False,
    ) -> None:
        """Run a generator of updates, of the visitor's wish and the inputs, when the button is pressed.

        Stop, a closed tab or the choice of another picture or checkpoint ends it at its next step.
        """

        def going(latest: LatestRequest, name: str | None, *values: Any) -> Iterator[Update]:
            yield {self._run: gr.update(interactive=False), self._stop: gr.update(visible=True)}
            yield from latest.until_another(name, handler(latest, *values), of_volume=of_volume)
            yield {self.line: ""}  # Gradio sends the last word twice, so let that be a short one

        def idle() -> Update:
            return {self._run: gr.update(interactive=True), self._stop: gr.update(visible=False), self.line: ""}

        inputs = [self._desk.latest, self._desk.checkpoint, *inputs]
        show_waiting(self._run, self._stop)
        event = self._run.click(going, inputs, [*outputs, *self.widgets], **BUSY)
        event.then(idle, None, self.widgets, js=clear_waiting(self._run), **QUICK)
        # After the cancelling, or the run's last word may come after this one.
        self._stop.click(None, None, None, cancels=[event]).then(
            idle, None, self.widgets, js=clear_waiting(self._run), **QUICK
        )


def show_waiting(run: Any, stop: Any) -> None:
    """Let a button say that its run waits in line, behind those of other visitors, and its Stop end that too.

    Called before the run is wired: what is wired to a button is done in that order, each after the one before has ended.
    """
    spoken = {language: words(language)("run.waiting") for language in LANGUAGES}
    run.click(None, None, [stop], js=_WAIT % (json.dumps(run.elem_id), json.dumps(spoken, ensure_ascii=False)), **QUICK)


def clear_waiting(run: Any) -> str:
    """Let a button say so no longer, in JavaScript."""
    return _LEAVE % json.dumps(run.elem_id)


def build(page: PageState, label: Texts, name: str) -> RunButton:
    """Lay the widgets."""
    with gr.Row(elem_classes="go"):
        run = page.localized(gr.Button, label, elem_id=name, variant="secondary", min_width=240, scale=0, size="md")
        stop = page.localized(
            gr.Button,
            lambda w: {"value": w("run.stop")},
            elem_id=f"{name}-stop",
            variant="stop",
            visible=False,
            min_width=80,
            scale=0,
        )
        line = gr.HTML("", elem_classes="line", elem_id=f"{name}-line")
    return RunButton(page, run, stop, line)


def status(progress: Progress, w: Words, what: str = "") -> str:
    """Say how far an experiment is, as HTML."""
    said = w("progress.step", step=progress.done, total=progress.total)
    if not math.isnan(progress.left):
        said += " · " + w("progress.left", left=f"{progress.left:.1f}")
    share = progress.done / progress.total
    bar = f'<progress max="1" value="{share:.3f}" aria-label="{html.escape(w("progress.label"))}"></progress>'
    return f'{bar}<p role="status">{html.escape(f"{what} · {said}" if what else said)}</p>'
