"""Build the films of a run: the tiles of each panel at every position of the timeline, with text alternatives.

The timeline starts with the anchor prediction (V2), continues with the steps, and ends with the fused result. A view
without a tile of its own at either end repeats the neighbouring one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core.frames import SIDE, Frame, Opening, Plane, Recording, vote
from app.i18n import Words
from app.views import paint

__all__ = [
    "CELLS",
    "MEMBERS_SHOWN",
    "anchor_views",
    "consensus",
    "consensus_tile",
    "encoding_views",
    "fit_mask",
    "kind_words",
    "legend",
    "live",
    "member_views",
    "parser_views",
    "per_position",
    "plane",
    "plane_views",
    "positions",
    "run_views",
    "share",
    "stage_words",
    "states",
    "step_views",
    "still",
    "strip",
    "tile_size",
    "transformer_views",
]

_VIRIDIS = Bar(paint.VIRIDIS, "0", "1")
_COLOURS = {"viridis": paint.VIRIDIS, "cividis": paint.CIVIDIS, "diverging": paint.DIVERGING}
CELLS = (64, 64)  # tile of a feature map; the browser enlarges its cells
_AFFINITY = (128, 128)  # tile of an affinity map and of the image beside it
MEMBERS_SHOWN = 6
_NOISY = 62, 186  # bytes of x_t between -1 and 1 root mean square, which the colours span
_SHARES: WeakKeyDictionary[Frame, float] = WeakKeyDictionary()
_LIVE = 192  # longest side of a tile during a run, in pixels


def still(opening: Opening, words: Words, status: str) -> dict[str, Any]:
    """Show an image that has not been run yet, without its reference mask, so that visitors can guess first."""
    view = _picture(opening, words, tile_size(opening.picture, 1))
    return film([view], [Position(status, status)], words)


def live(opening: Opening, frame: Frame | None, words: Words, status: str, progress: float) -> dict[str, Any]:
    """Show the current state of a run in progress: the opening, or a step."""
    size, seen = tile_size(opening.picture, 1, most=_LIVE), opening.seen
    if frame is None:
        empty = np.full((8, 8), 128, np.uint8)
        prediction = seen.anchor[0] if opening.anchor else np.zeros((8, 8), np.uint8)
        views = _triple(seen, empty, prediction, _threshold(prediction, size), (), size)
    else:
        frame = frame.seen(opening.field)
        views = _triple(seen, frame.x_t, frame.x_0, consensus_tile(frame, size), frame.members, size)
    keys = ("x_t_member", "x_0_member") if frame else ("start", "anchor" if opening.anchor else "x_0_member")
    titles = zip((*(words(f"film.{key}") for key in keys), words("film.on_picture")), _bars(words), strict=True)
    named = [View(title, [tile], [f"{title}. {status}"], bar) for (title, bar), tile in zip(titles, views, strict=True)]
    return film(
        [_picture(opening, words, size), *named],
        [Position(status, status)],
        words,
        status=status,
        progress=progress,
        legend=_lines(opening, words, True),
        overlay=True,
    )


def strip(recording: Recording, side: int = 112) -> list[paint.RGB]:
    """Summarise a run in four square tiles: the image, the noise of a member, all members' masks, and the result.

    In the result, the places where the members disagree are bright.
    """
    recording, size = recording.seen, (side, side)
    outcome, picture = recording.outcome, paint.fit(recording.opening.picture, size)
    members = [fit_mask(mask, size) for mask in outcome.members]
    noise = paint.mapped(paint.fit(recording.frames[0].x_t, size, smooth=False), *_NOISY, "diverging")
    return [
        picture,
        noise,
        paint.on_picture(picture, np.zeros(size, np.uint8), (), members),
        paint.disagreement_on(picture, paint.fit(outcome.disagreement, size), fit_mask(outcome.labels, size)),
    ]


def positions(recording: Recording, words: Words) -> list[Position]:
    """List the positions of the timeline: the anchor prediction if there is one, the steps, the result."""
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


def per_position(recording: Recording, tiles: Sequence[Any], first: Any = None, last: Any = None) -> list[Any]:
    """Extend the values of the steps to all positions; without `first` and `last`, those of the first and last step repeat."""
    before = [tiles[0] if first is None else first] * len(recording.opening.anchor)
    return [*before, *tiles, tiles[-1] if last is None else last]


def tile_size(picture: paint.RGB, count: int, most: int = SIDE) -> tuple[int, int]:
    """Choose the (height, width) of a tile: the aspect ratio of the image, smaller if there are many tiles."""
    height, width = picture.shape[:2]
    side = min(most, SIDE if count <= 26 else 192)
    scale = side / max(height, width)
    return max(8, round(height * scale)), max(8, round(width * scale))


def consensus(frame: Frame) -> UInt8[ndarray, "s s"]:
    """Combine the members at a step to labels: by their mean probability for one class, by majority vote for several."""
    if frame.members.max(initial=0) <= 1:
        return (frame.mean > 127).astype(np.uint8)
    return vote(frame.members)


def share(frame: Frame) -> float:
    """Compute the foreground share of the consensus, in percent of the image; every film of a run states it."""
    if frame not in _SHARES:
        _SHARES[frame] = 100 * float((consensus(frame) > 0).mean())
    return _SHARES[frame]


def consensus_tile(frame: Frame, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """Resize the consensus to a tile; probabilities are resized before thresholding, which gives a smooth contour."""
    if frame.members.max(initial=0) <= 1:
        return _threshold(frame.mean, size)
    return paint.fit(consensus(frame), size, smooth=False)


def fit_mask(labels: UInt8[ndarray, "s s2"], size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    """Resize a mask to a tile; one of a single class that is enlarged gets a smooth contour instead of stairs."""
    if labels.max(initial=0) > 1 or labels.shape[0] >= size[0]:
        return paint.fit(labels, size, smooth=False)
    return _threshold(255 * labels, size)


def _threshold(probability: UInt8[ndarray, "s s"], size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
    return (paint.fit(probability, size) > 127).astype(np.uint8)


def _triple(
    opening: Opening,
    x_t: UInt8[ndarray, "s s"],
    x_0: UInt8[ndarray, "s s"],
    labels: UInt8[ndarray, "h w"],
    members: Sequence[UInt8[ndarray, "s s"]] | UInt8[ndarray, "m s s"],
    size: tuple[int, int],
) -> list[paint.RGB]:
    thin = [fit_mask(m, size) for m in members] if len(members) > 1 else []
    reference = [fit_mask(t, size) for t in opening.reference]
    return [*_pair(x_t, x_0, size), paint.on_picture(paint.fit(opening.picture, size), labels, reference, thin)]


def _pair(x_t: UInt8[ndarray, "s s"], x_0: UInt8[ndarray, "s s"], size: tuple[int, int]) -> list[paint.RGB]:
    return [
        paint.mapped(paint.fit(x_t, size, smooth=False), *_NOISY, "diverging"),
        paint.mapped(paint.fit(x_0, size), 0, 255, "viridis"),
    ]


def _bars(words: Words) -> tuple[Bar | None, ...]:
    return Bar(paint.DIVERGING, words("film.background"), words("film.foreground")), _VIRIDIS, None


def _picture(opening: Opening, words: Words, size: tuple[int, int]) -> View:
    picture, title = opening.seen.picture, words("film.picture" if opening.field == 1 else "film.picture_middle")
    alt = words("film.picture_alt", height=picture.shape[0], width=picture.shape[1])
    return View(title, [paint.fit(picture, size)], [alt])


def _lines(opening: Opening, words: Words, members: bool) -> list[tuple[str, str, str]]:
    legend = [(paint.CLASSES[0], "solid", words("film.model"))]
    if members:
        legend.append((paint.MEMBER, "thin", words("film.member")))
    return legend + _reference_lines(opening, words)


def _reference_lines(opening: Opening, words: Words) -> list[tuple[str, str, str]]:
    if not opening.readers:
        return [(paint.REFERENCE, "dotted", words("film.reference"))] * len(opening.reference)
    keys = ["film.reader" if mask.any() else "film.reader_empty" for mask in opening.readers]
    return [(paint.READERS[i % len(paint.READERS)], "dotted", words(key, number=i + 1)) for i, key in enumerate(keys)]


def legend(recording: Recording, words: Words, *, members: bool) -> list[tuple[str, str, str]]:
    """Describe the lines drawn on the image: (colour, kind of line, text)."""
    lines = _lines(recording.opening, words, members and recording.facts["settings"]["members"] > 1)
    names = recording.facts["labels"]
    if len(names) == 1:
        return lines
    classes = [
        (paint.CLASSES[i % len(paint.CLASSES)], "solid", words.known(f"class.{n}", n)) for i, n in enumerate(names)
    ]
    return [*classes, *lines[1:]]


# -------------------------------------------------------------------------------------------------------------- views


def states(recording: Recording, size: tuple[int, int]) -> list[list[paint.RGB]]:
    """Draw the noisy mask and the predicted clean mask at every position."""
    recording = recording.seen
    kept, outcome = recording.frames, recording.outcome
    columns = [_pair(kept[0].x_t, anchor, size) for anchor in recording.opening.anchor]
    columns += [_pair(f.x_t, f.x_0, size) for f in kept]
    return [*columns, _pair(_end(kept[-1]), outcome.probability, size)]


def _end(last: Frame) -> UInt8[ndarray, "s s"]:
    """Return the state after the last step, which is its x_0, in the colours of noisy masks."""
    return (_NOISY[0] + last.x_0 / 255 * (_NOISY[1] - _NOISY[0])).astype(np.uint8)


def step_views(recording: Recording, words: Words) -> list[View]:
    """Show the noisy mask, the predicted clean mask, and the mask on the image."""
    seen = recording.seen
    opening, outcome, kept = seen.opening, seen.outcome, seen.frames
    size = tile_size(opening.picture, len(kept) + 2)
    columns = [_triple(opening, kept[0].x_t, anchor, _threshold(anchor, size), (), size) for anchor in opening.anchor]
    columns += [_triple(opening, f.x_t, f.x_0, consensus_tile(f, size), f.members, size) for f in kept]
    fused = fit_mask(outcome.labels, size)
    columns.append(_triple(opening, _end(kept[-1]), outcome.probability, fused, kept[-1].members, size))
    texts = [p.spoken for p in positions(recording, words)]
    members = recording.facts["settings"]["members"]
    anchored = recording.facts["settings"]["fuse"] == "anchored"
    kind = "film.mean_of_anchored" if anchored else "film.mean_of" if members > 1 else "film.one_probability"
    mean = words(kind, members=members)
    noisy = per_position(recording, [words("film.x_t_member")] * len(kept), words("film.start"), words("film.end"))
    clean = per_position(recording, [words("film.x_0_member")] * len(kept), words("film.anchor"), mean)
    masks = [words("film.on_picture")] * len(texts)
    return [
        View(
            words(key),
            [column[i] for column in columns],
            [f"{title}. {text}" for title, text in zip(titles, texts, strict=True)],
            bar,
            titles,
        )
        for i, (key, titles, bar) in enumerate(
            zip(
                ("film.x_t_member", "film.x_0_member", "film.on_picture"),
                (noisy, clean, masks),
                _bars(words),
                strict=True,
            )
        )
    ]


def run_views(recording: Recording, words: Words) -> list[View]:
    """Show the image alone, then `step_views`."""
    steps = step_views(recording, words)
    size = tile_size(recording.seen.opening.picture, len(recording.frames) + 2)  # as those of the steps
    image = _picture(recording.opening, words, size)
    return [replace(image, alts=[*image.alts] * len(steps[0].alts)), *steps]


def plane_views(recording: Recording, words: Words, kind: str, size: tuple[int, int] = CELLS) -> list[View]:
    """Show the maps of one kind, one view per stage; a view uses the same colour scale at all steps.

    The scale of affinities is centred at zero, that of token affinities, which are magnitudes, begins there. The NBP-Filter's
    is 0 to 1. All others span nearly the smallest to the largest value.
    """
    views, table = [], {"affinity": "diverging", "band": "viridis"}.get(kind, "cividis")
    texts = [p.spoken for p in positions(recording, words)]
    for stage in dict.fromkeys(p.stage for f in recording.frames for p in f.planes if p.kind == kind):
        values = [plane(frame, kind, stage).astype(np.float32) for frame in recording.frames]
        low, high = (float(q) for q in np.percentile(np.stack(values), (0.5, 99.5)))
        if kind == "band":
            low, high = 0.0, 1.0
        elif kind == "token affinity":
            low = 0.0
        elif table == "diverging":
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        tiles = [paint.fit(paint.mapped(v, low, high, table), size, smooth=False) for v in values]
        title = f"{kind_words(kind, words)} · {stage_words(stage, words)}"
        numbers = [
            words("film.numbers", low=f"{v.min():.3g}", mean=f"{v.mean():.3g}", high=f"{v.max():.3g}") for v in values
        ]
        alts = [f"{title}. {text}. {n}" for text, n in zip(texts, per_position(recording, numbers), strict=True)]
        bar = _bar(table, low, high)
        views.append(View(title, per_position(recording, tiles), alts, bar, key=f"{kind}, {stage}"))
    return views


def _bar(table: str, low: float, high: float) -> Bar:
    """Return the colour bar of a map, with a minus sign before negative ends."""
    return Bar(_COLOURS[table], *(f"{end:.3g}".replace("-", "−") for end in (low, high)))


def _still_view(
    title: str, values: ndarray, words: Words, table: str, ends: tuple[float, float] | None = None, key: str = ""
) -> View:
    """Show one map that is the same at every step."""
    values = values.astype(np.float32)
    low, high = ends or (float(values.min()), float(values.max()))
    tile = paint.fit(paint.mapped(values, low, high, table), CELLS, smooth=False)
    numbers = words("film.numbers", low=f"{values.min():.3g}", mean=f"{values.mean():.3g}", high=f"{values.max():.3g}")
    return View(title, [tile], [f"{title}. {numbers}"], _bar(table, low, high), key=key)


def plane(frame: Frame, kind: str, stage: str) -> ndarray:
    """Return one map of a frame."""
    return next(p.values for p in frame.planes if (p.kind, p.stage) == (kind, stage))


def kind_words(kind: str, words: Words) -> str:
    """Return the label of a kind of map."""
    return words(f"plane.{kind.replace(' ', '_')}")


def stage_words(stage: str, words: Words) -> str:
    """Translate the name of a stage, such as "stage 1, channel 5" or "block 2, query noise"."""
    named = []
    for part in stage.split(", "):
        word, _, number = part.partition(" ")
        named.append(
            f"{words(f'stage.{word}')} {number}" if number.isdecimal() else words(f"stage.{part.replace(' ', '_')}")
        )
    return ", ".join(named)


def parser_views(recording: Recording, words: Words) -> list[View]:
    """Show the spectra before and after each FF-Parser, then its filter, gain and phase."""
    before, after = (plane_views(recording, words, f"spectrum {when}") for when in ("before", "after"))
    views = [view for pair in zip(before, after, strict=True) for view in pair]
    for p in _one_channel_each([p for p in recording.frames[0].planes if p.kind in ("gain", "phase")]):
        title = f"{'|A|' if p.kind == 'gain' else 'arg A'} · {stage_words(p.stage, words)}"
        middle, top = (1, 0.05) if p.kind == "gain" else (0, 0.05)
        top = max(top, float(np.abs(p.values - middle).max()))
        views.append(_still_view(title, p.values, words, "diverging", (middle - top, middle + top)))
    return views


def _one_channel_each(planes: Sequence[Plane]) -> list[Plane]:
    """Select for each stage the mean gain, and gain and phase of the channel farthest from the identity."""
    chosen = []
    for stage in dict.fromkeys(p.stage.partition(",")[0] for p in planes):
        own = [p for p in planes if p.stage.partition(",")[0] == stage]
        chosen += own[:3]
    return chosen


def anchor_views(recording: Recording, words: Words) -> list[View]:
    """Show the anchor, the smoothed anchor, their maximum, and the factor 1 + gate of the diffusion features."""
    views = []
    for p in recording.frames[0].planes:
        if p.kind.startswith("anchor") and p.kind != "anchor sigma":
            title = f"{kind_words(p.kind, words)} · {stage_words(p.stage, words)}"
            gate = p.kind == "anchor gate"
            values = 1 + p.values.astype(np.float32) if gate else p.values
            table, ends = ("viridis", (1.0, 2.0)) if gate else ("cividis", None)
            views.append(_still_view(title, values, words, table, ends, f"{p.kind}, {p.stage}"))
    return views


def encoding_views(recording: Recording, words: Words) -> list[View]:
    """Show the affinity maps of image and mask features beside the image."""
    picture = step_views(recording, words)[2]
    tiles = [paint.fit(tile, _AFFINITY) for tile in picture.tiles]
    image = View(picture.title, tiles, picture.alts)
    return [image, *plane_views(recording, words, "affinity", _AFFINITY)]


def transformer_views(recording: Recording, words: Words) -> list[View]:
    """Show the affinity matrices of token frequencies, and the NBP-Filter surfaces."""
    return [view for kind in ("token affinity", "band") for view in plane_views(recording, words, kind)]


def member_views(recording: Recording, words: Words) -> list[View]:
    """Show the mean and the disagreement of the members, and the first members one by one."""
    seen, field = recording.seen, recording.opening.field
    opening, outcome, kept = seen.opening, seen.outcome, seen.frames
    size = tile_size(opening.picture, len(kept) + 2, most=144)
    picture, reference = paint.fit(opening.picture, size), [fit_mask(t, size) for t in opening.reference]
    texts = [p.spoken for p in positions(recording, words)]

    def scale(title: str, maps: list[ndarray], last: ndarray, table: str, top: float) -> View:
        tiles = [paint.mapped(paint.fit(m, size), 0, 255, table) for m in maps]
        numbers = [f"{field**2 * m.mean() / 255 * top:.3f}" for m in (*maps, last)]  # of the whole image
        means = per_position(recording, numbers[:-1], last=numbers[-1])
        alts = [f"{title}. {text}. {words('film.mean_value', mean=m)}" for text, m in zip(texts, means, strict=True)]
        final = paint.mapped(paint.fit(last, size), 0, 255, table)
        return View(title, per_position(recording, tiles, last=final), alts, Bar(_COLOURS[table], "0", f"{top:g}"))

    views = [
        scale(words("film.mean_probability"), [f.mean for f in kept], outcome.probability, "viridis", 1),
        scale(words("film.disagreement"), [f.spread for f in kept], outcome.disagreement, "cividis", 0.5),
    ]
    for m in range(min(MEMBERS_SHOWN, len(outcome.members))):
        title = words("film.one_member", number=m + 1)
        tiles = [paint.on_picture(picture, fit_mask(f.members[m], size), reference) for f in kept]
        last = paint.on_picture(picture, fit_mask(outcome.members[m], size), reference)
        shares = [f"{100 * f.shares[m]:.1f}" for f in kept]
        shown = per_position(recording, shares)
        alts = [f"{title}. {text}. {words('film.share', share=s)}" for text, s in zip(texts, shown, strict=True)]
        views.append(View(title, per_position(recording, tiles, last=last), alts))
    return views
