"""Options of events, and the handling of errors and of runs that wait."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import gradio as gr

from app.core.turns import Turns
from app.i18n import Words, words

__all__ = ["BUSY", "QUICK", "SILENT", "Update", "Updates", "in_turn", "refusal", "refusing"]

Update = dict[Any, Any]
"""What an event changes: a value or a `gr.update` for each widget or state."""

Updates = Generator[Update, None, None]

SILENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Options of events that show their own progress.

By default Gradio shows a status on every output of an event at every update, and copies the films and charts for it. On a
slow browser this takes all of its time.
"""

QUICK: dict[str, Any] = {**SILENT, "queue": False}
"""Options of fast events: they do not wait in the queue behind runs."""

BUSY: dict[str, Any] = {
    **SILENT,
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "trigger_mode": "once",
}
"""Options of events that run a network: one at a time per server, the others wait in the queue."""


def in_turn(turns: Turns, updates: Updates, waiting: Update) -> Updates:
    """Pass on what a run shows once it is its turn; until then repeat an update that says that it waits."""
    with turns.place() as ahead, closing(updates):
        while ahead(0.5):
            yield waiting
        for update in updates:
            ahead(0)
            yield update


def refusal(sentence: str, w: Words | None = None) -> gr.Error:
    """Create the error that the page shows as a message; without a language, in English for API clients."""
    title = (w or words("en"))("errors.title")
    return gr.Error(sentence, title=title, print_exception=False, duration=12)


@contextmanager
def refusing(w: Words, key: str) -> Iterator[None]:
    """Convert a ValueError to an error message in the visitor's language; `key` is the message with a {reason}."""
    try:
        yield
    except gr.Error:  # already a message
        raise
    except ValueError as error:
        raise refusal(w.because(key, error), w) from None
