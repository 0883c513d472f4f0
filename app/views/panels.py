"""Define the panels of a run in one table: their key, the data they need, and their films and charts.

A panel is shown if the recording contains its data, whichever version of the network produced it. Data that change over
the steps are shown as a film, all others as charts. A front end iterates over `PANELS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.components.scrubber import View, film
from app.core.frames import Plane, Recording, target
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, Map, curves, maps, radial
from app.views.films import (
    CELLS,
    MEMBERS_SHOWN,
    consensus,
    encoding_views,
    kind_words,
    legend,
    member_views,
    parser_views,
    plane,
    positions,
    run_views,
    stage_words,
    transformer_views,
)
from medsegdiff.metrics import binary_dice

__all__ = ["PANELS", "Panel", "charts_of", "film_of"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, showing one component of a run."""

    key: str  # of its title and text
    needs: Callable[[Recording], bool]
    views: Callable[[Recording, Words], list[View]]
    charts: Callable[[Recording, Words], list[Figure]]
    tab: str = "inside"  # the tab of the page that contains it


def film_of(panel: Panel, recording: Recording, words: Words, run: str) -> dict[str, Any]:
    """Build the film of a panel; empty if it has none."""
    views = panel.views(recording, words)
    cells = bool(views) and views[0].tiles[0].shape[:2] == CELLS
    lines = legend(recording, words, members=panel.key == "steps") if panel.key in ("steps", "members") else ()
    steps = panel.key == "steps"
    return film(
        views,
        positions(recording, words),
        words,
        run=run,
        legend=lines,
        smooth=not cells,
        overlay=steps,
        autoplay=steps,
    )


def charts_of(panel: Panel, recording: Recording, words: Words) -> list[Figure]:
    """Draw the charts of a panel."""
    return panel.charts(recording, words)


# ------------------------------------------------------------------------------------------------------------- charts


def _step_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames
    steps = [f.index + 1 for f in kept]
    members = words("chart.members_mean")
    area = [Curve(members, steps, [100 * float(np.mean(f.shares)) for f in kept])]
    second: list[Curve] = []
    for reference in target(recording.opening.reference):
        known = paint.fit(reference, kept[0].mean.shape, smooth=False) > 0
        area += _reference_areas(recording, words, steps, width=1.5)
        second.append(Curve(members, steps, [binary_dice(consensus(f) > 0, known, empty=1.0) for f in kept]))
    several = len(recording.facts["labels"]) > 1
    against = "chart.dice_readers" if recording.opening.readers else "chart.dice"
    title, axis, least = words("chart.dice_together" if several else against), "Dice", (0.8,)
    if not second:
        second.append(Curve(members, steps, [float(f.spread.mean()) / 510 for f in kept]))
        title, axis, least = words("film.disagreement"), words("chart.deviation"), ()
    step = words("chart.step")
    return [
        curves(area, [words("chart.area")], step, [words("chart.percent")]),
        curves(second, [title], step, [axis], least=least),
    ]


def _parser_charts(recording: Recording, words: Words) -> list[Figure]:
    first, last = recording.frames[0], recording.frames[-1]
    stages = list(dict.fromkeys(p.stage for p in first.planes if p.kind == "spectrum before"))
    profiles = []
    for stage in stages:
        lines = []
        for frame in dict.fromkeys((first, last)):
            for when in ("before", "after"):
                x, y = radial(plane(frame, f"spectrum {when}", stage))
                name = f"{words(f'chart.{when}')}, t = {frame.t}"
                lines.append(Curve(name, x.tolist(), y.tolist(), width=2.5 if when == "after" else 1.5))
        title = words("chart.radial", stage=stage_words(stage, words))
        profiles.append(curves(lines, [title], words("chart.frequency"), [words("chart.log_power")]))
    shown = [p for p in first.planes if p.kind in ("gain", "phase")]
    pictures = []
    for p in _one_channel_each(shown):
        title = f"{'|A|' if p.kind == 'gain' else 'arg A'} · {stage_words(p.stage, words)}"
        if p.kind == "gain":
            pictures.append(Map(title, p.values))
        else:
            top = max(0.05, float(np.abs(p.values).max()))
            pictures.append(Map(title, p.values, scale=paint.DIVERGING, low=-top, high=top))
    return [maps(pictures, columns=3), *profiles]


