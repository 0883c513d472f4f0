"""Provide controls, tiles and metrics shared by several chapters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from numpy import ndarray

from app.components.scrubber import Bar, Position, View
from app.core.frames import Recording
from app.core.settings import Choice, Number
from app.course.bench import CASES
from app.i18n import Words
from app.views import paint
from app.views.films import consensus, step_views
from app.views.films import share as percent
from app.views.panels import PANELS, Panel
from medsegdiff.metrics import binary_dice

__all__ = [
    "CASE",
    "PROBABILITY",
    "SEED",
    "TILE",
    "compared",
    "dice",
    "dice_over_steps",
    "noisy",
    "of_recording",
    "outlined",
    "panel",
]
__all__ += ["probability", "still", "switch"]

CASE = Choice("case", 3, CASES)
SMALL = Choice("case", 11, CASES)  # a small lesion, on which errors are easy to see
HARD = Choice("case", 7, CASES)  # an image on which the network fails
SEED = Number("seed", 0, 0, 9999)
TILE = (160, 160)
PROBABILITY = Bar(paint.VIRIDIS, "0", "1")


def switch(field: str) -> Choice:
    """Create a control with the options on and off."""
    return Choice(field, "on", ("on", "off"))


def panel(key: str) -> Panel:
    """Return the panel with this key."""
    return next(p for p in PANELS if p.key == key)


def dice(one: Bool[ndarray, "h w"], other: Bool[ndarray, "h w"]) -> float:
    """Compute the Dice of two masks; 1 where both are empty."""
    return binary_dice(one, other, empty=1.0)


def noisy(state: Float[ndarray, "h w"], size: tuple[int, int] = TILE) -> paint.RGB:
    """Render a noisy map: -3 ... 3 as black to white, in 32 levels, without interpolation."""
    levels = (((state.clip(-3, 3) + 3) / 6 * 31).round() * 8).astype(np.uint8)
    every = max(1, len(levels) // size[0])
    return paint.grey(paint.fit(np.ascontiguousarray(levels[::every, ::every]), size, smooth=False))


def probability(share: Float[ndarray, "h w"], size: tuple[int, int] = TILE) -> paint.RGB:
    """Render a probability map."""
    return paint.mapped(paint.fit(np.rint(255 * share.clip(0, 1)).astype(np.uint8), size), 0, 255, "viridis")


def outlined(
    picture: paint.RGB,
    mask: Integer[ndarray, "h w"] | Bool[ndarray, "h w"],
    reference: Sequence[UInt8[ndarray, "h w"]] = (),
    members: Sequence[UInt8[ndarray, "h w"]] = (),
    size: tuple[int, int] = TILE,
) -> paint.RGB:
    """Draw a mask on an image, both resized to a tile."""
    fitted = [[paint.fit(np.asarray(m, np.uint8), size, smooth=False) for m in some] for some in (reference, members)]
    return paint.on_picture(
        paint.fit(picture, size), paint.fit(np.asarray(mask, np.uint8), size, smooth=False), *fitted
    )


def marked(picture: paint.RGB, pixels: Bool[ndarray, "h w"], size: tuple[int, int] = TILE) -> paint.RGB:
    """Mark pixels on a darkened image."""
    tile = (paint.fit(picture, size) * 0.6).astype(np.uint8)
    share = paint.fit(np.asarray(pixels, np.uint8) * 255, size)
    tile[share > 80] = (213, 94, 0)  # vermillion, as class 5
    return tile


def still(title: str, tile: paint.RGB, count: int, alt: str = "", bar: Bar | None = None) -> View:
    """Create a view with the same tile at every position."""
    return View(title, [tile] * count, [alt or title] * count, bar)


def dice_over_steps(recording: Recording) -> list[float]:
    """Compute the Dice of the consensus at every step."""
    (reference,) = recording.opening.reference
    known = paint.fit(reference, recording.frames[0].mean.shape, smooth=False) > 0
    return [dice(consensus(frame) > 0, known) for frame in recording.frames]


def compared(runs: Sequence[tuple[str, Recording]], words: Words) -> tuple[list[View], list[Position]]:
    """Show the masks of several runs on the image, each with the area of its own mask, on a timeline that fits all of them."""
    frames, anchors = runs[0][1].frames, runs[0][1].opening.anchor
    places = [words("course.before_step")] * len(anchors)
    places += [words("course.training.step", step=f.index + 1, total=f.total, t=f.t) for f in frames]
    places.append(words("course.result"))
    views = []
    for name, run in runs:
        areas = [100 * float((anchor > 127).mean()) for anchor in run.opening.anchor]
        areas += [*(percent(frame) for frame in run.frames), 100 * float((run.outcome.labels > 0).mean())]
        titles = [words("course.covers", name=name, share=f"{area:.1f}") for area in areas]
        alts = [f"{title}. {place}" for title, place in zip(titles, places, strict=True)]
        views.append(replace(step_views(run, words)[2], title=name, titles=titles, alts=alts))
    return views, [Position(place, place) for place in places]


def of_recording(recording: Recording, words: Words) -> Mapping[str, Any]:
    """Collect the facts of a run that tasks and notebook use."""
    (reference,) = recording.facts["dice"]
    anchor = [float(dice[0]) for dice in recording.facts["anchor_dice"]]
    return {
        "dice": round(float(reference[0]), 4),
        "anchor_dice": round(anchor[0], 4) if anchor else None,
        "disagreement": round(recording.facts["disagreement"], 4),
        "seconds": recording.facts["seconds"],
        "positions": len(recording.frames) + 1 + len(recording.opening.anchor),
    }
