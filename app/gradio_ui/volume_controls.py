"""Build the controls for uploaded volumes: slice, window, and the segmentation of all slices.

They are hidden until a volume, or an image of more than 8 bits, is uploaded. The Run tab shows them below the image.
"""

import html
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.components import planes, scrubber
from app.core.settings import read
from app.export import files
from app.gradio_ui import run_button
from app.gradio_ui.events import QUICK, Update, Updates, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, in_every_language
from app.i18n import Words, words
from app.inputs import volumes
from app.inputs.images import InputImage, SliceView
from app.inputs.volumes import PRESETS
from app.views.planes import planes as volume_planes
from medsegdiff.image_ref import FILE_WINDOW, Intensity
from medsegdiff.progress import Progress

__all__ = ["VolumeControls", "build", "connect"]

# Change the slice with the mouse wheel over the image.
_WHEEL = """
const film = document.getElementById('film-steps');
let moved = 0;
if (!film.dataset.wheel) film.addEventListener('wheel', (event) => {
  const range = document.querySelector('#slice-index input[type=range]');
  if (!range?.offsetParent || event.ctrlKey || !event.target.closest('canvas')) return;
  event.preventDefault();
  moved += event.deltaY;
  if (Math.abs(moved) < 30) return;  // a touchpad sends many small steps
  range.value = +range.value + Math.sign(moved);
  moved = 0;
  range.dispatchEvent(new Event('input', { bubbles: true }));
}, { passive: false });
film.dataset.wheel = 'slices';
"""

Show = Callable[[InputImage, str | None, Words, LatestRequest], Update]


@dataclass(frozen=True, slots=True)
class VolumeControls:
    """The widgets for volumes."""

    group: gr.Column
    axis: gr.Radio
    index: gr.Slider
    preset: gr.Dropdown
    low: gr.Number
    high: gr.Number
    whole: gr.Column  # the widgets for all slices together
    every: run_button.RunButton
    film: gr.HTML
    planes: gr.HTML
    sizes: gr.HTML
    buttons: dict[str, gr.DownloadButton]

    @property
    def widgets(self) -> list[Any]:
        """All widgets that `shown` can change."""
        return [self.group, self.axis, self.index, self.preset, self.low, self.high, self.whole, *self.results]

    @property
    def views(self) -> list[Any]:
        """The widgets that show the segmentation of all slices, with text."""
        return [self.film, self.planes, self.sizes]

    @property
    def results(self) -> list[Any]:
        """The widgets for the segmentation of all slices."""
        return [*self.views, *self.buttons.values()]

    def cleared(self, latest: LatestRequest) -> Update:
        """Clear the results of another volume or checkpoint."""
        empty: Update = {self.film: None, self.planes: None, self.sizes: ""}
        latest.keep(in_every_language(lambda _: empty))
        return empty | {button: gr.update(value=None, visible=False) for button in self.buttons.values()}

    def shown(self, image: object, latest: LatestRequest) -> Update:
        """Show the controls that apply to an image; hide all of them if it is not a volume."""
        slice_view = image.slice_view if isinstance(image, InputImage) else None
        if slice_view is None or not (slice_view.slices > 1 or slice_view.shown):
            return self.cleared(latest) | {self.group: gr.update(visible=False)}
        low, high = _ends(slice_view)
        trained, grey = slice_view.trained != FILE_WINDOW, slice_view.shown is not None
        return self.cleared(latest) | {
            self.group: gr.update(visible=True),
            self.axis: gr.update(value=slice_view.axis, visible=len(slice_view.axes) > 1),
            self.index: gr.update(
                value=slice_view.index + 1, minimum=1, maximum=max(slice_view.slices, 2), visible=slice_view.slices > 1
            ),
            self.preset: gr.update(value=_preset(slice_view), visible=grey and (trained or slice_view.hounsfield)),
            self.low: gr.update(value=low, visible=grey),
            self.high: gr.update(value=high, visible=grey),
            self.whole: gr.update(visible=slice_view.slices > 1),
        }


