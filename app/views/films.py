"""Films of a run: what each panel shows at every position of the time line, as tiles with words for those who listen.

The time line begins with the condition network's own opinion where there is one, goes through the steps, and ends with the
fused result. What has no picture of its own at either end shows that of its neighbour.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core.frames import SIDE, Frame, Opening, Recording
from app.i18n import Words
from app.views import paint

__all__ = [
    "CELLS",
    "MEMBERS_SHOWN",
    "cut",
    "encoding_views",
    "kind_words",
    "legend",
    "live",
    "member_views",
    "parser_views",
    "plane",
    "positions",
    "share",
    "spread",
    "stage_words",
    "step_views",
    "still",
    "tile_size",
    "together",
    "transformer_views",
]

_VIRIDIS, _CIVIDIS = Bar(paint.VIRIDIS, "0", "1"), paint.CIVIDIS
CELLS = (64, 64)  # a small map's tile: the browser enlarges its cells
_BESIDE = (128, 128)  # of a small map beside a picture
MEMBERS_SHOWN = 6
_LIVE = 192  # longest side of a tile that is seen for a tenth of a second


def still(opening: Opening, words: Words, status: str) -> dict[str, Any]:
    """Show a picture that waits to be run."""
    size = tile_size(opening.picture, 1)
    reference = [paint.fit(t, size, smooth=False) for t in opening.reference]
    tile = paint.on_picture(paint.fit(opening.picture, size), np.zeros(size, np.uint8), reference)
    height, width = opening.picture.shape[:2]
    view = View(words("film.picture"), [tile], [words("film.picture_alt", height=height, width=width)])
    lines = [(paint.REFERENCE, "dotted", words("film.reference"))] if reference else []
    return film([view], [Position(status, status)], words, legend=lines)


def live(opening: Opening, frame: Frame | None, words: Words, status: str, progress: float) -> dict[str, Any]:
    """Show one moment of a run that is still going: the opening, or a step."""
    size = tile_size(opening.picture, 1, most=_LIVE)
    if frame is None:
        empty = np.full((8, 8), 128, np.uint8)
        belief = opening.anchor[0] if opening.anchor else np.zeros((8, 8), np.uint8)
        views = _triple(opening, empty, belief, _half(belief, size), (), size)
    else:
        views = _triple(opening, frame.x_t, frame.x_0, cut(frame, size), frame.members, size)
    titles = _titles(words)
    named = [View(title, [tile], [f"{title}. {status}"], bar) for (title, bar), tile in zip(titles, views, strict=True)]
    return film(
        named, [Position(status, status)], words, status=status, progress=progress, legend=_lines(opening, words, True)
    )


def positions(recording: Recording, words: Words) -> list[Position]:
    """List the places of the time line: the opening where there is one, the steps, the result."""
    settings, places = recording.facts["settings"], []
    for anchor in recording.opening.anchor:
        text = words("film.before", share=f"{100 * float((anchor > 127).mean()):.1f}")
        places.append(Position(text, text))
    for frame in recording.frames:
        values = {"step": frame.index + 1, "total": frame.total, "t": frame.t, "share": f"{share(frame):.1f}"}
        places.append(Position(words("film.step", **values), words("film.step_spoken", **values)))
    rule = words(f"settings.fuse.{settings['fuse']}")
    percent = f"{100 * float((recording.outcome.labels > 0).mean()):.1f}"
    text = words(
        "film.result" if settings["members"] > 1 else "film.result_one",
        members=settings["members"],
        rule=rule,
        share=percent,
    )
    return [*places, Position(text, text)]


def spread(recording: Recording, tiles: Sequence[Any], first: Any = None, last: Any = None) -> list[Any]:
    """Give every position its tile: the opening the first step's, the result the last step's, unless they have their own."""
    before = [tiles[0] if first is None else first] * len(recording.opening.anchor)
    return [*before, *tiles, tiles[-1] if last is None else last]


def tile_size(picture: paint.RGB, count: int, most: int = SIDE) -> tuple[int, int]:
    """Choose a tile's (height, width): the picture's shape, smaller where many tiles make a sheet."""
    height, width = picture.shape[:2]
    side = min(most, SIDE if count <= 26 else 192)
    scale = side / max(height, width)
    return max(8, round(height * scale)), max(8, round(width * scale))


def together(frame: Frame) -> UInt8[ndarray, "s s"]:
    """What the members believe together at a step, as labels: one class by their mean, several by their votes."""
    if frame.members.max(initial=0) <= 1:
        return (frame.mean > 127).astype(np.uint8)
    votes = np.stack([(frame.members == c).sum(0) for c in range(int(frame.members.max()) + 1)])
    return votes.argmax(0).astype(np.uint8)


def share(frame: Frame) -> float:
    """Say how much of the picture they believe to be mask, in percent."""
    return 100 * float((together(frame) > 0).mean())


def cut(frame: Frame, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """Bring what they believe to a tile; a probability is enlarged before it is cut, so that its border is smooth."""
    if frame.members.max(initial=0) <= 1:
        return _half(frame.mean, size)
    return paint.fit(together(frame), size, smooth=False)


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
    reference = [paint.fit(t, size, smooth=False) for t in opening.reference]
    return [
        paint.grey(paint.fit(x_t, size, smooth=False)),
        paint.mapped(paint.fit(x_0, size), 0, 255, "viridis"),
        paint.on_picture(paint.fit(opening.picture, size), labels, reference, thin),
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
    if opening.reference:
        legend.append((paint.REFERENCE, "dotted", words("film.reference")))
    return legend


def legend(recording: Recording, words: Words, *, members: bool) -> list[tuple[str, str, str]]:
    """Say what the lines on the picture mean: (colour, kind of line, words)."""
    lines = _lines(recording.opening, words, members and recording.facts["settings"]["members"] > 1)
    names = recording.facts["labels"]
    if len(names) == 1:
        return lines
    classes = [
        (paint.CLASSES[i % len(paint.CLASSES)], "solid", words.known(f"class.{n}", n)) for i, n in enumerate(names)
    ]
    return [*classes, *lines[1:]]


# -------------------------------------------------------------------------------------------------------------- views


def step_views(recording: Recording, words: Words) -> list[View]:
    """Show the noisy mask, the predicted clean mask, and the mask on the picture."""
    opening, outcome, kept = recording.opening, recording.outcome, recording.frames
    size = tile_size(opening.picture, len(kept) + 2)
    columns = [_triple(opening, kept[0].x_t, anchor, _half(anchor, size), (), size) for anchor in opening.anchor]
    columns += [_triple(opening, f.x_t, f.x_0, cut(f, size), f.members, size) for f in kept]
    fused = paint.fit(outcome.labels, size, smooth=False)
    columns.append(_triple(opening, kept[-1].x_t, outcome.probability, fused, (), size))
    says = [p.say for p in positions(recording, words)]
    return [
        View(title, [column[i] for column in columns], [f"{title}. {say}" for say in says], bar)
        for i, (title, bar) in enumerate(_titles(words))
    ]


def _plane_views(
    recording: Recording, words: Words, kind: str, table: str = "cividis", size: tuple[int, int] = CELLS
) -> list[View]:
    """Show every stage's map of this kind as a view; the scale of a view holds for all its steps."""
    views = []
    says = [p.say for p in positions(recording, words)]
    for stage in dict.fromkeys(p.stage for f in recording.frames for p in f.planes if p.kind == kind):
        values = [plane(frame, kind, stage).astype(np.float32) for frame in recording.frames]
        low, high = (float(q) for q in np.percentile(np.stack(values), (0.5, 99.5)))
        tiles = [paint.fit(paint.mapped(v, low, high, table), size, smooth=False) for v in values]
        title = f"{kind_words(kind, words)} · {stage_words(stage, words)}"
        numbers = [
            words("film.numbers", low=f"{v.min():.3g}", mean=f"{v.mean():.3g}", high=f"{v.max():.3g}") for v in values
        ]
        alts = [f"{title}. {say}. {told}" for say, told in zip(says, spread(recording, numbers), strict=True)]
        colours = paint.VIRIDIS if table == "viridis" else _CIVIDIS
        views.append(View(title, spread(recording, tiles), alts, Bar(colours, f"{low:.3g}", f"{high:.3g}")))
    return views


