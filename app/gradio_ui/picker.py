"""Slices and windows of a visitor's volume, and all its slices at once.

Everything here is hidden until a volume, or a picture of more than 8 bits, is brought.
"""

import html
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app import files_out, scrubber, volumes
from app.experiments import Progress
from app.gradio_ui import go
from app.gradio_ui.desk import QUICK, Desk, Update, Wish, refusal, refusing
from app.i18n import Words, words
from app.settings import read
from app.subjects import Cut, Subject
from app.volumes import PRESETS

__all__ = ["Picker", "lay", "wire"]

Show = Callable[[Subject, str | None, Words], Update]


class Picker:
    """The widgets of this place."""

    __slots__ = ("axis", "buttons", "every", "film", "group", "high", "index", "low", "preset", "sizes", "whole")

    group: Any
    axis: Any
    index: Any
    preset: Any
    low: Any
    high: Any
    every: go.Go
    whole: Any  # what is known of all slices together
    film: Any
    sizes: Any
    buttons: dict[str, Any]

    @property
    def widgets(self) -> list[Any]:
        """All that `shown` may change."""
        return [self.group, self.axis, self.index, self.preset, self.low, self.high, self.whole, *self.results]

    @property
    def results(self) -> list[Any]:
        """What shows all slices segmented."""
        return [self.film, self.sizes, *self.buttons.values()]

    def cleared(self) -> Update:
        """Show nothing of them: what they showed was of another volume or checkpoint."""
        hidden = {button: gr.update(value=None, visible=False) for button in self.buttons.values()}
        return {self.film: None, self.sizes: ""} | hidden

    def shown(self, subject: object) -> Update:
        """Offer what there is to choose for this picture; of a picture that is no volume, nothing."""
        cut = subject.cut if isinstance(subject, Subject) else None
        if cut is None or not (cut.slices > 1 or cut.window):
            return self.cleared() | {self.group: gr.update(visible=False)}
        low, high = _ends(cut)
        return self.cleared() | {
            self.group: gr.update(visible=True),
            self.axis: gr.update(value=cut.axis, visible=len(cut.axes) > 1),
            self.index: gr.update(value=cut.index + 1, minimum=1, maximum=max(cut.slices, 2), visible=cut.slices > 1),
            self.preset: gr.update(value="own", visible=cut.hounsfield),
            self.low: gr.update(value=low, visible=cut.window is not None),
            self.high: gr.update(value=high, visible=cut.window is not None),
            self.whole: gr.update(visible=cut.slices > 1),
        }


def lay(desk: Desk) -> Picker:
    """Lay the widgets, hidden."""
    picker = Picker()
    with gr.Column(visible=False, elem_id="slices") as picker.group:
        desk.say(gr.HTML, lambda w: {"value": f"<h3>{w('volume.heading')}</h3>"}, elem_classes="words")
        picker.axis = desk.say(
            gr.Radio,
            lambda w: {"label": w("volume.axis"), "choices": [(w(f"volume.axis_{axis}"), axis) for axis in range(3)]},
            value=2,
            elem_id="slice-axis",
        )
        picker.index = desk.say(
            gr.Slider, lambda w: {"label": w("volume.index")}, minimum=1, maximum=2, step=1, elem_id="slice-index"
        )
        picker.preset = desk.say(
            gr.Dropdown,
            lambda w: {
                "label": w("volume.preset"),
                "choices": [(w(f"volume.{name}"), name) for name in ("own", *PRESETS)],
            },
            value="own",
            filterable=False,
            elem_id="window-preset",
        )
        with gr.Row():
            picker.low = desk.say(gr.Number, lambda w: {"label": w("volume.low")}, min_width=100, elem_id="window-low")
            picker.high = desk.say(
                gr.Number, lambda w: {"label": w("volume.high")}, min_width=100, elem_id="window-high"
            )
        with gr.Column() as picker.whole:
            picker.every = go.lay(desk, lambda w: {"value": w("volume.all")}, "all-slices")
            picker.film = gr.HTML(
                None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-volume"
            )
            picker.sizes = gr.HTML("", elem_classes="words", elem_id="volume-sizes")
            with gr.Row(elem_classes="files"):
                picker.buttons = {name: _button(desk, name) for name in files_out.VOLUME_FILES}
    return picker


def _button(desk: Desk, name: str) -> gr.DownloadButton:
    return desk.say(
        gr.DownloadButton,
        lambda w: {"label": w(f"volume.file_{name}")},
        size="sm",
        visible=False,
        elem_id=f"get-volume-{name}",
        min_width=120,
    )