def build(page: PageState) -> VolumeControls:
    """Create the widgets, hidden; `group` has still to be rendered."""
    with gr.Column(visible=False, elem_id="slices", render=False) as group:
        page.localized(
            gr.HTML,
            lambda w: {"value": f"<h3>{w('volume.heading')}</h3><p>{w('volume.wheel')}</p>"},
            elem_classes="words",
            js_on_load=_WHEEL,
        )
        axis = page.localized(
            gr.Radio,
            lambda w: {"label": w("volume.axis"), "choices": [(w(f"volume.axis_{axis}"), axis) for axis in range(3)]},
            value=2,
            elem_id="slice-axis",
        )
        index = page.localized(
            gr.Slider, lambda w: {"label": w("volume.index")}, minimum=1, maximum=2, step=1, elem_id="slice-index"
        )
        preset = page.localized(
            gr.Dropdown,
            lambda w: {
                "label": w("volume.preset"),
                "choices": [(w(f"volume.{name}"), name) for name in ("trained", "own", *PRESETS)],
            },
            value="own",
            filterable=False,
            elem_id="window-preset",
        )
        with gr.Row():
            low = page.localized(gr.Number, lambda w: {"label": w("volume.low")}, min_width=100, elem_id="window-low")
            high = page.localized(
                gr.Number, lambda w: {"label": w("volume.high")}, min_width=100, elem_id="window-high"
            )
        with gr.Column(elem_classes="whole") as whole:
            every = run_button.build(page, lambda w: {"value": w("volume.all")}, "all-slices")
            film = gr.HTML(None, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id="film-volume")
            three = gr.HTML(None, html_template=planes.MARKUP, js_on_load=planes.SCRIPT, elem_id="planes")
            sizes = gr.HTML("", elem_classes="words", elem_id="volume-sizes")
            with gr.Row(elem_classes="files"):
                buttons = {name: _button(page, name) for name in files.VOLUME_FILES}
    return VolumeControls(group, axis, index, preset, low, high, whole, every, film, three, sizes, buttons)


def _button(page: PageState, name: str) -> gr.DownloadButton:
    return page.localized(
        gr.DownloadButton,
        lambda w: {"label": w(f"volume.file_{name}")},
        size="sm",
        visible=False,
        elem_id=f"get-volume-{name}",
        min_width=120,
    )


def connect(page: PageState, controls: VolumeControls, show: Show, outputs: list[Any]) -> None:
    """Connect the controls to the slice and to the run of all slices; call it after the tabs have been built."""

    def on_change(change: Callable[[SliceView, Any], SliceView]) -> Callable[..., Update]:
        def choose(value: Any, latest: LatestRequest, image: object, name: str | None, language: str) -> Update:
            slice_view = image.slice_view if isinstance(image, InputImage) else None
            try:
                wanted = None if slice_view is None else change(slice_view, value)
            except (TypeError, ValueError):  # an incomplete number, or an invalid request
                wanted = None
            if wanted is None or wanted == slice_view:
                return {controls.group: gr.skip()}
            w = words(language)
            with latest.choosing():
                with refusing(w, "errors.picture"):
                    fresh = volumes.look(page.volume_cache, wanted, image.name if isinstance(image, InputImage) else "")
                latest.slices += 1
                update = show(fresh, name, w, latest) | _changed(controls, slice_view, fresh.slice_view or wanted)
                latest.choose(fresh)
            return update

        return choose

    seen = [page.states.image, page.controls.checkpoint, page.controls.language]
    for widget, change in (
        (controls.axis, lambda slice_view, axis: slice_view.along(axis) if axis in slice_view.axes else slice_view),
        (controls.index, lambda slice_view, number: replace(slice_view, index=int(number) - 1)),
        (controls.preset, _with_preset),
        (controls.low, lambda slice_view, low: _window(slice_view, low, None)),
        (controls.high, lambda slice_view, high: _window(slice_view, None, high)),
    ):
        widget.input(
            on_change(change), [widget, page.states.latest, *seen], outputs, trigger_mode="always_last", **QUICK
        )

    def whole(latest: LatestRequest, image: object, name: str | None, language: str, *values: object) -> Updates:
        w = latest.words(language)
        slice_view = image.slice_view if isinstance(image, InputImage) else None
        from medsegdiff.slices import VolumeSegmentation

        with refusing(w, "errors.settings"):
            if name is None or slice_view is None:
                raise refusal(w("model.none"), w)
            held, settings = page.volume_cache.get(slice_view.key), read(values, trace=False)
            yield {controls.every.line: w("run.loading")}
            began = painted = time.perf_counter()
            with closing(volumes.segment(page.session, name, held, slice_view, settings)) as events:
                for event in events:
                    now, w = time.perf_counter(), latest.words(language)
                    if isinstance(event, VolumeSegmentation):
                        shown = in_every_language(partial(_views, controls, held, slice_view, event))
                        yield shown[latest.words(language).language] | _offered(controls, held, event)
                        latest.keep(shown)  # not reached once another image or checkpoint has been chosen
                    elif now - painted > 0.1:
                        painted, left = now, (now - began) * (event.total / event.done - 1)
                        at = Progress(round(event.done), event.total, left)
                        yield {controls.every.line: run_button.status(at, w)}

    controls.every.does(whole, [*seen, *page.controls.settings], controls.results, of_volume=True)


