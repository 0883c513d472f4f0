"""The third room: how far the members of an ensemble agree, what that says, and what it does not."""

from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from app import crowd, crowd_views, gallery, panels, scrubber
from app.gradio_ui import film
from app.gradio_ui.desk import QUICK, Desk, Room, Scene, Update
from app.i18n import Words, words
from app.session import Stage

__all__ = ["lay"]


def lay(desk: Desk) -> Room:
    """Lay the members' film, the fusions, the charts, and a gallery to pick the best member from."""
    empty = gr.HTML("", elem_classes="words")
    with gr.Column() as crowded:
        shown = film.lay(desk, next(panel for panel in panels.PANELS if panel.key == "members"))
        _heading(desk, "fusions")
        fused = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-fusions")
        rules = gr.HTML("", elem_classes="words", elem_id="fusion-table")
        _heading(desk, "enough")
        with gr.Row(elem_classes="charts"):
            plots = [gr.Plot(show_label=False, container=False) for _ in range(2)]
        _heading(desk, "pick")
        picked = gr.HTML(None, html_template=gallery.MARKUP, js_on_load=gallery.SCRIPT, elem_id="members")
        download = desk.say(
            gr.DownloadButton,
            lambda w: {"label": w("crowd.download")},
            size="sm",
            visible=False,
            scale=0,
            min_width=220,
            elem_id="get-member",
        )
    _heading(desk, "believe")
    told = gr.HTML("", elem_classes="words", elem_id="calibration")
    with gr.Row(elem_classes="charts one"):
        believed = gr.Plot(show_label=False, container=False, visible=False)

    def show(scene: Scene, w: Words) -> Update:
        known = crowd.calibration(scene.checkpoint) if scene.checkpoint else None
        chart = crowd_views.calibration_chart(known, w) if known else None
        update: Update = {
            told: crowd_views.calibration_words(known, w),
            believed: gr.update(value=chart, visible=chart is not None),
        }
        recording = scene.recording
        if recording is None or not shown.panel.needs(recording):
            reason = w("crowd.not_run" if recording is None else "crowd.one_member")
            return update | {crowded: gr.update(visible=False), empty: f"<p>{reason}</p>"}
        area = crowd_views.area_chart(crowd.areas(recording), w)
        rows = crowd.enough(recording)
        return (
            update
            | film.show(shown, scene, w)
            | {
                crowded: gr.update(visible=True),
                empty: "",
                fused: crowd_views.fusion_film(recording, w),
                rules: crowd_views.fusion_words(recording, w),
                plots[0]: area,
                plots[1]: crowd_views.enough_chart(rows, w, truth=bool(recording.opening.truth)),
                picked: crowd_views.members(recording, w, None),
                download: gr.update(visible=False),
            }
        )

    def pick(language: str, subject: object, stage: Stage | None, name: str | None, event: gr.EventData) -> Update:
        scene, index = desk.scene(subject, stage, name), event.index  # pyright: ignore[reportAttributeAccessIssue]
        if scene.recording is None or not isinstance(index, int) or not 0 <= index < len(scene.members):
            return {picked: gr.skip()}
        from medsegdiff.imaging import write_labels

        with TemporaryDirectory() as folder:
            path = Path(folder) / f"member-{index + 1}.png"
            write_labels(path, scene.members[index])
            copy = download.move_resource_to_block_cache(str(path))
        chosen = crowd_views.members(scene.recording, words(language), index)
        return {picked: chosen, download: gr.update(value=copy, visible=True)}

    picked.click(pick, desk.seen, [picked, download], **QUICK)
    return Room(
        "uncertainty", [empty, crowded, *shown.widgets, fused, rules, *plots, picked, download, told, believed], show
    )


def _heading(desk: Desk, key: str) -> None:
    desk.say(
        gr.HTML,
        lambda w: {"value": f"<h2>{w(f'crowd.{key}_heading')}</h2><p>{w(f'crowd.{key}_text')}</p>"},
        elem_classes="words section",
    )
