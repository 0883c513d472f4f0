"""Provide a run button with a Stop button and a progress line."""

import html
import json
import math
from collections.abc import Callable
from typing import Any, Literal

import gradio as gr

from app.gradio_ui.controls import Texts
from app.gradio_ui.events import BUSY, QUICK, Update, Updates, in_turn
from app.gradio_ui.page_state import LatestRequest, PageState
from app.i18n import LANGUAGES, Words, words
from medsegdiff.progress import Progress

__all__ = ["RunButton", "build", "clear_waiting", "show_waiting", "status", "waiting_line"]

# The first event of a run disables its button. If that takes longer than 0.7 s, the run waits in the queue. From the press until
# the run has ended, also between its last event and its end, Gradio ignores further presses: the button is marked as busy.
_WAIT = """() => {
    const button = document.getElementById(%s), words = %s;
    button.dataset.busy = '';
    const started = new MutationObserver(() => { clearTimeout(late); delete button.dataset.waiting; started.disconnect(); });
    const late = setTimeout(() => { button.dataset.waiting = words[document.documentElement.lang] || words.en; }, 700);
    started.observe(button, { attributes: true, attributeFilter: ['disabled'] });
    return { __type__: 'update', interactive: true, visible: true };
}"""
_LEAVE = """() => {
    const button = document.getElementById(%s);
    delete button?.dataset.waiting;
    delete button?.dataset.busy;
}"""


class RunButton:
    """A run button, its Stop button and progress line, and the wiring of a run to them."""

    __slots__ = ("_page", "_run", "_stop", "line")

    def __init__(self, page: PageState, run: Any, stop: Any, line: Any) -> None:
        self._page, self._run, self._stop, self.line = page, run, stop, line

    @property
    def widgets(self) -> list[Any]:
        """All widgets that a run can change."""
        return [self._run, self._stop, self.line]

    def does(
        self,
        handler: Callable[..., Updates],
        inputs: list[Any],
        outputs: list[Any],
        *,
        of_volume: bool = False,
    ) -> None:
        """Run `handler(latest, *inputs)`, a generator of updates, when the button is pressed.

        The run stops at its next step on Stop, when the page is closed, or when another image or checkpoint is selected.
        """

        def going(latest: LatestRequest, name: str | None, *values: Any) -> Updates:
            yield {self._run: gr.update(interactive=False), self._stop: gr.update(visible=True)}
            values = tuple(self._page.current(latest, inputs, values))
            updates = latest.until_another(name, handler(latest, *values), of_volume=of_volume)
            yield from in_turn(self._page.session.turns, updates, {self.line: waiting_line(latest.words("en"))})
            yield {self.line: ""}  # Gradio sends the last update twice, so make it small

        def idle() -> Update:
            return {self._run: gr.update(interactive=True), self._stop: gr.update(visible=False), self.line: ""}

        show_waiting(self._run, self._stop)
        seen = [self._page.states.latest, self._page.controls.checkpoint, *inputs]
        event = self._run.click(going, seen, [*outputs, *self.widgets], **BUSY)
        event.then(idle, None, self.widgets, js=clear_waiting(self._run), **QUICK)
        # After the cancellation, so that no later update of the run follows this one.
        self._stop.click(None, None, None, cancels=[event]).then(
            idle, None, self.widgets, js=clear_waiting(self._run), **QUICK
        )


def waiting_line(w: Words) -> str:
    """Return the HTML shown while other runs are ahead."""
    return f'<p role="status">{html.escape(w("run.waiting"))}</p>'


def show_waiting(run: Any, stop: Any) -> None:
    """Show on a button that its run waits in the queue, and enable Stop while it waits.

    Call it before connecting the run, because events of a button are handled in the order in which they were connected.
    """
    texts = {language: words(language)("run.waiting") for language in LANGUAGES}
    run.click(None, None, [stop], js=_WAIT % (json.dumps(run.elem_id), json.dumps(texts, ensure_ascii=False)), **QUICK)


def clear_waiting(run: Any) -> str:
    """Return the JavaScript that removes the marks set by `show_waiting`, for the end of a run."""
    return _LEAVE % json.dumps(run.elem_id)


def build(
    page: PageState, label: Texts, name: str, variant: Literal["primary", "secondary"] = "secondary"
) -> RunButton:
    """Create the widgets."""
    with gr.Row(elem_classes="run-row"):
        run = page.localized(gr.Button, label, elem_id=name, variant=variant, min_width=240, scale=0, size="md")
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
    """Format the progress of a run, as HTML."""
    text = w("progress.step", step=progress.done, total=progress.total)
    if not math.isnan(progress.left):
        text += " · " + w("progress.left", left=f"{progress.left:.1f}")
    share = progress.done / progress.total
    bar = f'<progress max="1" value="{share:.3f}" aria-label="{html.escape(w("progress.label"))}"></progress>'
    return f'{bar}<p role="status">{html.escape(f"{what} · {text}" if what else text)}</p>'
