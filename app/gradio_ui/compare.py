"""The fourth room: setups on the same noise, a plain U-Net beside them, and how many steps are enough on this machine."""

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from app import contrast, experiments, wording
from app.experiments import ANCHOR, Progress, Rung, Setup, Side
from app.gradio_ui import go
from app.gradio_ui.desk import QUICK, Desk, Room, Scene, Update, Wish, refusal, refusing
from app.i18n import Words, words
from app.settings import CONTROLS, Choice, read
from app.subjects import Subject

__all__ = ["lay"]

_SAMPLERS = [str(s) for c in CONTROLS if isinstance(c, Choice) and c.field == "sampler" for s in c.choices]
_STEPS = 50


def lay(desk: Desk) -> Room:
    """Lay two setups, the slider between their masks, and the ladder of steps."""
    desk.say(gr.HTML, lambda w: {"value": f"<p>{w('compare.text')}</p>"}, elem_classes="words")
    with gr.Row(elem_classes="sides"):
        first, second = _lay_side(desk, "a", _SAMPLERS[0], 10), _lay_side(desk, "b", _SAMPLERS[0], 1)
    runs = go.lay(desk, lambda w: {"value": w("compare.run")}, "compare")
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
    _heading(desk, "compare.all_heading", "compare.all_text")
    runs_all = go.lay(desk, lambda w: {"value": w("compare.all_run")}, "compare-all")
    everyone = gr.HTML("", elem_classes="words", elem_id="everyone")
    _heading(desk, "ladder.heading", "ladder.text")
    climbs = go.lay(desk, lambda w: {"value": w("ladder.run")}, "ladder")
    rungs = gr.HTML("", elem_classes="words", elem_id="rungs")
    with gr.Row(elem_classes="charts"):
        charts = [gr.Plot(show_label=False, container=False, visible=False) for _ in range(2)]

    def setups(name: str | None, values: tuple[Any, ...]) -> list[Setup]:
        chosen = [values[:3], values[3:6]]
        known = _names(desk)
        return [
            Setup(
                checkpoint if checkpoint in known else name or "",
                sampler if sampler in (*_SAMPLERS, ANCHOR) else _SAMPLERS[0],
                min(max(int(steps or 1), 1), _STEPS),
            )
            for checkpoint, sampler, steps in chosen
        ]

    def compare(wish: Wish, subject: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, scene = wish.words(language), desk.scene(subject, None, name)
        with refusing(w, "errors.settings"):
            settings = read(values[6:], trace=False)
            sides = yield from _sides(desk, scene.target, settings, setups(name, values), runs.line, w)
            pictures, w = tuple(contrast.layers(side, scene.target) for side in sides), wish.words(language)
            yield {
                slider: gr.update(value=pictures, visible=True),
                told: contrast.side_words(sides, w),
                hint: f"<p>{w('compare.slider')}</p>",
            }

    def compare_all(wish: Wish, subject: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, scene = wish.words(language), desk.scene(subject, None, name)
        with refusing(w, "errors.settings"):
            settings, names = read(values, trace=False), experiments.peers(desk.session, desk.session.task(name))
            chosen = [Setup(one, settings.sampler, settings.steps) for one in names]
            sides = yield from _sides(desk, scene.target, settings, chosen, runs_all.line, w)
            w = wish.words(language)
            if not sides:
                raise refusal(w("model.none"), w)
            yield {everyone: contrast.masks(sides, scene.target, w) + contrast.side_words(sides, w)}

    def climb(wish: Wish, subject: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, scene = wish.words(language), desk.scene(subject, None, name)
        with refusing(w, "errors.settings"):
            settings, found = read(values, trace=False), []
            for event in experiments.ladder(desk.session, name or "", scene.target, settings):
                w = wish.words(language)
                match event:
                    case Progress():
                        yield {climbs.line: _status(event, w)}
                    case Rung():
                        found.append(event)
                        yield {rungs: contrast.rung_words(found, w)}
            figures = contrast.rung_charts(found, w)
            yield {chart: gr.update(value=figure, visible=True) for chart, figure in zip(charts, figures, strict=True)}

    boxes = [first[0], second[0]]

    def offer(language: str) -> Update:
        return {box: gr.update(choices=_choices(desk, words(language))) for box in boxes}

    def follow(chosen: str | None, *sides: str | None) -> Update:
        """Compare what can segment the picture: a side of another task becomes the checkpoint just chosen."""
        known, task = _names(desk), desk.session.task(chosen)
        same = [side in known and desk.session.task(side) == task for side in sides]
        return {box: gr.skip() if alike else gr.update(value=chosen) for box, alike in zip(boxes, same, strict=True)}

    desk.fetched.then(offer, [desk.language], boxes, **QUICK)
    desk.checkpoint.change(follow, [desk.checkpoint, *boxes], boxes, **QUICK)
    chosen = [desk.subject, desk.checkpoint, desk.language]
    runs.does(compare, [*chosen, *first, *second, *desk.controls], [slider, told, hint])
    runs_all.does(compare_all, [*chosen, *desk.controls], [everyone])
    climbs.does(climb, [*chosen, *desk.controls], [rungs, *charts])

    def show(scene: Scene, w: Words) -> Update:
        """A comparison is of a picture: of another one, nothing is known yet."""
        offered: Update = {box: gr.update(choices=_choices(desk, w)) for box in boxes}
        if scene.kept.get("compare") == (scene.target, scene.checkpoint):
            return offered
        return offered | {
            desk.kept: scene.kept | {"compare": (scene.target, scene.checkpoint)},
            everyone: "",
            slider: gr.update(value=None, visible=False),
            told: "",
            hint: "",
            rungs: "",
            **{chart: gr.update(value=None, visible=False) for chart in charts},
        }

    return Room("compare", [*boxes, everyone, slider, told, hint, rungs, *charts], show)


def _heading(desk: Desk, heading: str, text: str) -> None:
    desk.say(gr.HTML, lambda w: {"value": f"<h2>{w(heading)}</h2><p>{w(text)}</p>"}, elem_classes="words section")


def _names(desk: Desk) -> list[str]:
    return [*desk.session.sources, *desk.session.plain, *desk.session.fetched]


def _choices(desk: Desk, w: Words) -> list[tuple[str, str]]:
    plain = desk.session.plain
    return [(f"{name} · {w('model.plain')}" if name in plain else name, name) for name in _names(desk)]


def _status(progress: Progress, w: Words) -> str:
    return go.status(progress, w, contrast.setup_words(progress.setup, w) if progress.setup else "")


def _sides(
    desk: Desk, target: Subject, settings: Any, setups: list[Setup], line: Any, w: Words
) -> Generator[Update, None, list[Side]]:
    """Run the setups one after the other, saying how far they are, and return what came of each."""
    sides = []
    for event in experiments.compare(desk.session, target, settings, setups):
        match event:
            case Progress():
                yield {line: _status(event, w)}
            case Side():
                sides.append(event)
    return sides


def _lay_side(desk: Desk, side: str, sampler: str, steps: int) -> list[Any]:
    """Lay one setup: checkpoint, sampler, steps; of a plain U-Net its card in the place of the last two."""
    with gr.Column(elem_classes="side", min_width=240):
        desk.say(gr.HTML, lambda w: {"value": f"<h3>{w(f'compare.{side}')}</h3>"}, elem_classes="words")
        checkpoint = desk.say(
            gr.Dropdown,
            lambda w: {"label": w("model.label"), "choices": _choices(desk, w)},
            value=next(iter(desk.session.sources), None),
            filterable=False,
            interactive=True,
            elem_id=f"{side}-checkpoint",
        )
        walk = desk.say(
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
        count = desk.say(
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
        w, plain = words(language), name in desk.session.plain
        said = f"<p>{w('compare.plain_text')}</p>{wording.card(desk.session.card_of(name), w)}" if plain else ""
        walked = {widget: gr.update(visible=not plain) for widget in (walk, count)}
        return walked | {note: gr.update(value=said, visible=plain)}

    for widget in (checkpoint, desk.language):
        widget.change(tell, [checkpoint, desk.language], [walk, count, note], **QUICK)
    return [checkpoint, walk, count]
