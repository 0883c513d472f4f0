"""The views of a run, as rows of one table: a name, what the run must hold, and how it is drawn.

No row asks which version of the network ran; a panel is there when the recording has what it needs. What moves with the
steps is a film, what stands still is a chart; `PANELS` is all that a front end has to go through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app import paint
from app.charts import Curve, Figure, Map, curves, maps, radial
from app.frames import SIDE, Frame, Opening, Plane, Recording
from app.i18n import Words
from app.scrubber import Bar, Position, View, film


__all__ = ["PANELS", "Panel", "cast", "charts_of", "live", "still"]

_VIRIDIS, _CIVIDIS = Bar(paint.VIRIDIS, "0", "1"), paint.CIVIDIS
_CELLS = (64, 64)  # a small map's tile: the browser enlarges its cells
_BESIDE = (128, 128)  # of a small map beside a picture
_MEMBERS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Panel:
    """One tab."""

    key: str  # of its words
    needs: Callable[[Recording], bool]
    views: Callable[[Recording, Words], list[View]]
    charts: Callable[[Recording, Words], list[Figure]]


# ------------------------------------------------------------------------------------------------------------- a film


def cast(panel: Panel, recording: Recording, words: Words, run: str) -> dict[str, Any]:
    """Make the film of a panel; empty where the panel has none."""
    views = panel.views(recording, words)
    cells = bool(views) and views[0].tiles[0].shape[:2] == _CELLS
    legend = _legend(recording, words) if panel.key in ("steps", "members") else ()
    return film(views, _positions(recording, words), words, run=run, legend=legend, smooth=not cells)


def charts_of(panel: Panel, recording: Recording, words: Words) -> list[Figure]:
    """Draw the charts of a panel."""
    return panel.charts(recording, words)


def still(opening: Opening, words: Words, status: str) -> dict[str, Any]:
    """Show a picture that waits to be run."""
    size = _tile(opening.picture, 1)
    truth = [paint.fit(t, size, smooth=False) for t in opening.truth]
    tile = paint.on_picture(paint.fit(opening.picture, size), np.zeros(size, np.uint8), truth)
    height, width = opening.picture.shape[:2]
    view = View(words("film.picture"), [tile], [words("film.picture_alt", height=height, width=width)])
    legend = [(paint.TRUTH, "dotted", words("film.truth"))] if truth else []
    return film([view], [Position(status, status)], words, legend=legend)


def live(opening: Opening, frame: Frame | None, words: Words, status: str, progress: float) -> dict[str, Any]:
    """Show one moment of a run that is still going: the opening, or a step."""
    size = _tile(opening.picture, 1)
    if frame is None:
        empty = np.full((8, 8), 128, np.uint8)
        belief = opening.anchor[0] if opening.anchor else np.zeros((8, 8), np.uint8)
        views = _triple(opening, empty, belief, _half(belief, size), (), size)
    else:
        views = _triple(opening, frame.x_t, frame.x_0, _cut(frame, size), frame.members, size)
    titles = _titles(words)
    named = [View(title, [tile], [f"{title}. {status}"], bar) for (title, bar), tile in zip(titles, views, strict=True)]
    return film(named, [Position(status, status)], words, status=status, progress=progress, legend=_lines(opening, words, True))


def _positions(recording: Recording, words: Words) -> list[Position]:
    settings, places = recording.facts["settings"], []
    for anchor in recording.opening.anchor:
        text = words("film.before", share=f"{100 * float((anchor > 127).mean()):.1f}")
        places.append(Position(text, text))
    for frame in recording.frames:
        values = {"step": frame.index + 1, "total": frame.total, "t": frame.t, "share": f"{_share(frame):.1f}"}
        places.append(Position(words("film.step", **values), words("film.say", **values)))
    rule = words(f"settings.fuse.{settings['fuse']}")
    percent = f"{100 * float((recording.outcome.labels > 0).mean()):.1f}"
    text = words("film.result" if settings["members"] > 1 else "film.result_one", members=settings["members"], rule=rule, share=percent)
    return [*places, Position(text, text)]


def _spread(recording: Recording, tiles: Sequence[Any], first: Any = None, last: Any = None) -> list[Any]:
    """Give every position its tile: the opening the first step's, the result the last step's, unless they have their own."""
    before = [tiles[0] if first is None else first] * len(recording.opening.anchor)
    return [*before, *tiles, tiles[-1] if last is None else last]


def _tile(picture: paint.RGB, count: int, most: int = SIDE) -> tuple[int, int]:
    """Choose a tile's (height, width): the picture's shape, smaller where many tiles make a sheet."""
    height, width = picture.shape[:2]
    side = min(most, SIDE if count <= 26 else 192)
    scale = side / max(height, width)
    return max(8, round(height * scale)), max(8, round(width * scale))


def _together(frame: Frame) -> UInt8[ndarray, "s s"]:
    """What the members believe together at a step, as labels: one class by their mean, several by their votes."""
    if frame.members.max(initial=0) <= 1:
        return (frame.mean > 127).astype(np.uint8)
    votes = np.stack([(frame.members == c).sum(0) for c in range(int(frame.members.max()) + 1)])
    return votes.argmax(0).astype(np.uint8)


def _share(frame: Frame) -> float:
    return 100 * float((_together(frame) > 0).mean())


def _cut(frame: Frame, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """Bring what they believe to a tile; a probability is enlarged before it is cut, so that its border is smooth."""
    if frame.members.max(initial=0) <= 1:
        return _half(frame.mean, size)
    return paint.fit(_together(frame), size, smooth=False)


def _half(probability: UInt8[ndarray, "s s"], size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    return (paint.fit(probability, size) > 127).astype(np.uint8)


def _triple(
    opening: Opening,
    x_t: UInt8[ndarray, "s s"],
    x_0: UInt8[ndarray, "s s"],
    labels: UInt8[ndarray, "h w"],
    members: Sequence[UInt8[ndarray, "s s"]] | UInt8[ndarray, "m s s"],
    size: tuple[int, int],
) -> list[paint.RGB]:
    thin = [paint.fit(m, size, smooth=False) for m in members] if len(members) > 1 else []
    truth = [paint.fit(t, size, smooth=False) for t in opening.truth]
    return [
        paint.grey(paint.fit(x_t, size, smooth=False)),
        paint.mapped(paint.fit(x_0, size), 0, 255, "viridis"),
        paint.on_picture(paint.fit(opening.picture, size), labels, truth, thin),
    ]


def _titles(words: Words) -> list[tuple[str, Bar | None]]:
    return [
        (words("film.x_t"), Bar(("#000000", "#ffffff"), "−3", "3")),
        (words("film.x_0"), _VIRIDIS),
        (words("film.on_picture"), None),
    ]


def _lines(opening: Opening, words: Words, members: bool) -> list[tuple[str, str, str]]:
    legend = [(paint.CLASSES[0], "solid", words("film.model"))]
    if members:
        legend.append((paint.MEMBER, "thin", words("film.member")))
    if opening.truth:
        legend.append((paint.TRUTH, "dotted", words("film.truth")))
    return legend


def _legend(recording: Recording, words: Words) -> list[tuple[str, str, str]]:
    lines = _lines(recording.opening, words, recording.facts["settings"]["members"] > 1)
    names = recording.facts["labels"]
    if len(names) == 1:
        return lines
    classes = [(paint.CLASSES[i % len(paint.CLASSES)], "solid", words.known(f"class.{n}", n)) for i, n in enumerate(names)]
    return [*classes, *lines[1:]]


# -------------------------------------------------------------------------------------------------------------- views


def _step_views(recording: Recording, words: Words) -> list[View]:
    opening, outcome, kept = recording.opening, recording.outcome, recording.frames
    size = _tile(opening.picture, len(kept) + 2)
    columns = [_triple(opening, kept[0].x_t, anchor, _half(anchor, size), (), size) for anchor in opening.anchor]
    columns += [_triple(opening, f.x_t, f.x_0, _cut(f, size), f.members, size) for f in kept]
    fused = paint.fit(outcome.labels, size, smooth=False)
    columns.append(_triple(opening, kept[-1].x_t, outcome.probability, fused, (), size))
    says = [p.say for p in _positions(recording, words)]
    return [
        View(title, [column[i] for column in columns], [f"{title}. {say}" for say in says], bar)
        for i, (title, bar) in enumerate(_titles(words))
    ]


def _plane_views(
    recording: Recording, words: Words, kind: str, table: str = "cividis", size: tuple[int, int] = _CELLS
) -> list[View]:
    """Show every stage's map of this kind as a view; the scale of a view holds for all its steps."""
    views = []
    says = [p.say for p in _positions(recording, words)]
    for stage in dict.fromkeys(p.stage for f in recording.frames for p in f.planes if p.kind == kind):
        values = [_plane(frame, kind, stage).astype(np.float32) for frame in recording.frames]
        low, high = (float(q) for q in np.percentile(np.stack(values), (0.5, 99.5)))
        tiles = [paint.fit(paint.mapped(v, low, high, table), size, smooth=False) for v in values]
        title = f"{_kind(kind, words)} · {_stage(stage, words)}"
        numbers = [words("film.numbers", low=f"{v.min():.3g}", mean=f"{v.mean():.3g}", high=f"{v.max():.3g}") for v in values]
        alts = [f"{title}. {say}. {told}" for say, told in zip(says, _spread(recording, numbers), strict=True)]
        colours = paint.VIRIDIS if table == "viridis" else _CIVIDIS
        views.append(View(title, _spread(recording, tiles), alts, Bar(colours, f"{low:.3g}", f"{high:.3g}")))
    return views


