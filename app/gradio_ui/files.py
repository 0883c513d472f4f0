"""Offer the files of a finished run for download."""

from contextlib import suppress
from pathlib import Path
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
    """A button for all files as one archive, and a menu of single ones."""

    __slots__ = ("_archive", "_buttons", "_group", "_volumes")

    def __init__(self, group: Any, archive: Any, buttons: dict[str, Any], volume_cache: VolumeCache) -> None:
        self._group, self._archive, self._buttons, self._volumes = group, archive, buttons, volume_cache

    @property
    def widgets(self) -> list[Any]:
        """All widgets that `hidden` and `offered` can change."""
        return [self._group, self._archive, *self._buttons.values()]

    def hidden(self) -> Update:
        """Hide the buttons, because no run of this visitor is shown."""
        return {self._group: gr.update(visible=False)}

    def offered(self, finished: RunOutput, image: InputImage, w: Words) -> Update:
        """Write the files of a run to the page's cache, which deletes them later, and show the buttons.

        Their names start with that of the image.
        """
        cached_volume, stem = None, image.stem(finished.recording.facts["task"])
        if image.slice_view:
            with suppress(ValueError):  # without the cached volume, only the files of the slice are written
                cached_volume = self._volumes.get(image.slice_view.key)
        offers: Update = {self._group: gr.update(visible=True)}
        with TemporaryDirectory() as folder:
            paths = {
                name: path.rename(path.with_name(f"{stem}-{path.name}"))
                for name, path in files.write(folder, finished, cached_volume, w).items()
            }
            archive = files.zipped(list(paths.values()), Path(folder) / f"{stem}.zip")
            offers[self._archive] = gr.update(value=self._archive.move_resource_to_block_cache(str(archive)))
            for name, button in self._buttons.items():
                copy = button.move_resource_to_block_cache(str(paths[name])) if name in paths else None
                offers[button] = gr.update(value=copy, visible=copy is not None)
        return offers


def build(page: PageState) -> Files:
    """Create the buttons, hidden until there is a run."""
    with gr.Row(elem_classes="files", visible=False) as group:
        archive = page.localized(
            gr.DownloadButton,
            lambda w: {"label": w("result.archive")},
            size="sm",
            elem_id="get-zip",
            scale=0,
            min_width=200,
        )
        menu = page.localized(gr.Accordion, lambda w: {"label": w("result.files")}, open=False, elem_id="files")
        with menu, gr.Row(elem_classes="files"):
            buttons = {name: _button(page, name) for name in FILES}
    return Files(group, archive, buttons, page.volume_cache)


def _button(page: PageState, name: str) -> gr.DownloadButton:
    key = "disagreement_file" if name == "disagreement" else name
    return page.localized(
        gr.DownloadButton, lambda w: {"label": w(f"result.{key}")}, size="sm", elem_id=f"get-{name}", min_width=120
    )
