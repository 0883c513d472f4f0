"""Draw the networks of both papers as block diagrams, with a picture of what each block computes at every step.

Positions are in units of the drawing, which the browser scales. A picture is a view of the block's panel, reduced in size; a
block without a trace has none.

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.components.scrubber import View
from app.core.frames import Recording
from app.i18n import Words
from app.views import films, paint

__all__ = ["diagram"]

_SIDE = 64  # of a picture, in pixels

_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Block:
    key: str  # of its label
    box: tuple[float, float, float, float]  # left, top, width, height
    map: str = ""  # what its picture shows: "picture", "anchor", "x_t", "x_0", or the start of a view's key
    panel: str = ""  # the panel that shows more of it
    once: bool = False  # it depends on the image only, so it is computed once


@dataclass(frozen=True, slots=True)
class _Arrow:
    points: tuple[_Point, ...]
    label: str = ""  # key of its text, above its second point
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Drawing:
    size: tuple[int, int]
    blocks: tuple[_Block, ...]
    arrows: tuple[_Arrow, ...]


def _arrow(*points: _Point, label: str = "", dashed: bool = False) -> _Arrow:
    return _Arrow(points, label, dashed)


_V2 = _Drawing(
    (948, 346),
    (
        _Block("image", (0, 34, 108, 100), "picture", once=True),
        _Block("condition", (140, 34, 112, 100), "anchor", once=True),
        _Block("feature", (284, 34, 108, 100), "anchor raw", "anchor", once=True),
        _Block("deepest", (424, 60, 108, 48), once=True),
        _Block("nbp", (562, 34, 108, 100), "band", "transformer"),
        _Block("t", (708, 60, 96, 48), "t"),
        _Block("x_t", (0, 190, 108, 100), "x_t"),
        _Block("stem", (140, 216, 112, 48)),
        _Block("gate", (284, 190, 108, 100), "anchor gate", "anchor"),
        _Block("encoder", (424, 216, 108, 48)),
        _Block("ss_former", (562, 190, 108, 100), "token affinity", "transformer"),
        _Block("decoder", (708, 216, 96, 48)),
        _Block("x_0", (840, 190, 108, 100), "x_0"),
    ),
    (
        _arrow((108, 84), (140, 84)),
        _arrow((252, 84), (284, 84)),
        _arrow((196, 34), (196, 14), (478, 14), (478, 60)),
        _arrow((338, 134), (338, 190)),
        _arrow((478, 108), (478, 160), (594, 160), (594, 190)),
        _arrow((708, 84), (670, 84)),
        _arrow((632, 134), (632, 190)),
        _arrow((108, 240), (140, 240)),
        _arrow((252, 240), (284, 240)),
        _arrow((392, 240), (424, 240)),
        _arrow((532, 240), (562, 240), label="e"),
        _arrow((670, 240), (708, 240)),
        _arrow((804, 240), (840, 240)),
        _arrow((478, 264), (478, 310), (756, 310), (756, 264), label="skips", dashed=True),
        _arrow((894, 290), (894, 336), (54, 336), (54, 290), label="sampler", dashed=True),
    ),
)

_V1 = _Drawing(
    (984, 440),
    (
        _Block("image", (0, 14, 100, 114), "picture", once=True),
        _Block("stage_1", (122, 46, 72, 48), once=True),
        _Block("encoding", (216, 10, 112, 118), "affinity, stage 1", "encoding"),
        _Block("stage_2", (350, 46, 72, 48)),
        _Block("encoding", (444, 10, 112, 118), "affinity, stage 2", "encoding"),
        _Block("stage_3", (578, 46, 72, 48)),
        _Block("parser", (216, 156, 112, 100), "spectrum after, stage 1", "parser"),
        _Block("parser", (444, 156, 112, 100), "spectrum after, stage 2", "parser"),
        _Block("sum", (600, 192, 28, 28)),
        _Block("shared", (660, 178, 86, 56)),
        _Block("decoder", (768, 182, 88, 48)),
        _Block("x_0", (880, 156, 104, 100), "x_0"),
        _Block("x_t", (0, 284, 100, 100), "x_t"),
        _Block("stage_1", (122, 310, 72, 48)),
        _Block("stage_2", (350, 310, 72, 48)),
        _Block("stage_3", (578, 310, 72, 48)),
    ),
    (
        _arrow((100, 70), (122, 70)),
        _arrow((194, 70), (216, 70)),
        _arrow((328, 70), (350, 70)),
        _arrow((422, 70), (444, 70)),
        _arrow((556, 70), (578, 70)),
        _arrow((614, 94), (614, 192)),
        _arrow((100, 334), (122, 334)),
        _arrow((194, 334), (350, 334)),
        _arrow((422, 334), (578, 334)),
        _arrow((614, 310), (614, 220)),
        _arrow((272, 334), (272, 256)),
        _arrow((272, 156), (272, 128)),
        _arrow((500, 334), (500, 256)),
        _arrow((500, 156), (500, 128)),
        _arrow((628, 206), (660, 206)),
        _arrow((746, 206), (768, 206)),
        _arrow((856, 206), (880, 206)),
        _arrow((386, 358), (386, 390), (812, 390), (812, 230), label="skips", dashed=True),
        _arrow((932, 256), (932, 424), (50, 424), (50, 384), label="sampler", dashed=True),
    ),
)

_DRAWINGS = {"v1": _V1, "v2": _V2}


def _with_process(drawing: _Drawing, x: float, y: float, middle: _Point) -> _Drawing:
    """Add what surrounds a network: fusion and loss right of x_0, whose right edge is at x, and the sampler on its arrow."""
    blocks = (
        _Block("fusion", (x + 32, y, 104, 44)),
        _Block("loss", (x + 32, y + 56, 104, 44)),
        _Block("sampler_block", (middle[0] - 50, middle[1] - 16, 100, 32)),
    )
    arrows = tuple(_arrow((x, y + high), (x + 32, y + high)) for high in (22, 78))
    kept = tuple(a if a.label != "sampler" else _arrow(*a.points, dashed=True) for a in drawing.arrows)
    size = (drawing.size[0] + 136, drawing.size[1] + 12)
    return _Drawing(size, drawing.blocks + blocks, kept + arrows)


_PROCESSES = {"v1": _with_process(_V1, 984, 156, (450, 424)), "v2": _with_process(_V2, 948, 190, (450, 336))}


def diagram(
    kind: str,
    recording: Recording | None,
    words: Words,
    run: str = "",
    opens: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Build the value of the diagram component; empty for a network without a drawing.

    Arguments:
        kind: of the network, v1 or v2.
        recording: without one, the blocks have no pictures and open no panels.
        words: the visitor's language.
        run: the films whose timeline it follows.
        opens: what blocks open in place of their panels, by their key: its key, and a note. Fusion, loss and sampler
            are then drawn too.
    """
    if kind not in _DRAWINGS:
        return {}
    drawing = (_PROCESSES if opens else _DRAWINGS)[kind]
    views, rows, blocks = _views(recording, words), [], []
    for block in drawing.blocks:
        label = words(f"diagram.{block.key}").split("\n")
        view = next((v for k, v in views.items() if k == block.map or k.startswith(f"{block.map}, ")), None)
        known, open_panel = recording is not None and block.map not in ("", "t"), bool(view and block.panel)
        off = known and view is None
        note = words("diagram.off") if off else ""
        if open_panel:
            note = words("diagram.opens", panel=words(f"panel.{block.panel}.title"))
        opened, note = (opens or {}).get(block.key, (block.panel if open_panel else "", note))
        blocks.append(
            {
                "label": label,
                "box": block.box,
                "row": len(rows) if view else -1,
                "tiles": len(view.tiles) if view else 1,
                "alts": list(view.alts) if view else [],
                "texts": _times(recording) if recording and block.map == "t" else [],
                "panel": opened,
                "phase": "once" if block.once else "step",
                "note": note,
                "off": off,
            }
        )
        if view:
            rows.append([paint.fit(tile, (_SIDE, _SIDE)) for tile in view.tiles])
    sheet = paint.sheet(rows) if rows else None
    return {
        "label": words(f"diagram.{kind}"),
        "size": drawing.size,
        "side": _SIDE,
        "sprite": paint.data_uri(sheet, 75) if sheet is not None else "",
        "sheet": [sheet.shape[1], sheet.shape[0]] if sheet is not None else [1, 1],
        "run": run,
        "phases": _phases(recording) if recording else [],
        "blocks": blocks,
        "arrows": [
            {"points": a.points, "dashed": a.dashed, "text": words(f"diagram.{a.label}") if a.label else ""}
            for a in drawing.arrows
        ],
    }


