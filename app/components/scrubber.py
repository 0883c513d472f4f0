"""The film: views of a run side by side over one time line, scrubbed in the browser without asking the server.

All tiles of all steps travel as one sprite sheet; the browser draws the tiles of a step from it. The time line is the
browser's own range input, so keyboards and screen readers know it. Films of the same run keep step with each other.

A front end shows MARKUP, STYLE and SCRIPT as a component whose value is what `film` returns: plain JSON types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.components import source
from app.i18n import Words
from app.views import paint

__all__ = ["MARKUP", "SCRIPT", "STYLE", "Bar", "Position", "View", "film"]


_QUALITY = 60  # of the sheet's JPEG; most of its bytes are noise, which nobody reads pixel by pixel


@dataclass(frozen=True, slots=True)
class Bar:
    """The colour scale of a view, with its ends in words."""

    colours: Sequence[str]
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class View:
    """One tile of the film: a picture for every position."""

    title: str
    tiles: Sequence[paint.RGB]
    alts: Sequence[str]
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """One place on the time line."""

    label: str  # short, beside the time line
    say: str  # a sentence for those who listen


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
) -> dict[str, Any]:
    """Put a film together.

    Arguments:
        views: the tiles, left to right; each has one picture for every position, all of one size.
        positions: the places on the time line.
        words: the visitor's language.
        run: films that share this name keep step.
        at: position to begin with; negative counts from the end.
        legend: (colour, "solid", "thin" or "dotted", words).
        status: a line of text under a film that is still being made.
        progress: share done of a run that is still going; None shows the time line.
        lead: whether the last of three tiles comes first, and large, where there is no room for three.
        smooth: whether tiles may be interpolated when enlarged; cells of a small map may not.
    """
    if not views:
        return {}
    height, width = views[0].tiles[0].shape[:2]
    return {
        "sprite": paint.data_uri(paint.sheet([view.tiles for view in views]), _QUALITY),
        "tile": [width, height],
        "views": [
            {
                "title": view.title,
                "alts": list(view.alts),
                "bar": {"colours": list(view.bar.colours), "low": view.bar.low, "high": view.bar.high}
                if view.bar
                else None,
            }
            for view in views
        ],
        "positions": [{"label": p.label, "say": p.say} for p in positions],
        "run": run,
        "at": at % len(positions),
        "legend": [{"colour": colour, "line": line, "words": text} for colour, line, text in legend],
        "status": status,
        "progress": progress,
        "smooth": smooth,
        "lead": lead,
        "words": {key: words(f"film.{key}") for key in ("play", "pause", "back", "forward", "line", "keys")}
        | {"stopped": words("run.stopped")},
    }


MARKUP = '<div class="film"></div>'

STYLE = source("scrubber.css")

SCRIPT = source("scrubber.js")