def _plane(frame: Frame, kind: str, stage: str) -> ndarray:
    return next(p.values for p in frame.planes if (p.kind, p.stage) == (kind, stage))


def _kind(kind: str, words: Words) -> str:
    return words(f"plane.{kind.replace(' ', '_')}")


def _stage(stage: str, words: Words) -> str:
    """Say a place in the visitor's language; the network names it in English."""
    for english in ("noise asks semantics", "semantics asks noise", "stage", "block", "level", "channel", "mean"):
        stage = stage.replace(english, words(f"stage.{english.replace(' ', '_')}"))
    return stage


def _parser_views(recording: Recording, words: Words) -> list[View]:
    before, after = (_plane_views(recording, words, f"spectrum {when}") for when in ("before", "after"))
    return [view for pair in zip(before, after, strict=True) for view in pair]


def _encoding_views(recording: Recording, words: Words) -> list[View]:
    picture = _step_views(recording, words)[2]
    tiles = [paint.fit(tile, _BESIDE) for tile in picture.tiles]
    beside = View(picture.title, tiles, picture.alts)
    return [beside, *_plane_views(recording, words, "affinity", size=_BESIDE)]


def _transformer_views(recording: Recording, words: Words) -> list[View]:
    affinities = _plane_views(recording, words, "token affinity")
    return [*affinities, *_plane_views(recording, words, "band", "viridis")]