def _views(recording: Recording | None, words: Words) -> dict[str, View]:
    """Return the views that blocks show, by what they show."""
    if recording is None:
        return {}
    size = (_SIDE, _SIDE)
    noisy, clean = zip(*films.states(recording, size), strict=True)
    places = [place.spoken for place in films.positions(recording, words)]
    views = [
        View("", [paint.fit(recording.opening.seen.picture, size)], [""], key="picture"),
        View("", noisy, places, key="x_t"),
        View("", clean, places, key="x_0"),
    ]
    for anchor in recording.opening.seen.anchor:
        tile = paint.mapped(paint.fit(anchor, size), 0, 255, "viridis")
        views.append(View("", [tile], [words("film.anchor")], key="anchor"))
    for kind in ("spectrum after", "affinity", "token affinity", "band"):
        views += films.plane_views(recording, words, kind)
    return {view.key: view for view in (*views, *films.anchor_views(recording, words))}


def _phases(recording: Recording) -> list[str]:
    """Return which blocks compute at each position of the timeline: "once", "step", or "end" for none."""
    return films.per_position(recording, ["step"] * len(recording.frames), first="once", last="end")


def _times(recording: Recording) -> list[str]:
    """Return the time t at every position of the timeline."""
    return films.per_position(recording, [f"t = {frame.t}" for frame in recording.frames], first="t", last="t")
