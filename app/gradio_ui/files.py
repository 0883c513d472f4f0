"""Offer the files of a finished run for download."""

from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.core.session import RunOutput
from app.export import files
from app.export.files import FILES
from app.gradio_ui.events import Update
from app.gradio_ui.page_state import PageState
from app.i18n import Words
from app.inputs.images import InputImage
from app.inputs.volumes import VolumeCache

__all__ = ["Files", "build"]


class Files:
    """The row of download buttons."""

    __slots__ = ("_buttons", "_row", "_volumes")

    def __init__(self, row: Any, buttons: dict[str, Any], volume_cache: VolumeCache) -> None:
        self._row, self._buttons, self._volumes = row, buttons, volume_cache

    @property
    def widgets(self) -> list[Any]:
        """All widgets that `hidden` and `offered` can change."""
        return [self._row, *self._buttons.values()]

    def hidden(self) -> Update:
        """Hide the buttons, because no run of this visitor is shown."""
        return {self._row: gr.update(visible=False)}

    def offered(self, finished: RunOutput, image: object, w: Words) -> Update:
        """Write the files of a run to the page's cache, which deletes them later, and show the buttons."""
        cached_volume = None
        if isinstance(image, InputImage) and image.slice_view:
            with suppress(ValueError):  # without the cached volume, only the files of the slice are written
                cached_volume = self._volumes.get(image.slice_view.key)
        offers: Update = {self._row: gr.update(visible=True)}
        with TemporaryDirectory() as folder:
            paths = files.write(folder, finished, cached_volume, w)
            for name, button in self._buttons.items():
                copy = button.move_resource_to_block_cache(str(paths[name])) if name in paths else None
                offers[button] = gr.update(value=copy, visible=copy is not None)
        return offers


def build(page: PageState) -> Files:
    """Create the buttons, hidden until there is a run."""
    with gr.Row(elem_classes="files", visible=False) as row:
        buttons = {name: _button(page, name) for name in FILES}
    return Files(row, buttons, page.volume_cache)


def _button(page: PageState, name: str) -> gr.DownloadButton:
    key = "disagreement_file" if name == "disagreement" else name
    return page.localized(
        gr.DownloadButton, lambda w: {"label": w(f"result.{key}")}, size="sm", elem_id=f"get-{name}", min_width=120
    )
