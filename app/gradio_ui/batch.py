"""Build the view of several uploaded files: their progress, a table of the results, and one archive.

It takes the place of the film on the Run tab until another image or checkpoint is chosen. The run starts by itself.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.core.settings import read
from app.export.batch import MOST_FILES, BatchRow, segment_files
from app.export.files import zipped
from app.gradio_ui import run_button
from app.gradio_ui.events import QUICK, Update, Updates, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState
from app.i18n import words
from app.inputs.uploads import temporary_upload
from app.views import batch_views
from medsegdiff.progress import Progress

__all__ = ["Batch", "build"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The widgets for several files."""

    group: gr.Column
    paths: gr.State  # of the uploads
    rows: gr.State  # the results so far, to show them in another language
    table: gr.HTML
    archive: gr.DownloadButton

    @property
    def widgets(self) -> list[Any]:
        """All widgets that `hidden` and `filled` can change."""
        return [self.group, self.paths, self.rows, self.table, self.archive]

    def hidden(self) -> Update:
        """Hide the results, because one image is shown."""
        return {self.group: gr.update(visible=False)}

    def filled(self, paths: list[str]) -> Update:
        """Show an empty table for new files; those beyond the limit are deleted."""
        for unused in paths[MOST_FILES:]:
            with temporary_upload(unused):
                pass
        nothing = {self.rows: [], self.table: "", self.archive: gr.update(visible=False)}
        return {self.group: gr.update(visible=True), self.paths: paths[:MOST_FILES]} | nothing


def build(page: PageState) -> Batch:
    """Create the widgets, hidden; `group` has still to be rendered."""
    with gr.Column(visible=False, elem_id="batch", render=False) as group:
        page.localized(
            gr.HTML,
            lambda w: {"value": f"<h2>{w('batch.heading')}</h2><p>{w('batch.text')}</p>"},
            elem_classes="words section",
        )
        runs = run_button.build(page, lambda w: {"value": w("run.button")}, "batch-run")  # hidden: the page presses it
        table = gr.HTML("", elem_classes="words", elem_id="batch-table")
        archive = page.localized(
            gr.DownloadButton,
            lambda w: {"label": w("result.archive")},
            size="sm",
            visible=False,
            scale=0,
            min_width=200,
            elem_id="get-batch",
        )
        paths, rows = gr.State([], time_to_live=3600), gr.State([], time_to_live=3600)

    def segment(latest: LatestRequest, given: list[str], name: str | None, language: str, *values: object) -> Updates:
        w, found, painted = latest.words(language), [], 0.0
        with refusing(w, "errors.settings"):
            if name is None:
                raise refusal(w("model.none"), w)
            settings = read(values, trace=False)
            with (
                TemporaryDirectory() as folder,
                TemporaryDirectory() as written,
                closing(segment_files(page.session, given, name, settings, Path(written))) as events,
            ):
                yield {runs.line: f"<p>{w('run.loading')}</p>"}
                for event in events:
                    w = latest.words(language)
                    if isinstance(event, BatchRow):
                        found = [*found, event]
                        update: Update = {rows: found, table: batch_views.table(found, w)}
                        if files := sorted(
                            Path(written).iterdir()
                        ):  # what is done can be downloaded after Stop as well
                            file = zipped(files, Path(folder) / "masks.zip")
                            copy = archive.move_resource_to_block_cache(str(file))
                            update[archive] = gr.update(value=copy, visible=True)
                        yield update
                    elif isinstance(event, Progress) and time.perf_counter() - painted > 0.1:
                        painted, what = time.perf_counter(), w("batch.which", number=event.part, total=len(given))
                        yield {runs.line: run_button.status(event, w, what)}

    runs.does(
        segment,
        [paths, page.controls.checkpoint, page.controls.language, *page.controls.settings],
        [rows, table, archive],
    )
    page.controls.language.input(
        lambda language, found: batch_views.table(found, words(language)),
        [page.controls.language, rows],
        table,
        **QUICK,
    )
    return Batch(group, paths, rows, table, archive)