def plane(frame: Frame, kind: str, stage: str) -> ndarray:
    """Find one map of a frame."""
    return next(p.values for p in frame.planes if (p.kind, p.stage) == (kind, stage))


def kind_words(kind: str, words: Words) -> str:
    """Name a kind of map."""
    return words(f"plane.{kind.replace(' ', '_')}")


def stage_words(stage: str, words: Words) -> str:
    """Say a place in the visitor's language; the network names it in English."""
    for english in ("noise asks semantics", "semantics asks noise", "stage", "block", "level", "channel", "mean"):
        stage = stage.replace(english, words(f"stage.{english.replace(' ', '_')}"))
    return stage


def parser_views(recording: Recording, words: Words) -> list[View]:
    """Show the spectra before and after every FF-Parser."""
    before, after = (_plane_views(recording, words, f"spectrum {when}") for when in ("before", "after"))
    return [view for pair in zip(before, after, strict=True) for view in pair]


def encoding_views(recording: Recording, words: Words) -> list[View]:
    """Show the affinity of image and mask features beside the picture."""
    picture = step_views(recording, words)[2]
    tiles = [paint.fit(tile, _BESIDE) for tile in picture.tiles]
    beside = View(picture.title, tiles, picture.alts)
    return [beside, *_plane_views(recording, words, "affinity", size=_BESIDE)]