def _one_channel_each(planes: Sequence[Plane]) -> list[Plane]:
    """Select for each stage the mean gain, and gain and phase of the channel farthest from the identity."""
    chosen = []
    for stage in dict.fromkeys(p.stage.partition(",")[0] for p in planes):
        own = [p for p in planes if p.stage.partition(",")[0] == stage]
        chosen += own[:3]
    return chosen


def _anchor_charts(recording: Recording, words: Words) -> list[Figure]:
    planes = [p for p in recording.frames[0].planes if p.kind.startswith("anchor")]
    pictures = [
        Map(
            f"{kind_words(p.kind, words)} · {stage_words(p.stage, words)}",
            p.values,
            scale="viridis" if p.kind == "anchor gate" else "cividis",
        )
        for p in planes
        if p.kind != "anchor sigma"
    ]
    sigmas = []
    for p in (p for p in planes if p.kind == "anchor sigma"):
        values = p.values.astype(float)
        lines = [
            Curve(name, list(range(len(values))), values[:, axis].tolist(), width=1.5)
            for axis, name in enumerate(("σ_x", "σ_y"))
        ]
        title = words("chart.sigma", stage=stage_words(p.stage, words), mean=f"{values.mean():.2f}")
        sigmas.append(curves(lines, [title], words("chart.channel"), [words("chart.cells")]))
    return [maps(pictures), *sigmas]


def _transformer_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames[::-1]  # t increases to the right
    stages = list(dict.fromkeys(p.stage for p in kept[0].planes if p.kind == "band"))
    pictures = []
    for stage in stages:
        rings = [radial(plane(f, "band", stage)) for f in kept]
        over_time = np.stack([mean for _, mean in rings], 1)
        frequency, times = rings[0][0].tolist(), [f.t for f in kept]
        pictures.append(Map(stage_words(stage, words), over_time, scale="viridis", low=0, high=1, x=times, y=frequency))
    return [maps(pictures, columns=2, x="t", y=words("chart.token_frequency"), square=False)] if pictures else []


def _member_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames
    steps = [f.index + 1 for f in kept]
    count = min(MEMBERS_SHOWN, len(kept[0].shares))
    lines = [
        Curve(words("film.one_member", number=m + 1), steps, [100 * f.shares[m] for f in kept], width=1.5)
        for m in range(count)
    ]
    lines += _reference_areas(recording, words, steps)
    return [curves(lines, [words("chart.area")], words("chart.step"), [words("chart.percent")])]


def _reference_areas(recording: Recording, words: Words, steps: list[int], *, width: float = 2.5) -> list[Curve]:
    """Draw the area of the reference mask, or of every reader's."""
    opening, ends = recording.opening, [steps[0], steps[-1]]
    if opening.readers:
        return [
            Curve(
                words("film.readers"), ends, [100 * float((t > 0).mean())] * 2, width=1.5, mode="dots", color="#7d8590"
            )
            for t in opening.readers
        ]
    return [
        Curve(words("film.reference"), steps, [100 * float((t > 0).mean())] * len(steps), width=width)
        for t in opening.reference
    ]


def _none(recording: Recording, words: Words) -> list[Any]:
    return []


PANELS: tuple[Panel, ...] = (
    Panel("steps", lambda r: True, run_views, _step_charts, "run"),
    Panel("parser", lambda r: r.planes("spectrum before"), parser_views, _parser_charts),
    Panel("encoding", lambda r: r.planes("affinity"), encoding_views, _none),
    Panel("anchor", lambda r: r.planes("anchor gate"), _none, _anchor_charts),
    Panel("transformer", lambda r: r.planes("token affinity"), transformer_views, _transformer_charts),
    Panel("members", lambda r: len(r.outcome.members) > 1, member_views, _member_charts, "ensemble"),
)
