"""Show the results of `app.analysis.comparisons` as films, images, tables and charts, with text alternatives."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.analysis.comparisons import ANCHOR, PLAIN, Pair, Setup, Side, StepsResult, agreement
from app.components.scrubber import Bar, Position, View, film
from app.core.frames import Recording
from app.i18n import Words
from app.inputs.images import InputImage
from app.views import paint
from app.views.charts import Curve, Figure, curves
from app.views.films import consensus_tile, legend, per_position, share, tile_size
from app.views.tables import table
from medsegdiff.metrics import mean

__all__ = [
    "brief",
    "masks",
    "overlay",
    "pair_film",
    "pair_words",
    "per_class",
    "setup_words",
    "side_words",
    "sweep_charts",
    "sweep_table",
]

_ALIKE = 0.99  # Dice above which two masks count as the same
_FEW = 4  # most classes listed one by one in a table cell
_LEAST = 0.05  # lower bound of the colour scale for changes of probability


def pair_film(pair: Pair, words: Words) -> dict[str, Any]:
    """Make a film of both masks and of the change in probability at every step."""
    one, other = pair.before.seen, pair.after.seen
    frames = list(zip(one.frames, other.frames, strict=True))
    opening, size = one.opening, tile_size(one.opening.picture, len(frames) + 2)
    picture = paint.fit(opening.picture, size)
    reference = [paint.fit(t, size, smooth=False) for t in opening.reference]

    def masks(recording: Recording) -> list[paint.RGB]:
        tiles = [paint.on_picture(picture, consensus_tile(f, size), reference) for f in recording.frames]
        last = paint.on_picture(picture, paint.fit(recording.outcome.labels, size, smooth=False), reference)
        return per_position(recording, tiles, last=last)

    changes = [f.mean.astype(np.int16) - e.mean for e, f in frames]
    last = other.outcome.probability.astype(np.int16) - one.outcome.probability
    top = max(_LEAST, *(float(np.abs(c).max()) / 255 for c in (*changes, last)))
    shown = [_difference(c, top, size) for c in (*changes, last)]
    nothing = _difference(np.zeros_like(last), top, size)
    tiles = per_position(one, shown[:-1], first=nothing, last=shown[-1])

    places = _places(pair, words)
    titles = [words("pair.before"), words(f"change.{pair.key}.title"), words("pair.difference")]
    bars = (None, None, Bar(paint.DIVERGING, f"−{top:.2g}", f"+{top:.2g}"))
    rows = (masks(one), masks(other), tiles)
    views = [
        View(title, row, [f"{title}. {place.spoken}" for place in places], bar)
        for title, row, bar in zip(titles, rows, bars, strict=True)
    ]
    run = f"pair-{id(pair)}"
    return film(views, places, words, run=run, legend=legend(one, words, members=False), lead=False)


def _difference(change: Any, top: float, size: tuple[int, int]) -> paint.RGB:
    return paint.fit(paint.mapped(change / 255, -top, top, "diverging"), size)


def _places(pair: Pair, words: Words) -> list[Position]:
    one, other = pair.before, pair.after
    places = [words("pair.opening")] * len(one.opening.anchor)
    for e, f in zip(one.frames, other.frames, strict=True):
        shares = {"before": f"{share(e):.1f}", "after": f"{share(f):.1f}"}
        places.append(words("pair.step", step=e.index + 1, total=e.total, t=e.t, **shares))
    before, after = (f"{100 * float((r.outcome.labels > 0).mean()):.1f}" for r in (one, other))
    places.append(words("pair.result", before=before, after=after))
    return [Position(place, place) for place in places]


def pair_words(pair: Pair, words: Words) -> str:
    """Summarise the effect of the change, as HTML."""
    names = [words.known(f"class.{n}", n) for n in pair.before.facts["labels"]]
    alike = per_class(names, pair.dice)
    sentences = [words("pair.dice", dice=alike, changed=f"{100 * pair.changed:.2f}", largest=f"{pair.largest:.2f}")]
    before, after = (r.facts["dice"] for r in (pair.before, pair.after))
    if before and after:
        sentences.append(words("pair.reference", before=per_class(names, before[0]), after=per_class(names, after[0])))
    least = min((v for v in pair.dice if not math.isnan(v)), default=1.0)
    verdict = "none" if pair.changed == 0 else "small" if least > _ALIKE else "large"
    sentences.append(words(f"pair.verdict_{verdict}"))
    return f"<p>{html.escape(' '.join(sentences))}</p>"


def per_class(names: Sequence[str], values: Sequence[float]) -> str:
    """Format one number per class, with class names if there are several."""
    shown = ["–" if math.isnan(v) else f"{v:.3f}" for v in values]
    return shown[0] if len(shown) == 1 else ", ".join(f"{n} {v}" for n, v in zip(names, shown, strict=False))


def brief(names: Sequence[str], values: Sequence[float], words: Words) -> str:
    """Format one number per class for a table cell; for many classes, the mean and the lowest."""
    known = [(v, n) for v, n in zip(values, names, strict=True) if not math.isnan(v)]
    if len(names) <= _FEW or not known:
        return per_class(names, values)
    least, name = min(known)
    return words("pair.brief", mean=f"{mean(values):.3f}", name=name, least=f"{least:.3f}")


# ------------------------------------------------------------------------------------------------- several setups


def setup_words(setup: Setup, words: Words) -> str:
    """Format the name of a setup."""
    if setup.sampler in (ANCHOR, PLAIN):
        return words(
            "compare.plain_setup" if setup.sampler == PLAIN else "compare.anchor_setup", checkpoint=setup.checkpoint
        )
    sampler = words(f"settings.sampler.{setup.sampler}")
    return words("compare.setup", checkpoint=setup.checkpoint, sampler=sampler, steps=setup.steps)


def overlay(side: Side, image: InputImage) -> paint.RGB:
    """Draw the mask of one result on the image, at display size."""
    opening = image.opening
    size = opening.picture.shape[:2]
    return paint.on_picture(opening.picture, paint.fit(side.labels, size, smooth=False), opening.reference)


def masks(sides: Sequence[Side], image: InputImage, words: Words) -> str:
    """Arrange the masks of several results in a grid with their setups as captions, as HTML."""
    figures = []
    for side in sides:
        setup, share = setup_words(side.setup, words), 100 * float((side.labels > 0).mean())
        alt = html.escape(words("compare.mask_alt", setup=setup, share=f"{share:.1f}"))
        img = f'<img src="{paint.data_uri(overlay(side, image))}" alt="{alt}" style="width: 100%; margin: 0">'
        figures.append(f'<figure style="margin: 0">{img}<figcaption>{html.escape(setup)}</figcaption></figure>')
    grid = "display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(220px, 100%), 320px))"
    return f'<div style="{grid}">{"".join(figures)}</div>'


def side_words(sides: Sequence[Side], words: Words) -> str:
    """Make a table of the results and, for two, state their agreement, as HTML."""
    names = list(sides[0].areas)
    shown = [words.known(f"class.{name}", name) for name in names]
    known = all(side.dice for side in sides)

    def cell(side: Side, label: int) -> str:
        area = f"{100 * side.areas[names[label]]['share']:.1f} %"
        return f"{area}, Dice {per_class([''], [side.dice[label]])}" if known and len(names) > 1 else area

    heads = ["", *(setup_words(side.setup, words) for side in sides)]
    rows = [
        [words("compare.area", label=name), *(cell(side, label) for side in sides)] for label, name in enumerate(shown)
    ]
    if known:
        rows.append([words("compare.dice"), *(per_class([""], [mean(side.dice)]) for side in sides)])
    rows.append([words("compare.seconds"), *(f"{side.seconds:.2f} s" for side in sides)])
    millions = [f"{side.parameters / 1e6:.1f}" for side in sides]
    rows.append([words("compare.parameters"), *(words("compare.millions", count=m) for m in millions)])
    if len(sides) != 2:
        return table(heads, rows)
    alike = agreement(sides[0].labels, sides[1].labels, len(names))
    return f"{table(heads, rows)}<p>{html.escape(words('compare.alike', dice=per_class(shown, alike)))}</p>"


def sweep_table(results: Sequence[StepsResult], words: Words) -> str:
    """Make a table of the sweep over step counts, fewest steps first, as HTML."""
    heads = [words("sweep.steps"), words("sweep.seconds"), words("sweep.agreement")]
    known = any(not math.isnan(r.dice) for r in results)
    rows = [
        [
            str(r.steps),
            f"{r.seconds:.2f} s",
            per_class([""], [r.agreement]),
            *([per_class([""], [r.dice])] if known else []),
        ]
        for r in sorted(results, key=lambda r: r.steps)
    ]
    return table([*heads, *([words("compare.dice")] if known else [])], rows)


def sweep_charts(results: Sequence[StepsResult], words: Words) -> list[Figure]:
    """Draw time and agreement against the number of steps."""
    ordered = sorted(results, key=lambda r: r.steps)
    steps, axis = [r.steps for r in ordered], words("sweep.steps")
    seconds = [Curve(words("sweep.seconds"), steps, [r.seconds for r in ordered])]
    alike = [Curve(words("sweep.agreement"), steps, [r.agreement for r in ordered])]
    if any(not math.isnan(r.dice) for r in ordered):
        alike.append(Curve(words("compare.dice"), steps, [r.dice for r in ordered]))
    return [
        curves(seconds, [words("sweep.seconds")], axis, [words("sweep.seconds")]),
        curves(alike, [words("sweep.quality")], axis, ["Dice"], least=[0.8]),
    ]