def transformer_views(recording: Recording, words: Words) -> list[View]:
    """Show the affinities of token frequencies, and the band-pass surfaces."""
    affinities = _plane_views(recording, words, "token affinity")
    return [*affinities, *_plane_views(recording, words, "band", "viridis")]


def member_views(recording: Recording, words: Words) -> list[View]:
    """Show the members' mean, where they differ, and the first of them one by one."""
    opening, outcome, kept = recording.opening, recording.outcome, recording.frames
    size = tile_size(opening.picture, len(kept) + 2, most=144)
    picture, reference = paint.fit(opening.picture, size), [paint.fit(t, size, smooth=False) for t in opening.reference]
    says = [p.say for p in positions(recording, words)]

    def scale(title: str, maps: list[ndarray], last: ndarray, table: str, top: float) -> View:
        tiles = [paint.mapped(paint.fit(m, size), 0, 255, table) for m in maps]
        numbers = [f"{m.mean() / 255 * top:.3f}" for m in maps]
        told = spread(recording, numbers, last=f"{last.mean() / 255 * top:.3f}")
        alts = [f"{title}. {say}. {words('film.mean_value', mean=m)}" for say, m in zip(says, told, strict=True)]
        colours = paint.VIRIDIS if table == "viridis" else _CIVIDIS
        final = paint.mapped(paint.fit(last, size), 0, 255, table)
        return View(title, spread(recording, tiles, last=final), alts, Bar(colours, "0", f"{top:g}"))

    views = [
        scale(words("film.mean_probability"), [f.mean for f in kept], outcome.probability, "viridis", 1),
        scale(words("film.disagreement"), [f.spread for f in kept], outcome.disagreement, "cividis", 0.5),
    ]
    for m in range(min(MEMBERS_SHOWN, len(outcome.members))):
        title = words("film.one_member", number=m + 1)
        tiles = [paint.on_picture(picture, paint.fit(f.members[m], size, smooth=False), reference) for f in kept]
        last = paint.on_picture(picture, paint.fit(outcome.members[m], size, smooth=False), reference)
        shares = [f"{100 * f.shares[m]:.1f}" for f in kept]
        told = spread(recording, shares)
        alts = [f"{title}. {say}. {words('film.share', share=s)}" for say, s in zip(says, told, strict=True)]
        views.append(View(title, spread(recording, tiles, last=last), alts))
    return views
