"""The fifth room: a mask of one's own, painted or brought, and how near the result comes to it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import numpy as np

from app import paint, scrubber, truth, truth_views
from app.gradio_ui.desk import QUICK, Desk, Room, Scene, Update, refusal, refusing
from app.i18n import Words, words
from app.session import Stage

__all__ = ["lay"]

_CANVAS = 512  # longest side of the picture to paint on, in pixels
_SUFFIXES = [".png", ".tif", ".tiff", ".nii", ".gz", ".nrrd", ".mha"]
_FILES = ("mask", "truth", "scores")


def lay(desk: Desk) -> Room:
    """Lay the scores, both contours, and the two ways to bring a truth."""
    told = gr.HTML("", elem_classes="words", elem_id="scores")
    film = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-truth")
    with gr.Row(visible=False, elem_classes="files") as row:
        files = [
            desk.say(
                gr.DownloadButton,
                lambda w, key=key: {"label": w(f"truth.{key}")},
                size="sm",
                min_width=120,
                elem_id=f"get-truth-{key}",
            )
            for key in _FILES
        ]
    desk.say(
        gr.HTML,
        lambda w: {"value": f"<h2>{w('truth.own_heading')}</h2><p>{w('truth.own_text')}</p>"},
        elem_classes="words section",
    )
    editor = desk.say(
        gr.ImageEditor,
        lambda w: {"label": w("truth.editor")},
        type="numpy",
        format="png",
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        brush=_brush(_names(desk, desk.opening)),
        height=460,
        buttons=[],
        visible=False,  # until its picture comes: one that comes while the canvas is still being made is lost
        elem_id="editor",
    )
    classes = gr.HTML("", elem_classes="words")
    with gr.Row(elem_classes="go"):
        score = desk.say(
            gr.Button, lambda w: {"value": w("truth.score")}, min_width=200, scale=0, elem_id="score", size="md"
        )
        upload = desk.say(
            gr.UploadButton,
            lambda w: {"label": w("truth.upload")},
            file_types=_SUFFIXES,
            min_width=200,
            scale=0,
            size="md",
            elem_id="upload-truth",
        )

    def scored(scene: Scene, known: Any, source: str, w: Words) -> Update:
        """Score the mask on the screen against a truth of its size."""
        recording = scene.recording
        assert recording is not None
        names, labels = recording.facts["labels"], scene.labels
        found = truth.score(labels, known, names, recording.facts["spacing_mm"])
        with TemporaryDirectory() as folder:
            paths = truth_views.write(Path(folder), labels, known, found)
            copies = {
                button: gr.update(value=button.move_resource_to_block_cache(str(paths[key])))
                for button, key in zip(files, _FILES, strict=True)
            }
        return copies | {
            told: truth_views.words_of(found, source, w),
            film: truth_views.both(scene.target.opening.picture, labels, known, names, found, w),
            row: gr.update(visible=True),
        }

    def show(scene: Scene, w: Words) -> Update:
        picture = scene.target.picture.pixels
        side = min(1.0, _CANVAS / max(picture.shape[:2]))
        small = paint.fit(picture, (round(picture.shape[0] * side), round(picture.shape[1] * side)))
        names = _names(desk, scene)
        canvas = {"background": small, "layers": [], "composite": None}
        update: Update = {classes: truth_views.class_words(names, w)}
        if scene.kept.get("truth") != (scene.target, names):  # else what is painted on it stays
            update[editor] = gr.update(value=canvas, visible=True, brush=_brush(names))
            update[desk.kept] = scene.kept | {"truth": (scene.target, names)}
        if scene.recording is None:
            return update | {told: f"<p>{w('truth.not_run')}</p>", film: None, row: gr.update(visible=False)}
        for known in scene.target.truth:
            return update | scored(scene, known, "drawn", w)
        return update | {told: f"<p>{w('truth.unknown')}</p>", film: None, row: gr.update(visible=False)}

    def seen(language: str, subject: object, stage: Stage | None, name: str | None) -> tuple[Words, Scene]:
        w, scene = words(language), desk.scene(subject, stage, name)
        if scene.recording is None:
            raise refusal(w("truth.not_run"), w)
        return w, scene

    def score_painted(drawn: dict[str, Any] | None, *visible: Any) -> Update:
        w, scene = seen(*visible)
        with refusing(w, "errors.truth"):
            layers = [np.asarray(layer) for layer in (drawn or {}).get("layers") or []]
            known = truth.painted(layers, len(_names(desk, scene)), scene.labels.shape)
        return scored(scene, known, "painted", w)

    def score_upload(path: str | None, *visible: Any) -> Update:
        w, scene = seen(*visible)
        if path is None:
            return {told: gr.skip()}
        with refusing(w, "errors.truth"):
            known = truth.read_mask(path, len(_names(desk, scene)), scene.labels.shape)
        return scored(scene, known, "brought", w)

    shown = [told, film, row, *files]
    reading: dict[str, Any] = {**QUICK, "queue": True, "concurrency_id": "read", "concurrency_limit": 2}
    score.click(score_painted, [editor, *desk.seen], shown, **reading)
    upload.upload(score_upload, [upload, *desk.seen], shown, **reading)
    return Room("truth", [editor, classes, *shown], show)


def _brush(names: list[str]) -> gr.Brush:
    """Offer a colour for each class, and no other."""
    colours = paint.CLASSES[: max(len(names), 1)]
    return gr.Brush(default_size=14, colors=list(colours), default_color=colours[0], color_mode="fixed")


def _names(desk: Desk, scene: Scene) -> list[str]:
    card = desk.session.card_of(scene.checkpoint)
    return list(card.labels) if card else []
