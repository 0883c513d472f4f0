"""Build the Ensemble tab: the disagreement map and the areas, and folded below them members, fusion, size and calibration."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from app.analysis import ensemble
from app.components import gallery, scrubber, uncertainty
from app.core.session import FinishedRun
from app.gradio_ui import film
from app.gradio_ui.events import QUICK, Update
from app.gradio_ui.page_state import LatestRequest, PageState, Selection, Tab
from app.i18n import Words, words
from app.views import ensemble_views, paint, panels

__all__ = ["build"]


def build(page: PageState) -> Tab:
    """Create the disagreement map with its threshold, the areas, and the folded sections."""
    empty = gr.HTML("", elem_classes="words")
    with gr.Column() as results:
        disagreement = gr.HTML(
            None, html_template=uncertainty.MARKUP, js_on_load=uncertainty.SCRIPT, elem_id="uncertainty"
        )
        _heading(page, "areas")
        with gr.Row(elem_classes="charts one"):
            areas = gr.Plot(show_label=False, container=False)
        with gr.Column(visible=False) as beside:
            _heading(page, "readers")
            readers = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-readers")
            comparison = gr.HTML("", elem_classes="words", elem_id="beside-readers")
            with gr.Row(elem_classes="charts"):
                distributions = [gr.Plot(show_label=False, container=False) for _ in range(2)]
        with _fold(page, "pick"):
            picked = gr.HTML(None, html_template=gallery.MARKUP, js_on_load=gallery.SCRIPT, elem_id="members")
            download = page.localized(
                gr.DownloadButton,
                lambda w: {"label": w("ensemble.download")},
                size="sm",
                visible=False,
                scale=0,
                min_width=220,
                elem_id="get-member",
            )
        with _fold(page, "members"):
            shown = film.build(page, next(panel for panel in panels.PANELS if panel.key == "members"))
        with _fold(page, "fusions"):
            fused = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-fusions")
            rules = gr.HTML("", elem_classes="words", elem_id="fusion-table")
        with _fold(page, "size"), gr.Row(elem_classes="charts one"):
            subsets = gr.Plot(show_label=False, container=False)
    with _fold(page, "calibration"):
        calibration = gr.HTML("", elem_classes="words", elem_id="calibration")
        with gr.Row(elem_classes="charts one"):
            reliability = gr.Plot(show_label=False, container=False, visible=False)

    def show(selection: Selection, w: Words) -> Update:
        known = ensemble.calibration(selection.checkpoint) if selection.checkpoint else None
        chart = ensemble_views.calibration_chart(known, w) if known else None
        update: Update = {
            calibration: ensemble_views.calibration_words(known, w),
            reliability: gr.update(value=chart, visible=chart is not None),
        }
        recording = selection.recording
        if recording is None or not shown.panel.needs(recording):
            reason = w("ensemble.not_run" if recording is None else "ensemble.one_member")
            return update | {results: gr.update(visible=False), empty: f"<p>{reason}</p>"}
        found = ensemble.beside_readers(recording)
        update[beside] = gr.update(visible=found is not None)
        if found:
            update |= {
                readers: ensemble_views.reader_film(recording, w),
                comparison: ensemble_views.beside_readers_words(found, w),
                **dict(zip(distributions, ensemble_views.beside_readers_charts(found, w), strict=True)),
            }
        area = ensemble_views.area_chart(ensemble.areas(recording), w)
        return (
            update
            | film.show(shown, selection, w)
            | {
                results: gr.update(visible=True),
                empty: "",
                fused: ensemble_views.fusion_film(recording, w),
                rules: ensemble_views.fusion_words(recording, w),
                disagreement: ensemble_views.uncertainty(recording, w),
                areas: area,
                subsets: ensemble_views.subset_chart(recording, w),
                picked: ensemble_views.members(recording, w, None),
                download: gr.update(visible=False),
            }
        )

    def pick(
        latest: LatestRequest,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
        event: gr.EventData,
    ) -> Update:
        image, finished_run = page.current(latest, [page.states.image, page.states.finished_run], [image, finished_run])
        selection, index = page.selection(image, finished_run, name), event.index  # pyright: ignore[reportAttributeAccessIssue]
        if selection.recording is None or not isinstance(index, int) or not 0 <= index < len(selection.members):
            return {picked: gr.skip()}
        with TemporaryDirectory() as folder:
            stem = selection.target.stem(selection.recording.facts["task"])
            path = Path(folder) / f"{stem}-member-{index + 1}.png"
            paint.save_labels(path, selection.members[index])
            copy = download.move_resource_to_block_cache(str(path))
        chosen = ensemble_views.members(selection.recording, words(language), index)
        return {picked: chosen, download: gr.update(value=copy, visible=True)}

    picked.click(pick, [page.states.latest, *page.seen], [picked, download], **QUICK)
    return Tab(
        "ensemble",
        [
            empty,
            results,
            *shown.widgets,
            beside,
            readers,
            comparison,
            *distributions,
            fused,
            rules,
            disagreement,
            areas,
            subsets,
            picked,
            download,
            calibration,
            reliability,
        ],
        show,
    )


def _heading(page: PageState, key: str) -> None:
    page.localized(
        gr.HTML,
        lambda w: {"value": f"<h2>{w(f'ensemble.{key}_heading')}</h2><p>{w(f'ensemble.{key}_text')}</p>"},
        elem_classes="words section",
    )


@contextmanager
def _fold(page: PageState, key: str) -> Iterator[None]:
    """Create a folded section with a text at its top."""
    with page.localized(
        gr.Accordion, lambda w: {"label": w(f"ensemble.{key}_heading")}, open=False, elem_id=f"fold-{key}"
    ):
        page.localized(gr.HTML, lambda w: {"value": f"<p>{w(f'ensemble.{key}_text')}</p>"}, elem_classes="words")
        yield
