"""Define the panels of a run in one table: their key, the data they need, and their films and charts.

A panel is shown if the recording contains its data, whichever version of the network produced it. Data that change over
the steps are shown as a film, all others as charts. A front end iterates over `PANELS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from app.components.scrubber import Position, View, film
from app.core.frames import Frame, Recording, target
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, curves, radial, surface
from app.views.films import (
    CELLS,
    MEMBERS_SHOWN,
    anchor_views,
    consensus,
    encoding_views,
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

_PALE, _DARK = "#9ecae1", "#0072B2"  # of a wide line, and of the thin one on it


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, showing one component of a run."""

    key: str  # of its title and text
    needs: Callable[[Recording], bool]
    views: Callable[[Recording, Words], list[View]]
    charts: Callable[[Recording, Words], list[Figure]]
    tab: str = "inside"  # the tab of the page that contains it


def film_of(panel: Panel, recording: Recording, words: Words, run: str, *, last_only: bool = False) -> dict[str, Any]:
    """Build the film of a panel; empty if it has none. `last_only` leaves out all tiles but those of the last position."""
    views = panel.views(recording, words)
    places = positions(recording, words) if any(len(view.tiles) > 1 for view in views) else [Position("", "")]
    cells = bool(views) and views[0].tiles[0].shape[:2] == CELLS
    lines = legend(recording, words, members=panel.key == "steps") if panel.key in ("steps", "members") else ()
    steps = panel.key == "steps"
    if last_only:
        views = [replace(view, tiles=view.tiles[-1:]) for view in views]
    return film(
        views,
        places,
        words,
        run=run if len(places) > 1 else "",
        legend=lines,
        smooth=not cells,
        overlay=steps,
        autoplay=steps and not last_only,
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
    """Draw the radial profiles of the spectra before and after each FF-Parser, and their difference, in decibels."""
    first, last = recording.frames[0], recording.frames[-1]
    figures, axis = [], words("chart.frequency")
    for stage in dict.fromkeys(p.stage for p in first.planes if p.kind == "spectrum before"):
        differences = []
        for frame in dict.fromkeys((first, last)):
            (x, before), (_, after) = _profiles(frame, stage)
            differences.append(Curve(f"t = {frame.t}", x.tolist(), (10 * (after - before)).tolist()))
        # The thin dotted line lies on the wide one where the filter changes little, and both stay visible.
        (x, before), (_, after) = _profiles(last, stage)
        profiles = [
            Curve(words("chart.before"), x.tolist(), (10 * before).tolist(), width=7, color=_PALE),
            Curve(words("chart.after"), x.tolist(), (10 * after).tolist(), mode="dots", color=_DARK),
        ]
        named = stage_words(stage, words)
        title = words("chart.radial", stage=named, t=last.t)
        figures.append(curves(profiles, [title], axis, [words("chart.power")]))
        figures.append(curves(differences, [words("chart.radial_change", stage=named)], axis, [words("chart.change")]))
    return figures


def _profiles(frame: Frame, stage: str) -> tuple[tuple[ndarray, ndarray], tuple[ndarray, ndarray]]:
    """Return the radial profiles of a spectrum before and after an FF-Parser, each as frequencies and values."""
    return radial(plane(frame, "spectrum before", stage)), radial(plane(frame, "spectrum after", stage))


def _anchor_charts(recording: Recording, words: Words) -> list[Figure]:
    sigmas = []
    for p in (p for p in recording.frames[0].planes if p.kind == "anchor sigma"):
        values = p.values.astype(float)
        lines = [
            Curve(name, list(range(len(values))), values[:, axis].tolist(), width=1.5)
            for axis, name in enumerate(("σ<sub>x</sub>", "σ<sub>y</sub>"))
        ]
        title = words("chart.sigma", stage=stage_words(p.stage, words), mean=f"{values.mean():.2f}")
        sigmas.append(curves(lines, [title], words("chart.channel"), [words("chart.cells")]))
    return sigmas


def _transformer_charts(recording: Recording, words: Words) -> list[Figure]:
    """Draw how much of each frequency every NBP-Filter passes, at every recorded t."""
    kept = recording.frames[::-1]  # t increases to the right
    figures = []
    for stage in dict.fromkeys(p.stage for p in kept[0].planes if p.kind == "band"):
        rings = [radial(plane(f, "band", stage)) for f in kept]
        over_time = np.stack([mean for _, mean in rings], 1)
        frequency, times = rings[0][0].tolist(), [f.t for f in kept]
        title = f"{words('plane.band')}<br>{stage_words(stage, words)}"
        figures.append(surface(title, over_time, times, frequency, "t", words("chart.token_frequency")))
    return figures


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
    Panel("anchor", lambda r: r.planes("anchor gate"), anchor_views, _anchor_charts),
    Panel("transformer", lambda r: r.planes("token affinity"), transformer_views, _transformer_charts),
    Panel("members", lambda r: len(r.outcome.members) > 1, member_views, _member_charts, "ensemble"),
)
