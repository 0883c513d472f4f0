"""The fourth room: setups on the same noise, a plain U-Net beside them, and how many steps are enough on this machine."""

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from app.analysis import comparisons
from app.analysis.comparisons import ANCHOR, Setup, Side, StepsResult
from app.core.settings import CONTROLS, Choice, read
from app.gradio_ui import run_button
from app.gradio_ui.page_state import QUICK, LatestRequest, PageState, Selection, Tab, Update, refusal, refusing
from app.i18n import Words, words
from app.inputs.images import InputImage
from app.views import comparison_views, descriptions
from medsegdiff.records import Progress

__all__ = ["build"]

_SAMPLERS = [str(s) for c in CONTROLS if isinstance(c, Choice) and c.field == "sampler" for s in c.choices]
_STEPS = 50


def build(page: PageState) -> Tab:
    """Lay two setups, the slider between their masks, and the ladder of steps."""
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w('compare.text')}</p>"}, elem_classes="words")
    with gr.Row(elem_classes="sides"):
        first, second = _lay_side(page, "a", _SAMPLERS[0], 10), _lay_side(page, "b", _SAMPLERS[0], 1)
    runs = run_button.build(page, lambda w: {"value": w("compare.run")}, "compare")
    told = gr.HTML("", elem_classes="words", elem_id="compared")
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
    everyone = gr.HTML("", elem_classes="words", elem_id="everyone")
    _heading(page, "sweep.heading", "sweep.text")
    climbs = run_button.build(page, lambda w: {"value": w("sweep.run")}, "ladder")
    rungs = gr.HTML("", elem_classes="words", elem_id="rungs")
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

    def compare(
        latest: LatestRequest, image: object, name: str | None, language: str, *values: Any
    ) -> Iterator[Update]:
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
                told: comparison_views.side_words(sides, w),
                hint: f"<p>{w('compare.slider')}</p>",
            }

    def compare_all(
        latest: LatestRequest, image: object, name: str | None, language: str, *values: Any
    ) -> Iterator[Update]:
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
            yield {everyone: comparison_views.masks(sides, selection.target, w) + comparison_views.side_words(sides, w)}

    def climb(latest: LatestRequest, image: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, selection = latest.words(language), page.selection(image, None, name)
        with refusing(w, "errors.settings"):
            settings, found = read(values, trace=False), []
            for event in comparisons.sweep_steps(page.session, name or "", selection.target, settings):
                w = latest.words(language)
                match event:
                    case Progress():
                        yield {climbs.line: _status(event, w)}
                    case StepsResult():
                        found.append(event)
                        yield {rungs: comparison_views.sweep_table(found, w)}
            figures = comparison_views.sweep_charts(found, w)
            yield {chart: gr.update(value=figure, visible=True) for chart, figure in zip(charts, figures, strict=True)}

    boxes = [first[0], second[0]]

    def offer(language: str) -> Update:
        return {box: gr.update(choices=_choices(page, words(language))) for box in boxes}

    def follow(chosen: str | None, *sides: str | None) -> Update:
        """Compare what can segment the picture: a side of another task becomes the checkpoint just chosen."""
        known, task = _names(page), page.session.task(chosen)
        same = [side in known and page.session.task(side) == task for side in sides]
        return {box: gr.skip() if alike else gr.update(value=chosen) for box, alike in zip(boxes, same, strict=True)}

    page.fetched.then(offer, [page.language], boxes, **QUICK)
    page.checkpoint.change(follow, [page.checkpoint, *boxes], boxes, **QUICK)
    chosen = [page.image, page.checkpoint, page.language]
    runs.does(compare, [*chosen, *first, *second, *page.controls], [slider, told, hint])
    runs_all.does(compare_all, [*chosen, *page.controls], [everyone])
    climbs.does(climb, [*chosen, *page.controls], [rungs, *charts])

    def show(selection: Selection, w: Words) -> Update:
        """A comparison is of a picture: of another one, nothing is known yet."""
        offered: Update = {box: gr.update(choices=_choices(page, w)) for box in boxes}
        if selection.tab_cache.get("comparison") == (selection.target, selection.checkpoint):
            return offered
        return offered | {
            page.tab_cache: selection.tab_cache | {"comparison": (selection.target, selection.checkpoint)},
            everyone: "",
            slider: gr.update(value=None, visible=False),
            told: "",
            hint: "",
            rungs: "",
            **{chart: gr.update(value=None, visible=False) for chart in charts},
        }

    return Tab("comparison", [*boxes, everyone, slider, told, hint, rungs, *charts], show)


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
    """Run the setups one after the other, saying how far they are, and return what came of each."""
    sides = []
    for event in comparisons.compare(page.session, target, settings, setups):
        match event:
            case Progress():
                yield {line: _status(event, w)}
            case Side():
                sides.append(event)
    return sides


def _lay_side(page: PageState, side: str, sampler: str, steps: int) -> list[Any]:
    """Lay one setup: checkpoint, sampler, steps; of a plain U-Net its card in the place of the last two."""
    with gr.Column(elem_classes="side", min_width=240):
        page.localized(gr.HTML, lambda w: {"value": f"<h3>{w(f'compare.{side}')}</h3>"}, elem_classes="words")
        checkpoint = page.localized(
            gr.Dropdown,
            lambda w: {"label": w("model.label"), "choices": _choices(page, w)},
            value=next(iter(page.session.sources), None),
            filterable=False,
            interactive=True,
            elem_id=f"{side}-checkpoint",
        )
        walk = page.localized(
            gr.Dropdown,
            lambda w: {
                "label": w("settings.sampler.label"),
                "choices": [
                    *((w(f"settings.sampler.{s}"), s) for s in _SAMPLERS),
                    (w("compare.anchor"), ANCHOR),
                ],
            },
            value=sampler,
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
            value=steps,
            interactive=True,
            elem_id=f"{side}-steps",
        )
        note = gr.HTML("", elem_classes="words", elem_id=f"{side}-plain", visible=False)

    def tell(name: str | None, language: str) -> Update:
        w, plain = words(language), name in page.session.plain
        said = f"<p>{w('compare.plain_text')}</p>{descriptions.card(page.session.card_of(name), w)}" if plain else ""
        walked = {widget: gr.update(visible=not plain) for widget in (walk, count)}
        return walked | {note: gr.update(value=said, visible=plain)}

    for widget in (checkpoint, page.language):
        widget.change(tell, [checkpoint, page.language], [walk, count, note], **QUICK)
    return [checkpoint, walk, count]