def _ends(slice_view: SliceView) -> tuple[float, float]:
    """Round a window for display to four significant digits; the exact window is applied."""
    low, high = slice_view.shown or (0.0, 0.0)
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def _preset(slice_view: SliceView) -> str | None:
    """Return the window preset of a view; None if its ends were typed."""
    if isinstance(slice_view.window, Intensity):
        return "own" if slice_view.window == FILE_WINDOW else "trained"
    return next((name for name, window in PRESETS.items() if window == slice_view.window), None)


def _with_preset(slice_view: SliceView, name: str | None) -> SliceView:
    own = slice_view.trained if name == "trained" else FILE_WINDOW
    return replace(slice_view, window=PRESETS.get(name or "", own))


def _window(slice_view: SliceView, low: float | None, high: float | None) -> SliceView:
    """Set one end of the window; ignore it if the window would be empty."""
    if slice_view.shown is None:
        return slice_view
    window = (
        slice_view.shown[0] if low is None else float(low),
        slice_view.shown[1] if high is None else float(high),
    )
    return replace(slice_view, window=window) if window[0] < window[1] else slice_view


def _changed(controls: VolumeControls, before: SliceView | None, after: SliceView) -> Update:
    """Update the controls that depend on the one that was changed."""
    update: Update = {controls.group: gr.skip()}
    if before is None or before.axis != after.axis:
        update[controls.index] = gr.update(
            value=after.index + 1, maximum=max(after.slices, 2), visible=after.slices > 1
        )
        update[controls.whole] = gr.update(visible=after.slices > 1)
    if before is not None and before.shown != after.shown:
        if _preset(after) is None:
            update[controls.preset] = gr.update(value=None)
        else:
            update[controls.low], update[controls.high] = _ends(after)
    return update


def _views(controls: VolumeControls, held: Any, slice_view: SliceView, result: Any, w: Words) -> Update:
    """Show the slices as a film and in three planes, and list the size of each class."""
    lines, confidence = [], result.confidence()
    for label, size in result.volumes().items():
        named = {"label": w.known(f"class.{label}", label), "voxels": f"{size['voxels']:,}"}
        known = "mm3" in size
        line = w("volume.size_mm3" if known else "volume.size", ml=f"{size.get('mm3', 0) / 1000:.2f}", **named)
        if members := confidence.get(label):
            low, high = (
                f"{end / 1000:.2f} mL" if known else f"{end:,.0f}" for end in members["mm3" if known else "voxels"]
            )
            line += w("volume.members_size", low=low, high=high)
            if members["pairwise_dice"] is not None:
                line += w("result.members_dice", dice=f"{members['pairwise_dice']:.3f}")
        lines.append(line)
    lines.append(w("volume.done", slices=slice_view.slices, seconds=f"{result.seconds:.1f}"))
    return {
        controls.film: volumes.watch(held, slice_view, result, w),
        controls.planes: volume_planes(held, slice_view, result, w),
        controls.sizes: "".join(f"<p>{html.escape(line)}</p>" for line in lines),
    }


def _offered(controls: VolumeControls, held: Any, result: Any) -> Update:
    """Offer the files."""
    update: Update = {}
    with TemporaryDirectory() as folder:
        paths = files.write_volume(folder, result, held)
        for name, button in controls.buttons.items():
            copy = button.move_resource_to_block_cache(str(paths[name])) if name in paths else None
            update[button] = gr.update(value=copy, visible=copy is not None)
    return update
