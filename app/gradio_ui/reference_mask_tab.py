"""Build the Reference mask tab: score the result against the ground truth, or a painted or uploaded mask."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.analysis import reference_mask
from app.components import scrubber
from app.core.frames import target
from app.gradio_ui.events import QUICK, Update, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, Selection, Tab, TabCache
from app.i18n import Words, words
from app.views import paint, reference_mask_views

__all__ = ["build"]

_CANVAS = 512  # longest side of the canvas, in pixels
_LAYERS = 4
_SUFFIXES = [".png", ".tif", ".tiff", ".nii", ".gz", ".nrrd", ".mha"]
_FILES = ("mask", "reference", "scores")


def _layer_paths(editor: gr.ImageEditor, payload: Any) -> dict[str, Any]:
    """Return the paths of what is painted and of the image below.

    Gradio would decode whatever pictures a client sends, in this process.
    """
    layers, background = getattr(payload, "layers", None) or [], getattr(payload, "background", None)
    return {"layers": [file.path for file in layers[:_LAYERS] if file], "background": background and background.path}


# On the class: Gradio makes the widget anew when its brush is updated, and a subclass needs files of its own.
gr.ImageEditor.preprocess = _layer_paths  # pyright: ignore[reportAttributeAccessIssue]


def build(page: PageState) -> Tab:
    """Create the scores, the contours, the editor and the upload button."""
    scores = gr.HTML("", elem_classes="words", elem_id="scores")
    film = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-reference")
    with gr.Row(visible=False, elem_classes="files") as row:
        files = [
            page.localized(
                gr.DownloadButton,
                lambda w, key=key: {"label": w(f"reference.{key}")},
                size="sm",
                min_width=120,
                elem_id=f"get-reference-{key}",
            )
            for key in _FILES
        ]
    page.localized(
        gr.HTML,
        lambda w: {"value": f"<h2>{w('reference.own_heading')}</h2><p>{w('reference.own_text')}</p>"},
        elem_classes="words section",
    )
    editor = page.localized(
        gr.ImageEditor,
        lambda w: {"label": w("reference.editor")},
        type="numpy",
        format="png",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        brush=_brush(_names(page, page.opening)),
        height=460,
        buttons=[],
        visible=False,  # until its image is set: one set while the canvas is being created is lost
        elem_id="editor",
    )
    classes = gr.HTML("", elem_classes="words")
    with gr.Row(elem_classes="run-row"):
        score = page.localized(
            gr.Button, lambda w: {"value": w("reference.score")}, min_width=200, scale=0, elem_id="score", size="md"
        )
        upload = page.localized(
            gr.UploadButton,
            lambda w: {"label": w("reference.upload")},
            file_types=_SUFFIXES,
            min_width=200,
            scale=0,
            size="md",
            elem_id="upload-reference",
        )

    def scored(selection: Selection, known: Any, source: str, w: Words) -> Update:
        """Score the current result against a reference mask of the same size."""
        recording = selection.recording
        assert recording is not None
        names, labels = recording.facts["labels"], selection.labels
        found = reference_mask.score(labels, known, names, recording.facts["spacing_mm"])
        with TemporaryDirectory() as folder:
            paths = reference_mask_views.write(Path(folder), labels, known, found)
            copies = {
                button: gr.update(value=button.move_resource_to_block_cache(str(paths[key])))
                for button, key in zip(files, _FILES, strict=True)
            }
        return copies | {
            scores: reference_mask_views.score_table(found, source, w),
            film: reference_mask_views.contours(selection.target.opening.picture, labels, known, names, found, w),
            row: gr.update(visible=True),
        }

    def show(selection: Selection, w: Words) -> Update:
        with refusing(w, "errors.reference"):
            names = _names(page, selection)
            canvas = {"background": _canvas(selection), "layers": [], "composite": None}
            update: Update = {classes: reference_mask_views.class_legend(names, w)}
            given = selection.tab_cache.get("given_mask")
            if selection.tab_cache.get("reference_mask") != (selection.target, names):  # otherwise keep what is painted
                update[editor] = gr.update(value=canvas, visible=True, brush=_brush(names))
                kept = selection.tab_cache | {"reference_mask": (selection.target, names), "given_mask": None}
                update[page.states.tab_cache], given = kept, None
            if selection.recording is None:
                return update | {scores: f"<p>{w('reference.not_run')}</p>", film: None, row: gr.update(visible=False)}
            if isinstance(given, tuple):
                known, source = given
                return update | scored(selection, known, source, w)
            for known in target(selection.target.reference):
                source = "readers" if selection.target.opening.readers else "known"
                return update | scored(selection, known, source, w)
            return update | {scores: f"<p>{w('reference.unknown')}</p>", film: None, row: gr.update(visible=False)}

    def score_given(
        read: Callable[[Selection], Any],
        source: str,
        latest: LatestRequest,
        tab_cache: TabCache,
        language: str,
        *visible: Any,
    ) -> Update:
        """Score the latest result against what a visitor has given, and keep it while the image is unchanged."""
        image, finished_run, name = page.current(latest, page.seen[1:], visible)
        w, selection = words(language), page.selection(image, finished_run, name)
        if selection.recording is None:
            raise refusal(w("reference.not_run"), w)

        def score() -> Update:
            with refusing(w, "errors.reference"):
                known = read(selection)
                kept = tab_cache | {"given_mask": (known, source)}
                return scored(selection, known, source, w) | {page.states.tab_cache: kept}

        return latest.unless_another(name, score, {scores: gr.skip()})

    def score_painted(drawn: dict[str, Any] | None, *seen: Any) -> Update:
        def read(selection: Selection) -> Any:
            paths = (drawn or {}).get("layers") or []
            if below := (drawn or {}).get("background"):
                reference_mask.check_canvas(reference_mask.read_layer(below), _canvas(selection))
            layers = [reference_mask.read_layer(path) for path in paths]
            return reference_mask.painted(layers, len(_names(page, selection)), selection.labels.shape)

        return score_given(read, "painted", *seen)

    def score_upload(path: str | None, *seen: Any) -> Update:
        if path is None:
            return {scores: gr.skip()}

        def read(selection: Selection) -> Any:
            classes = len(_names(page, selection))
            return reference_mask.read_mask(path, classes, selection.labels.shape, selection.target)

        return score_given(read, "uploaded", *seen)

    shown = [scores, film, row, *files]
    inputs, outputs = [page.states.latest, page.states.tab_cache, *page.seen], [*shown, page.states.tab_cache]
    reading: dict[str, Any] = {**QUICK, "queue": True, "concurrency_id": "read", "concurrency_limit": 16}
    score.click(score_painted, [editor, *inputs], outputs, **reading)
    upload.upload(score_upload, [upload, *inputs], outputs, **reading)
    return Tab("reference_mask", [editor, classes, *shown], show)


def _brush(names: list[str]) -> gr.Brush:
    """Create a brush with one colour per class."""
    colours = paint.CLASSES[: max(len(names), 1)]
    return gr.Brush(default_size=14, colors=list(colours), default_color=colours[0], color_mode="fixed")


def _canvas(selection: Selection) -> Any:
    """Return the image of the canvas."""
    picture = selection.target.picture.pixels
    height, width = picture.shape[:2]
    scale = min(1.0, _CANVAS / max(height, width))
    return paint.fit(picture, (max(1, round(height * scale)), max(1, round(width * scale))))


def _names(page: PageState, selection: Selection) -> list[str]:
    card = page.session.card_of(selection.checkpoint)
    return list(card.labels) if card else []
