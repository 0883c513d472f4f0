"""What a visitor takes home: the files of a finished run, at the picture's own size."""

from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app import files_out
from app.files_out import FILES
from app.gradio_ui.desk import Desk, Update
from app.i18n import Words
from app.session import Finished
from app.subjects import Subject
from app.volumes import Shelf

__all__ = ["Files", "lay"]


class Files:
    """The row of buttons."""

    __slots__ = ("_buttons", "_row", "_shelf")

    def __init__(self, row: Any, buttons: dict[str, Any], shelf: Shelf) -> None:
        self._row, self._buttons, self._shelf = row, buttons, shelf

    @property
    def widgets(self) -> list[Any]:
        """All that `hidden` and `offered` may change."""
        return [self._row, *self._buttons.values()]

    def hidden(self) -> Update:
        """Offer nothing: there is no run of this visitor's on the screen."""
        return {self._row: gr.update(visible=False)}

    def offered(self, finished: Finished, subject: object, w: Words) -> Update:
        """Offer the files of a run; the page's cache keeps copies, for a while."""
        shelved = None
        if isinstance(subject, Subject) and subject.cut:
            with suppress(ValueError):  # the volume may be forgotten by now; its slice's files are not
                shelved = self._shelf.get(subject.cut.key)
        offers: Update = {self._row: gr.update(visible=True)}
        with TemporaryDirectory() as folder:
            paths = files_out.write(folder, finished, shelved, w)
            for name, button in self._buttons.items():
                copy = button.move_resource_to_block_cache(str(paths[name])) if name in paths else None
                offers[button] = gr.update(value=copy, visible=copy is not None)
        return offers


def lay(desk: Desk) -> Files:
    """Lay the buttons, hidden until there is a run."""
    with gr.Row(elem_classes="files", visible=False) as row:
        buttons = {name: _button(desk, name) for name in FILES}
    return Files(row, buttons, desk.shelf)


def _button(desk: Desk, name: str) -> gr.DownloadButton:
    key = "disagreement_file" if name == "disagreement" else name
    return desk.say(
        gr.DownloadButton, lambda w: {"label": w(f"result.{key}")}, size="sm", elem_id=f"get-{name}", min_width=120
    )
