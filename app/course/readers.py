"""Show a trained network where experts disagree: readers of a synthetic lung nodule beside members after few and many steps.

The condition network returns one mask, near the readers' mean. After one step the members do the same; with more steps
they become masks that differ as the readers' do, which the squared generalised energy distance (GED) measures.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from app.analysis.ensemble import beside_readers
from app.components.scrubber import Position, View, film
from app.core.frames import Recording
from app.course.bench import Bench
from app.course.chapter import Fact
from app.course.parts import PROBABILITY, outlined, probability, still
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, curves
from medsegdiff.config import RunSettings

__all__ = ["MEMBERS", "STEPS", "TASK", "distances", "runs", "show"]

TASK = "lung-nodule"
STEPS = (1, 2, 5, 10)
MEMBERS = 12
_SHOWN = 3  # members


def runs(bench: Bench, case: int, seed: int) -> list[Recording]:
    """Segment a phantom of a lung nodule with each number of steps, from the same noise."""
    return [
        bench.run("v2", case, RunSettings(members=MEMBERS, steps=steps, seed=seed, fuse="mean"), TASK)
        for steps in STEPS
    ]


def distances(recordings: list[Recording]) -> tuple[list[float], float]:
    """Compute the squared GED to the readers: of the members for each number of steps, and of the condition network's mask."""
    found = [beside_readers(recording) for recording in recordings]
    return [beside.distance for beside in found if beside], next(b.anchor_distance[0] for b in found if b)


def show(bench: Bench, case: int, seed: int, words: Words) -> tuple[Mapping[str, Any], Figure, tuple[Fact, ...]] | None:
    """Return a film over the numbers of steps, a chart of the GED and facts; None without a checkpoint for the task."""
    if bench.checkpoint("v2", TASK) is None:
        return None
    recordings = runs(bench, case, seed)
    ged, alone = distances(recordings)
    opening = recordings[0].opening
    picture, readers = _middle(opening.picture), [_middle(reader) for reader in opening.readers]
    anchor = _middle(paint.fit(opening.anchor[0], opening.picture.shape[:2])) / 255
    none = np.zeros(picture.shape[:2], np.uint8)

    places = [
        words("course.readers.place", steps=steps, ged=f"{distance:.2f}")
        for steps, distance in zip(STEPS, ged, strict=True)
    ]
    n = len(places)
    views = [
        still(words("course.readers.readers"), outlined(picture, none, readers), n),
        still(words("course.readers.share"), probability(np.mean([r > 0 for r in readers], 0)), n, bar=PROBABILITY),
        still(words("course.readers.alone"), probability(anchor), n, bar=PROBABILITY),
    ]
    mean = [probability(_middle(r.outcome.members > 0).mean(0)) for r in recordings]
    title = words("course.readers.mean", members=MEMBERS)
    views.append(View(title, mean, [f"{title}. {place}" for place in places], PROBABILITY))
    for m in range(_SHOWN):
        title = words("film.one_member", number=m + 1)
        tiles = [outlined(picture, _middle(r.outcome.members[m]) > 0) for r in recordings]
        views.append(View(title, tiles, [f"{title}. {place}" for place in places]))
    shown = film(views, [Position(place, place) for place in places], words, run=f"readers-{case}-{seed}", smooth=False)

    lines = [
        Curve(words("course.readers.members"), list(STEPS), ged),
        Curve(words("course.readers.condition"), [STEPS[0], STEPS[-1]], [alone, alone], mode="dots"),
    ]
    chart = curves(lines, [words("course.readers.chart")], words("settings.steps.label"), ["GED²"])
    chart.update_yaxes(rangemode="tozero").update_xaxes(tickvals=list(STEPS))
    label = words("course.readers.ged", steps=STEPS[-1])
    numbers = (
        Fact(label, f"{ged[0]:.2f} · {ged[-1]:.2f} · {alone:.2f}", words("course.readers.ged_detail")),
        Fact("", words("course.readers.text")),
    )
    return shown, chart, numbers


def _middle(values: Shaped[ndarray, "..."]) -> Any:
    """Cut out the middle half of a picture or of masks, where the nodule is."""
    axis = 1 if values.ndim == 3 and values.shape[-1] != 3 else 0
    height, width = values.shape[axis : axis + 2]
    inner = (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4))
    return np.ascontiguousarray(values[(slice(None), *inner) if axis else inner])
