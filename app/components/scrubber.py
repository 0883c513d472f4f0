"""Provide the film component: views of a run side by side, with a timeline scrubbed in the browser.

All tiles are sent as one sprite sheet, so scrubbing needs no request to the server. The timeline is a native range input,
which works with keyboards and screen readers. Films with the same `run` move together.

A front end shows MARKUP, STYLE and SCRIPT as a component with the value returned by `film`, in JSON types.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from app.components import source
from app.i18n import Words
from app.views import paint

__all__ = ["MARKUP", "SCRIPT", "STYLE", "Bar", "Position", "View", "film", "tile", "timeline"]


_QUALITY = 60  # JPEG quality of the sprite sheet, most of whose bytes encode noise


@dataclass(frozen=True, slots=True)
class Bar:
    """The colour bar of a view, with labels for both ends."""

    colours: Sequence[str]
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class View:
    """One view of the film, with a tile for every position, or one tile for all of them."""

    title: str
    tiles: Sequence[paint.RGB]
    alts: Sequence[str]
    bar: Bar | None = None
    titles: Sequence[str] = ()  # one for every position, where they differ
    key: str = ""  # of a map of a network component: its kind and stage


@dataclass(frozen=True, slots=True)
class Position:
    """One position on the timeline."""

    label: str  # shown below the timeline
    spoken: str  # for screen readers


def film(
    views: Sequence[View],
    positions: Sequence[Position],
    words: Words,
    *,
    run: str = "",
    at: int = -1,
    legend: Sequence[tuple[str, str, str]] = (),
    status: str = "",
    progress: float | None = None,
    smooth: bool = True,
    lead: bool = True,
    overlay: bool = False,
    autoplay: bool = False,
) -> dict[str, Any]:
    """Build the value of a film.

    Arguments:
        views: the views from left to right, each with one tile per position, all of the same size.
        positions: the positions on the timeline.
        words: the visitor's language.
        run: films with the same value move together.
        at: initial position; negative values count from the end.
        legend: entries (colour, "solid", "thin" or "dotted", text).
        status: text below the film of a run in progress.
        progress: completed share of a run in progress; None shows the timeline.
        lead: on narrow screens, show the last of three views first and larger.
        overlay: the first view is the image alone and the last one the same image with the mask, so a slider fades between them.
        autoplay: play once when the page opens, unless the visitor prefers reduced motion.
        smooth: interpolate tiles when enlarging them; off for the cells of feature maps.
    """
    if not views:
        return {}
    height, width = views[0].tiles[0].shape[:2]
    return {
        "sprite": paint.data_uri(paint.sheet([view.tiles for view in views]), _QUALITY, halve_colour=True),
        "tile": [width, height],
        "views": [
            {
                "title": view.title,
                "titles": list(view.titles),
                "tiles": len(view.tiles),
                "alts": list(view.alts),
                "bar": {"colours": list(view.bar.colours), "low": view.bar.low, "high": view.bar.high}
                if view.bar
                else None,
            }
            for view in views
        ],
        "positions": [{"label": p.label, "spoken": p.spoken} for p in positions],
        "run": run,
        "at": at % len(positions),
        "legend": [{"colour": colour, "line": line, "words": text} for colour, line, text in legend],
        "status": status,
        "progress": progress,
        "smooth": smooth,
        "lead": lead,
        "overlay": overlay,
        "autoplay": autoplay,
        "words": {key: words(f"film.{key}") for key in ("play", "pause", "back", "forward", "line", "keys", "opacity")}
        | {"stopped": words("run.stopped")},
    }


def timeline(positions: Sequence[Position], words: Words, *, run: str) -> dict[str, Any]:
    """Build the value of a film without views: a timeline that moves the films of the same run."""
    blank = View("", [np.zeros((1, 1, 3), np.uint8)], [""])
    return film([blank], positions, words, run=run) | {"views": []}


def tile(value: Mapping[str, Any], view: int, at: int) -> paint.RGB:
    """Cut the tile of a view at a position out of a film."""
    width, height = value["tile"]
    column = min(at, value["views"][view]["tiles"] - 1)
    return _sprite(value["sprite"])[view * height : (view + 1) * height, column * width : (column + 1) * width]


@lru_cache(maxsize=4)
def _sprite(uri: str) -> paint.RGB:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


MARKUP = '<div class="film"></div>'

STYLE = source("scrubber.css")

SCRIPT = source("scrubber.js")