def _member_views(recording: Recording, words: Words) -> list[View]:
    opening, outcome, kept = recording.opening, recording.outcome, recording.frames
    size = _tile(opening.picture, len(kept) + 2, most=144)
    picture, truth = paint.fit(opening.picture, size), [paint.fit(t, size, smooth=False) for t in opening.truth]
    says = [p.say for p in _positions(recording, words)]

    def scale(title: str, maps: list[ndarray], last: ndarray, table: str, top: float) -> View:
        tiles = [paint.mapped(paint.fit(m, size), 0, 255, table) for m in maps]
        numbers = [f"{m.mean() / 255 * top:.3f}" for m in maps]
        told = _spread(recording, numbers, last=f"{last.mean() / 255 * top:.3f}")
        alts = [f"{title}. {say}. {words('film.mean_value', mean=m)}" for say, m in zip(says, told, strict=True)]
        colours = paint.VIRIDIS if table == "viridis" else _CIVIDIS
        final = paint.mapped(paint.fit(last, size), 0, 255, table)
        return View(title, _spread(recording, tiles, last=final), alts, Bar(colours, "0", f"{top:g}"))

    views = [
        scale(words("film.mean_probability"), [f.mean for f in kept], outcome.probability, "viridis", 1),
        scale(words("film.disagreement"), [f.spread for f in kept], outcome.disagreement, "cividis", 0.5),
    ]
    for m in range(min(_MEMBERS_SHOWN, len(outcome.members))):
        title = words("film.one_member", number=m + 1)
        tiles = [paint.on_picture(picture, paint.fit(f.members[m], size, smooth=False), truth) for f in kept]
        last = paint.on_picture(picture, paint.fit(outcome.members[m], size, smooth=False), truth)
        shares = [f"{100 * f.shares[m]:.1f}" for f in kept]
        told = _spread(recording, shares)
        alts = [f"{title}. {say}. {words('film.share', share=s)}" for say, s in zip(says, told, strict=True)]
        views.append(View(title, _spread(recording, tiles, last=last), alts))
    return views


# ------------------------------------------------------------------------------------------------------------- charts


def _step_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames
    steps = [f.index + 1 for f in kept]
    lines = [Curve(words("chart.members_mean"), steps, [100 * float(np.mean(f.shares)) for f in kept])]
    titles, axes = [words("chart.area")], [words("chart.percent")]
    for truth in recording.opening.truth:
        known = paint.fit(truth, kept[0].mean.shape, smooth=False) > 0
        lines.append(Curve(words("film.truth"), steps, [100 * float((truth > 0).mean())] * len(steps), width=1.5))
        dice = [_dice(_together(f) > 0, known) for f in kept]
        lines.append(Curve(words("chart.members_mean"), steps, dice, panel=1))
        titles.append(words("chart.dice"))
        axes.append("Dice")
    if not recording.opening.truth:
        spread = [float(f.spread.mean()) / 510 for f in kept]
        lines.append(Curve(words("chart.members_mean"), steps, spread, panel=1))
        titles.append(words("film.disagreement"))
        axes.append(words("chart.deviation"))
    least = [None, 0.8] if recording.opening.truth else ()
    return [curves(lines, titles, words("chart.step"), axes, least=least)]