def wire(desk: Desk, picker: Picker, show: Show, outputs: list[Any]) -> None:
    """Let a choice cut and show another slice, and the button segment all of them; called when every room is laid."""

    def cuts(change: Callable[[Cut, Any], Cut]) -> Callable[..., Update]:
        def choose(value: Any, wish: Wish, subject: object, name: str | None, language: str) -> Update:
            cut = subject.cut if isinstance(subject, Subject) else None
            try:
                wished = None if cut is None else change(cut, value)
            except (TypeError, ValueError):  # a number half typed, or something no page sends
                wished = None
            if wished is None or wished == cut:
                return {picker.group: gr.skip()}
            w = words(language)
            with refusing(w, "errors.picture"):
                fresh = volumes.look(desk.shelf, wished)
            wish.slices += 1
            return show(fresh, name, w) | _changed(picker, cut, wished)

        return choose

    seen = [desk.subject, desk.checkpoint, desk.language]
    for widget, change in (
        (picker.axis, lambda cut, axis: cut.along(axis) if axis in cut.axes else cut),
        (picker.index, lambda cut, number: replace(cut, index=int(number) - 1)),
        (picker.preset, lambda cut, name: replace(cut, window=PRESETS.get(name, cut.own))),
        (picker.low, lambda cut, low: _window(cut, low, None)),
        (picker.high, lambda cut, high: _window(cut, None, high)),
    ):
        widget.input(cuts(change), [widget, desk.wish, *seen], outputs, trigger_mode="always_last", **QUICK)

    def whole(wish: Wish, subject: object, name: str | None, language: str, *values: object) -> Iterator[Update]:
        w = wish.words(language)
        cut = subject.cut if isinstance(subject, Subject) else None
        from medsegdiff.slices import VolumeSegmentation

        with refusing(w, "errors.settings"):
            if name is None or cut is None:
                raise refusal(w("model.none"), w)
            held, settings = desk.shelf.get(cut.key), read(values, trace=False)
            yield {picker.every.line: w("run.loading")}
            began = painted = time.perf_counter()
            with closing(volumes.segment(desk.session, name, held, cut, settings)) as events:
                for event in events:
                    now, w = time.perf_counter(), wish.words(language)
                    if isinstance(event, VolumeSegmentation):
                        yield _told(desk, picker, held, cut, event, w)
                    elif now - painted > 0.1:
                        painted, left = now, (now - began) * (1 / event.fraction - 1)
                        at = Progress(round(event.fraction * event.of), event.of, left)
                        yield {picker.every.line: go.status(at, w)}

    picker.every.does(whole, [*seen, *desk.controls], picker.results, of_volume=True)


def _ends(cut: Cut) -> tuple[float, float]:
    """Round a window to what is worth reading; it is applied as it is."""
    low, high = cut.window or (0.0, 0.0)
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def _window(cut: Cut, low: float | None, high: float | None) -> Cut:
    """Set one end; an end beyond the other is not yet meant."""
    if cut.window is None:
        return cut
    window = (cut.window[0] if low is None else float(low), cut.window[1] if high is None else float(high))
    return replace(cut, window=window) if window[0] < window[1] else cut


def _changed(picker: Picker, before: Cut | None, after: Cut) -> Update:
    """Bring the widgets along that were not the ones touched."""
    update: Update = {picker.group: gr.skip()}
    if before is None or before.axis != after.axis:
        update[picker.index] = gr.update(value=after.index + 1, maximum=max(after.slices, 2), visible=after.slices > 1)
        update[picker.whole] = gr.update(visible=after.slices > 1)
    if before is not None and before.window != after.window and after.window in (*PRESETS.values(), after.own):
        update[picker.low], update[picker.high] = _ends(after)
    return update


def _told(desk: Desk, picker: Picker, held: Any, cut: Cut, result: Any, w: Words) -> Update:
    """Show the slices as a film, say how large each class is, and offer the files."""
    lines = []
    for label, size in result.volumes().items():
        named = {"label": w.known(f"class.{label}", label), "voxels": f"{size['voxels']:,}"}
        known = "mm3" in size
        lines.append(w("volume.size_mm3" if known else "volume.size", ml=f"{size.get('mm3', 0) / 1000:.2f}", **named))
    lines.append(w("volume.done", slices=cut.slices, seconds=f"{result.seconds:.1f}"))
    update: Update = {
        picker.film: volumes.watch(held, cut, result, w),
        picker.sizes: "".join(f"<p>{html.escape(line)}</p>" for line in lines),
    }
    with TemporaryDirectory() as folder:
        paths = files_out.write_volume(folder, result, held)
        for name, button in picker.buttons.items():
            copy = button.move_resource_to_block_cache(str(paths[name])) if name in paths else None
            update[button] = gr.update(value=copy, visible=copy is not None)
    return update
