"""Show an ensemble: fusion rules, spread of the members, quality by ensemble size, and calibration."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from app.analysis import ensemble
from app.analysis.comparisons import agreement
from app.analysis.ensemble import Areas, BesideReaders, Calibration
from app.components.gallery import gallery
from app.components.scrubber import Position, View, film
from app.core.frames import Recording, middle, target
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, curves
from app.views.comparison_views import brief
from app.views.films import fit_mask, legend, tile_size
from app.views.tables import table
from medsegdiff.metrics import dice

__all__ = [
    "area_chart",
    "beside_readers_charts",
    "beside_readers_words",
    "calibration_chart",
    "calibration_words",
    "fusion_film",
    "fusion_words",
    "members",
    "reader_film",
    "subset_chart",
    "uncertainty",
]

_MAP_WORDS = ("heat", "none", "most", "threshold", "covers", "help")
_BESIDE = 12  # tiles of readers, and of members, beside each other


def uncertainty(recording: Recording, words: Words) -> dict[str, Any]:
    """Build the value of the uncertainty component: the image, and the maps of probability and disagreement."""
    opening, outcome = recording.opening, recording.outcome
    size = tile_size(opening.picture, 1, most=512)
    spread = outcome.disagreement
    alt = words("ensemble.map_alt", mean=f"{spread.mean() / 510:.3f}", largest=f"{spread.max() / 510:.2f}")
    return {
        "size": [size[1], size[0]],
        "picture": paint.data_uri(opening.picture),
        "probability": paint.png_uri(outcome.probability),
        "disagreement": paint.png_uri(spread),
        "alt": alt,
        "words": {key: words.sentences[f"ensemble.map_{key}"] for key in _MAP_WORDS},
    }


def fusion_film(recording: Recording, words: Words) -> dict[str, Any]:
    """Make a film of the members fused by every rule."""
    opening, field = recording.seen.opening, recording.opening.field
    size = tile_size(opening.picture, 1)
    picture, reference = paint.fit(opening.picture, size), [fit_mask(t, size) for t in opening.reference]
    views = []
    for rule, labels in ensemble.fusions(recording).items():
        title, share = words(f"settings.fuse.{rule}"), f"{100 * float((labels > 0).mean()):.2f}"
        tile = paint.on_picture(picture, fit_mask(middle(labels, field), size), reference)
        views.append(View(title, [tile], [f"{title}. {words('film.share', share=share)}"]))
    return film(views, [Position("", "")], words, legend=legend(recording, words, members=False), lead=False)


def fusion_words(recording: Recording, words: Words) -> str:
    """Make a table that compares the fusion rules, as HTML."""
    fused, names = ensemble.fusions(recording), recording.facts["labels"]
    shown, classes = [words.known(f"class.{n}", n) for n in names], len(names)
    reference = target(recording.opening.reference)
    heads = ["", words("ensemble.area"), words("ensemble.with_staple"), *([words("result.dice")] if reference else [])]
    rows = [
        [
            words(f"settings.fuse.{rule}"),
            f"{100 * float((labels > 0).mean()):.2f} %",
            brief(shown, agreement(labels, fused["staple"], classes), words),
            *(brief(shown, dice(labels, known, classes), words) for known in reference),
        ]
        for rule, labels in fused.items()
    ]
    return table(heads, rows)


def area_chart(found: Areas, words: Words) -> Figure:
    """Draw the area of each member, their mean and its confidence interval."""
    count = len(found.shares)
    ends = [0.5, count + 0.5]
    lines = [
        Curve(words("ensemble.members"), list(range(1, count + 1)), [100 * s for s in found.shares], mode="markers"),
        Curve(words("ensemble.mean"), ends, [100 * found.mean] * 2, mode="lines"),
        *(
            Curve(words("ensemble.interval"), ends, [100 * edge] * 2, mode="dots", width=1.5)
            for edge in (found.low, found.high)
        ),
    ]
    return curves(lines, [words("ensemble.area_title")], words("ensemble.member"), [words("chart.percent")])


def reader_film(recording: Recording, words: Words) -> dict[str, Any]:
    """Show the masks of the readers and of the first members, enlarged around what they marked."""
    opening = recording.opening
    members = recording.outcome.members[:_BESIDE]
    part = _around(np.asarray(np.stack([*opening.readers, *members]).any(0)))
    size = tile_size(opening.picture[part], _BESIDE, most=144)
    picture = paint.fit(opening.picture[part], size)
    views = []
    for key, masks in (("film.one_reader", opening.readers), ("film.one_member", members)):
        for i, mask in enumerate(masks):
            title, share = words(key, number=i + 1), f"{100 * float((mask > 0).mean()):.2f}"
            shown = fit_mask(mask[part], size)
            reader = key == "film.one_reader"
            empty = np.zeros_like(shown)
            tile = paint.on_picture(picture, empty if reader else shown, (shown,) if reader else ())
            views.append(View(title, [tile], [f"{title}. {words('film.share', share=share)}"]))
    lines = [
        (paint.REFERENCE, "dotted", words("film.readers")),
        (paint.CLASSES[0], "solid", words("ensemble.members_line")),
    ]
    return film(views, [Position("", "")], words, legend=lines, lead=False)


def _around(marked: Bool[ndarray, "h w"]) -> tuple[slice, slice]:
    """Return a square part of the image around what was marked, with a margin; the whole image if nothing was."""
    if not marked.any():
        return slice(None), slice(None)
    edges = [np.flatnonzero(marked.any(axis))[[0, -1]] for axis in (1, 0)]
    side = min(max(2 * max(int(last - first) for first, last in edges), min(marked.shape) // 4), *marked.shape)
    starts = [
        int(np.clip((first + last - side) // 2, 0, whole - side))
        for (first, last), whole in zip(edges, marked.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def beside_readers_words(found: BesideReaders, words: Words) -> str:
    """Describe how the ensemble and a single mask compare with the readers, as HTML."""

    def extent(shares: Sequence[float]) -> dict[str, str]:
        return {"low": f"{100 * min(shares):.2f}", "high": f"{100 * max(shares):.2f}"}

    sentences = [words("ensemble.unet", area=f"{100 * share:.2f}") for share in found.anchor]
    sentences.append(words("ensemble.readers_extent", **extent(found.readers)))
    sentences.append(words("ensemble.members_extent", **extent(found.members)))
    empty = [sum(share == 0 for share in shares) for shares in (found.readers, found.members)]
    if any(empty):
        counts = {"readers": empty[0], "all_readers": len(found.readers)}
        sentences.append(words("ensemble.nothing", members=empty[1], all_members=len(found.members), **counts))
    sentences.append(words("ensemble.distance", distance=f"{found.distance:.2f}"))
    sentences += [words("ensemble.anchor_distance", distance=f"{each:.2f}") for each in found.anchor_distance]
    return f"<p>{html.escape(' '.join(sentences))}</p>"


def beside_readers_charts(found: BesideReaders, words: Words) -> tuple[Figure, Figure]:
    """Draw the sorted areas of members and readers, and the readers' share against the members' share of each pixel."""

    def ranks(shares: Sequence[float]) -> tuple[list[float], list[float]]:
        return [(i + 0.5) / len(shares) for i in range(len(shares))], [100 * share for share in sorted(shares)]

    lines = [
        Curve(words("ensemble.members_line"), *ranks(found.members)),
        Curve(words("film.readers"), *ranks(found.readers), mode="markers"),
        *(Curve(words("ensemble.unet_line"), [0, 1], [100 * a] * 2, mode="dots", width=1.5) for a in found.anchor),
    ]
    areas = curves(lines, [words("ensemble.areas_title")], words("ensemble.rank"), [words("chart.percent")])
    said, marked = [x for x, _ in found.shares], [y for _, y in found.shares]
    lines = [
        Curve(words("ensemble.equal"), [0, 1], [0, 1], mode="dots", width=1.5),
        Curve(words("ensemble.this_image"), said, marked),
    ]
    title = words("ensemble.shares_title")
    return areas, curves(lines, [title], words("ensemble.members_share"), [words("ensemble.readers_share")])


def subset_chart(recording: Recording, words: Words) -> Figure:
    """Draw the Dice of subsets of the members against their size: mean, worst and best."""
    rows, opening = ensemble.subset_scores(recording), recording.opening
    sizes = [row.members for row in rows]
    lines = [
        Curve(words("ensemble.size_mean"), sizes, [row.dice for row in rows]),
        Curve(words("ensemble.size_worst"), sizes, [row.low for row in rows], mode="dots", width=1.5),
        Curve(words("ensemble.size_best"), sizes, [row.high for row in rows], mode="dots", width=1.5),
    ]
    key = "size_readers" if opening.readers else "size_reference" if opening.reference else "size_all"
    title = words(f"ensemble.{key}")
    return curves(lines, [title], words("ensemble.size"), ["Dice"])


def calibration_chart(known: Calibration, words: Words) -> Figure:
    """Draw the reliability diagram: observed frequency against predicted probability, with the diagonal as reference."""
    lines = [Curve(words("ensemble.ideal"), [0, 1], [0, 1], mode="dots", width=1.5)]
    for i, (name, bins) in enumerate(known.classes.items()):
        confidence, frequency = [b[0] for b in bins], [b[1] for b in bins]
        color = paint.CLASSES[i % len(paint.CLASSES)] if len(known.classes) > 1 else ""
        mode = "" if len(confidence) < 16 else "lines"
        lines.append(Curve(words.known(f"class.{name}", name), confidence, frequency, mode=mode, color=color))
    return curves(lines, [words("ensemble.reliability")], words("ensemble.confidence"), [words("ensemble.frequency")])


def calibration_words(known: Calibration | None, words: Words) -> str:
    """Describe how the calibration was measured, as HTML."""
    if known is None:
        return f"<p>{html.escape(words('ensemble.not_measured'))}</p>"
    settings = known.settings
    text = words(
        "ensemble.measured",
        pictures=known.pictures,
        members=settings["members"],
        steps=settings["steps"],
        ece=f"{known.ece:.3f}",
    )
    return f"<p>{html.escape(text)}</p>"


def members(recording: Recording, words: Words, chosen: int | None) -> dict[str, Any]:
    """Build the gallery of the members' masks, with `chosen` selected."""
    opening, outcome = recording.opening, recording.outcome
    seen = recording.seen
    size = tile_size(opening.picture, 40, most=144)
    picture = paint.fit(seen.opening.picture, size)
    reference = [fit_mask(t, size) for t in seen.opening.reference]
    names = [words.known(f"class.{n}", n) for n in recording.facts["labels"]]
    tiles, captions, alts = [], [], []
    for i, (labels, shown) in enumerate(zip(outcome.members, seen.outcome.members, strict=True)):
        tiles.append(paint.on_picture(picture, fit_mask(shown, size), reference))
        parts = [words("film.one_member", number=i + 1), f"{100 * float(np.mean(labels > 0)):.1f} %"]
        for known in target(opening.reference):
            parts.append(f"Dice {brief(names, dice(labels, known, len(names)), words)}")
        captions.append(" · ".join(parts))
        alts.append(", ".join(parts))
    return gallery(tiles, captions, alts, chosen, words("ensemble.pick"))
