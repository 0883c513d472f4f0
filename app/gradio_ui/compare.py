"""The fourth room: two setups on the same noise, and how many steps are enough on this machine."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import contrast, experiments
from app.experiments import ANCHOR, Progress, Rung, Setup, Side
from app.gradio_ui import go
from app.gradio_ui.desk import Desk, Room, Scene, Update, refusing
from app.i18n import Words, words
from app.settings import CONTROLS, Choice, read

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
    desk.say(
        gr.HTML,
        lambda w: {"value": f"<h2>{w('ladder.heading')}</h2><p>{w('ladder.text')}</p>"},
        elem_classes="words section",
    )
    climbs = go.lay(desk, lambda w: {"value": w("ladder.run")}, "ladder")
    rungs = gr.HTML("", elem_classes="words", elem_id="rungs")
    with gr.Row(elem_classes="charts"):
        charts = [gr.Plot(show_label=False, container=False, visible=False) for _ in range(2)]

    def setups(name: str | None, values: tuple[Any, ...]) -> list[Setup]:
        chosen = [values[:3], values[3:6]]
        known = set(desk.session.sources) | set(desk.session.fetched)
        return [
            Setup(
                checkpoint if checkpoint in known else name or "",
                sampler if sampler in (*_SAMPLERS, ANCHOR) else _SAMPLERS[0],
                min(max(int(steps or 1), 1), _STEPS),
            )
            for checkpoint, sampler, steps in chosen
        ]

    def compare(subject: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, scene = words(language), desk.scene(subject, None, name)
        with refusing(w, "errors.settings"):
            settings, sides = read(values[6:], trace=False), []
            for event in experiments.compare(desk.session, scene.target, settings, setups(name, values)):
                match event:
                    case Progress():
                        yield {
                            runs.line: go.status(event, w, contrast.setup_words(event.setup, w) if event.setup else "")
                        }
                    case Side():
                        sides.append(event)
            pictures = tuple(contrast.layers(side, scene.target) for side in sides)
            alike = experiments.agreement(sides[0].labels, sides[1].labels, len(sides[0].areas))
            yield {
                slider: gr.update(value=pictures, visible=True),
                told: contrast.side_words(sides, alike, w),
                hint: f"<p>{w('compare.slider')}</p>",
            }

    def climb(subject: object, name: str | None, language: str, *values: Any) -> Iterator[Update]:
        w, scene = words(language), desk.scene(subject, None, name)
        with refusing(w, "errors.settings"):
            settings, found = read(values, trace=False), []
            for event in experiments.ladder(desk.session, name or "", scene.target, settings):
                match event:
                    case Progress():
                        yield {
                            climbs.line: go.status(
                                event, w, contrast.setup_words(event.setup, w) if event.setup else ""
                            )
                        }
                    case Rung():
                        found.append(event)
                        yield {rungs: contrast.rung_words(found, w)}
            figures = contrast.rung_charts(found, w)
            yield {chart: gr.update(value=figure, visible=True) for chart, figure in zip(charts, figures, strict=True)}

    chosen = [desk.subject, desk.checkpoint, desk.language]
    runs.does(compare, [*chosen, *first, *second, *desk.controls], [slider, told, hint])
    climbs.does(climb, [*chosen, *desk.controls], [rungs, *charts])

    def show(scene: Scene, w: Words) -> Update:
        """A comparison is of a picture: of another one, nothing is known yet."""
        names = [*desk.session.sources, *desk.session.fetched]
        boxes = {first[0]: gr.update(choices=names), second[0]: gr.update(choices=names)}
        return boxes | {
            slider: gr.update(value=None, visible=False),
            told: "",
            hint: "",
            rungs: "",
            **{chart: gr.update(value=None, visible=False) for chart in charts},
        }

    return Room("compare", [first[0], second[0], slider, told, hint, rungs, *charts], show)


def _lay_side(desk: Desk, side: str, sampler: str, steps: int) -> list[Any]:
    """Lay one setup: checkpoint, sampler, steps."""
    names = list(desk.session.sources)
    with gr.Column(elem_classes="side", min_width=240):
        desk.say(gr.HTML, lambda w: {"value": f"<h3>{w(f'compare.{side}')}</h3>"}, elem_classes="words")
        checkpoint = desk.say(
            gr.Dropdown,
            lambda w: {"label": w("model.label")},
            choices=names,
            value=next(iter(names), None),
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
    return [checkpoint, walk, count]