def _dice(one: ndarray, other: ndarray) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def _parser_charts(recording: Recording, words: Words) -> list[Figure]:
    first, last = recording.frames[0], recording.frames[-1]
    stages = list(dict.fromkeys(p.stage for p in first.planes if p.kind == "spectrum before"))
    lines = []
    for panel, stage in enumerate(stages):
        for frame in dict.fromkeys((first, last)):
            for when in ("before", "after"):
                x, y = radial(_plane(frame, f"spectrum {when}", stage))
                name = f"{words(f'chart.{when}')}, t = {frame.t}"
                lines.append(Curve(name, x.tolist(), y.tolist(), panel=panel, width=2.5 if when == "after" else 1.5))
    titles = [words("chart.radial", stage=_stage(s, words)) for s in stages]
    profile = curves(lines, titles, words("chart.frequency"), [words("chart.log_power")] * len(stages))
    shown = [p for p in first.planes if p.kind in ("gain", "phase")]
    pictures = []
    for p in _one_channel_each(shown):
        symbol = "|A|" if p.kind == "gain" else "arg A"
        span = (-np.pi, np.pi) if p.kind == "phase" else (None, None)
        scale = "cyclic" if p.kind == "phase" else "cividis"
        pictures.append(Map(f"{symbol} · {_stage(p.stage, words)}", p.values, scale=scale, low=span[0], high=span[1]))
    return [maps(pictures, columns=3), profile]


def _one_channel_each(planes: Sequence[Plane]) -> list[Plane]:
    """Of each stage: the mean gain, and gain and phase of the channel farthest from the identity."""
    chosen = []
    for stage in dict.fromkeys(p.stage.partition(",")[0] for p in planes):
        own = [p for p in planes if p.stage.partition(",")[0] == stage]
        chosen += own[:3]
    return chosen


def _anchor_charts(recording: Recording, words: Words) -> list[Figure]:
    planes = [p for p in recording.frames[0].planes if p.kind.startswith("anchor")]
    pictures = [
        Map(
            f"{_kind(p.kind, words)} · {_stage(p.stage, words)}",
            p.values,
            scale="viridis" if p.kind == "anchor gate" else "cividis",
        )
        for p in planes
        if p.kind != "anchor sigma"
    ]
    sigmas = [p for p in planes if p.kind == "anchor sigma"]
    lines = [
        Curve(name, list(range(len(p.values))), p.values[:, axis].astype(float).tolist(), panel=i, width=1.5)
        for i, p in enumerate(sigmas)
        for axis, name in enumerate(("σ_x", "σ_y"))
    ]
    titles = [words("chart.sigma", stage=_stage(p.stage, words), mean=f"{p.values.astype(float).mean():.2f}") for p in sigmas]
    return [maps(pictures), curves(lines, titles, words("chart.channel"), [words("chart.cells")] * len(sigmas))]


def _transformer_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames[::-1]  # time grows to the right
    stages = list(dict.fromkeys(p.stage for p in kept[0].planes if p.kind == "band"))
    pictures = []
    for stage in stages:
        rings = [radial(_plane(f, "band", stage)) for f in kept]
        over_time = np.stack([mean for _, mean in rings], 1)
        frequency, times = rings[0][0].tolist(), [f.t for f in kept]
        pictures.append(Map(_stage(stage, words), over_time, scale="viridis", low=0, high=1, x=times, y=frequency))
    return [maps(pictures, columns=2, x="t", y=words("chart.token_frequency"), square=False)] if pictures else []


def _member_charts(recording: Recording, words: Words) -> list[Figure]:
    kept = recording.frames
    steps = [f.index + 1 for f in kept]
    count = min(_MEMBERS_SHOWN, len(kept[0].shares))
    lines = [
        Curve(words("film.one_member", number=m + 1), steps, [100 * f.shares[m] for f in kept], width=1.5) for m in range(count)
    ]
    lines += [Curve(words("film.truth"), steps, [100 * float((t > 0).mean())] * len(steps)) for t in recording.opening.truth]
    return [curves(lines, [words("chart.area")], words("chart.step"), [words("chart.percent")])]


def _none(recording: Recording, words: Words) -> list[Figure]:
    return []


PANELS: tuple[Panel, ...] = (
    Panel("steps", lambda r: True, _step_views, _step_charts),
    Panel("parser", lambda r: r.planes("spectrum before"), _parser_views, _parser_charts),
    Panel("encoding", lambda r: r.planes("affinity"), _encoding_views, _none),
    Panel("anchor", lambda r: r.planes("anchor gate"), _none, _anchor_charts),
    Panel("transformer", lambda r: r.planes("token affinity"), _transformer_views, _transformer_charts),
    Panel("members", lambda r: len(r.outcome.members) > 1, _member_views, _member_charts),
)
