"""Build the Compare tab: two setups on the same noise, all checkpoints of a task, and a sweep over step counts."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from app.analysis import comparisons
from app.analysis.comparisons import ANCHOR, Setup, Side, StepsResult
from app.core.settings import CONTROLS, Choice, read
from app.gradio_ui import run_button
from app.gradio_ui.events import QUICK, Update, Updates, refusal, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, Selection, Tab
from app.gradio_ui.sidebar import Sidebar
from app.i18n import Words, words
from app.inputs.images import InputImage
from app.views import comparison_views, descriptions
from medsegdiff.progress import Progress

__all__ = ["build"]

_SAMPLERS = [str(s) for c in CONTROLS if isinstance(c, Choice) and c.field == "sampler" for s in c.choices]
_STEPS = 50


def build(page: PageState, sidebar: Sidebar) -> Tab:
    """Create the two setups, the slider between their masks, the comparison of all checkpoints, and the sweep."""
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w('compare.text')}</p>"}, elem_classes="words")
    with gr.Row(elem_classes="sides"):
        name = next(iter(page.session.sources), None)
        rival, sampler = _rival(page, name)
        first, second = _build_side(page, "a", name, _SAMPLERS[0]), _build_side(page, "b", rival, sampler)
    runs = run_button.build(page, lambda w: {"value": w("compare.run")}, "compare", variant="primary")
    table = gr.HTML("", elem_classes="words", elem_id="compared")
    slider = gr.ImageSlider(
        None,
        format="png",
        show_label=False,
        interactive=False,
        visible=False,
        elem_id="slider",
        max_height=560,
        buttons=[],
    )
    hint = gr.HTML("", elem_classes="words")
    _heading(page, "compare.all_heading", "compare.all_text")
    runs_all = run_button.build(page, lambda w: {"value": w("compare.all_run")}, "compare-all")
    all_results = gr.HTML("", elem_classes="words", elem_id="compared-all")
    _heading(page, "sweep.heading", "sweep.text")
    runs_sweep = run_button.build(page, lambda w: {"value": w("sweep.run")}, "sweep")
    sweep_table = gr.HTML("", elem_classes="words", elem_id="sweep-table")
    with gr.Row(elem_classes="charts"):
        charts = [gr.Plot(show_label=False, container=False, visible=False) for _ in range(2)]

    def setups(name: str | None, values: tuple[Any, ...]) -> list[Setup]:
        chosen = [values[:3], values[3:6]]
        known = _names(page)
        return [
            Setup(
                checkpoint if checkpoint in known else name or "",
                sampler if sampler in (*_SAMPLERS, ANCHOR) else _SAMPLERS[0],
                min(max(int(steps or 1), 1), _STEPS),
            )
            for checkpoint, sampler, steps in chosen
        ]

    def compare(latest: LatestRequest, image: object, name: str | None, language: str, *values: Any) -> Updates:
        w, selection = latest.words(language), page.selection(image, None, name)
        with refusing(w, "errors.settings"):
            settings = read(values[6:], trace=False)
            sides = yield from _sides(page, selection.target, settings, setups(name, values), runs.line, w)
            pictures, w = (
                tuple(comparison_views.overlay(side, selection.target) for side in sides),
                latest.words(language),
            )
            yield {
                slider: gr.update(value=pictures, visible=True),
                table: comparison_views.side_words(sides, w),
                hint: f"<p>{w('compare.slider')}</p>",
            }

    def compare_all(latest: LatestRequest, image: object, name: str | None, language: str, *values: Any) -> Updates:
        w, selection = latest.words(language), page.selection(image, None, name)
        with refusing(w, "errors.settings"):
            settings, names = (
                read(values, trace=False),
                comparisons.checkpoints_for(page.session, page.session.task(name)),
            )
            chosen = [Setup(one, settings.sampler, settings.steps) for one in names]
            sides = yield from _sides(page, selection.target, settings, chosen, runs_all.line, w)
            w = latest.words(language)
            if not sides:
                raise refusal(w("model.none"), w)
            yield {
                all_results: comparison_views.masks(sides, selection.target, w) + comparison_views.side_words(sides, w)
            }

    def sweep(latest: LatestRequest, image: object, name: str | None, language: str, *values: Any) -> Updates:
        w, selection = latest.words(language), page.selection(image, None, name)
        with refusing(w, "errors.settings"):
            settings, found = read(values, trace=False), []
            for event in comparisons.sweep_steps(page.session, name or "", selection.target, settings):
                w = latest.words(language)
                match event:
                    case Progress():
                        yield {runs_sweep.line: _status(event, w)}
                    case StepsResult():
                        found.append(event)
                        yield {sweep_table: comparison_views.sweep_table(found, w)}
            figures = comparison_views.sweep_charts(found, w)
            yield {chart: gr.update(value=figure, visible=True) for chart, figure in zip(charts, figures, strict=True)}

    boxes = [first[0], second[0]]

    def update_choices(language: str) -> Update:
        return {box: gr.update(choices=_choices(page, words(language))) for box in boxes}

    def match_task(chosen: str | None, *sides: str | None) -> Update:
        """Replace setups for another task by the checkpoint that was just selected and the one to compare it with."""
        known, task = _names(page), page.session.task(chosen)
        if all(side in known and page.session.task(side) == task for side in sides):
            return {box: gr.skip() for box in boxes}
        rival, sampler = _rival(page, chosen)
        return {boxes[0]: gr.update(value=chosen), boxes[1]: gr.update(value=rival), second[1]: sampler}

    sidebar.fetched.then(update_choices, [page.controls.language], boxes, **QUICK)
    page.controls.checkpoint.change(match_task, [page.controls.checkpoint, *boxes], [*boxes, second[1]], **QUICK)
    chosen = [page.states.image, page.controls.checkpoint, page.controls.language]
    runs.does(compare, [*chosen, *first, *second, *page.controls.settings], [slider, table, hint])
    runs_all.does(compare_all, [*chosen, *page.controls.settings], [all_results])
    runs_sweep.does(sweep, [*chosen, *page.controls.settings], [sweep_table, *charts])

    def show(selection: Selection, w: Words) -> Update:
        """Keep the results while image and checkpoint are unchanged, and clear them otherwise."""
        choices: Update = {box: gr.update(choices=_choices(page, w)) for box in boxes}
        if selection.tab_cache.get("comparison") == (selection.target, selection.checkpoint):
            return choices
        return choices | {
            page.states.tab_cache: selection.tab_cache | {"comparison": (selection.target, selection.checkpoint)},
            all_results: "",
            slider: gr.update(value=None, visible=False),
            table: "",
            hint: "",
            sweep_table: "",
            **{chart: gr.update(value=None, visible=False) for chart in charts},
        }

    return Tab("comparison", [*boxes, all_results, slider, table, hint, sweep_table, *charts], show)


def _heading(page: PageState, heading: str, text: str) -> None:
    page.localized(gr.HTML, lambda w: {"value": f"<h2>{w(heading)}</h2><p>{w(text)}</p>"}, elem_classes="words section")


def _names(page: PageState) -> list[str]:
    return [*page.session.sources, *page.session.plain, *page.session.fetched]


def _choices(page: PageState, w: Words) -> list[tuple[str, str]]:
    plain = page.session.plain
    return [(f"{name} · {w('model.plain')}" if name in plain else name, name) for name in _names(page)]


def _status(progress: Progress, w: Words) -> str:
    setup = progress.part
    return run_button.status(progress, w, comparison_views.setup_words(setup, w) if isinstance(setup, Setup) else "")


def _sides(
    page: PageState, target: InputImage, settings: Any, setups: list[Setup], line: Any, w: Words
) -> Generator[Update, None, list[Side]]:
    """Run the setups one after another, yielding the progress, and return the results."""
    sides = []
    for event in comparisons.compare(page.session, target, settings, setups):
        match event:
            case Progress():
                yield {line: _status(event, w)}
            case Side():
                sides.append(event)
    return sides


def _rival(page: PageState, name: str | None) -> tuple[str | None, str]:
    """Return the checkpoint to compare one with, and its sampler: the plain U-Net, else another version, else the anchor."""
    if name is None:
        return None, _SAMPLERS[0]
    own = page.session.card(name)
    cards = {other: page.session.card(other) for other in _names(page) if other != name}
    rivals = [other for other, card in cards.items() if card.task == own.task and card.kind != own.kind]
    rivals.sort(key=lambda other: (cards[other].kind != "unet", len(other)))
    if rivals:
        return rivals[0], _SAMPLERS[0]
    return name, ANCHOR if own.kind == "v2" else _SAMPLERS[0]


def _build_side(page: PageState, side: str, name: str | None, sampler: str) -> list[Any]:
    """Create the controls of one setup; for a plain U-Net its description replaces sampler and steps."""
    with gr.Column(elem_classes="side", min_width=240):
        page.localized(gr.HTML, lambda w: {"value": f"<h3>{w(f'compare.{side}')}</h3>"}, elem_classes="words")
        checkpoint = page.localized(
            gr.Dropdown,
            lambda w: {"label": w("model.label"), "choices": _choices(page, w)},
            value=name,
            filterable=False,
            interactive=True,
            elem_id=f"{side}-checkpoint",
        )
        sampling = page.localized(
            gr.Dropdown,
            lambda w: {
                "label": w("settings.sampler.label"),
                "choices": [
                    *((w(f"settings.sampler.{s}"), s) for s in _SAMPLERS),
                    (w("compare.anchor"), ANCHOR),
                ],
            },
            value=sampler,
            visible=name not in page.session.plain,
            filterable=False,
            interactive=True,
            elem_id=f"{side}-sampler",
        )
        count = page.localized(
            gr.Slider,
            lambda w: {"label": w("settings.steps.label")},
            minimum=1,
            maximum=_STEPS,
            step=1,
            value=10,
            visible=name not in page.session.plain,
            interactive=True,
            elem_id=f"{side}-steps",
        )
        plain = name in page.session.plain
        note = gr.HTML(
            _plain_words(page, name, words("en")), elem_classes="words", elem_id=f"{side}-plain", visible=plain
        )

    def describe(name: str | None, language: str) -> Update:
        w, plain = words(language), name in page.session.plain
        shown = {widget: gr.update(visible=not plain) for widget in (sampling, count)}
        return shown | {note: gr.update(value=_plain_words(page, name, w), visible=plain)}

    for widget in (checkpoint, page.controls.language):
        widget.change(describe, [checkpoint, page.controls.language], [sampling, count, note], **QUICK)
    return [checkpoint, sampling, count]


def _plain_words(page: PageState, name: str | None, w: Words) -> str:
    """Describe a plain U-Net, which has no sampler and no steps, as HTML; an empty string for another checkpoint."""
    if name not in page.session.plain:
        return ""
    return f"<p>{w('compare.plain_text')}</p>{descriptions.card(page.session.card_of(name), w)}"
