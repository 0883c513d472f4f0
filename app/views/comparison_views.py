"""Two runs side by side, as films, pictures, charts and sentences: what `experiments` found, for the eye and the ear."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.analysis.comparisons import ANCHOR, PLAIN, Pair, Rung, Setup, Side, agreement
from app.components.scrubber import Bar, Position, View, film
from app.core.frames import Recording
from app.i18n import Words
from app.inputs.images import InputImage
from app.views import paint
from app.views.charts import Curve, Figure, curves
from app.views.films import cut, legend, share, spread, tile_size
from medsegdiff.metrics import mean

__all__ = [
    "brief",
    "each",
    "layers",
    "masks",
    "pair_film",
    "pair_words",
    "rung_charts",
    "rung_words",
    "setup_words",
    "side_words",
    "table",
]

_ALIKE = 0.99  # Dice from which two masks look the same
_FEW = 4  # classes that a cell has room for, one by one
_LEAST = 0.05  # a smaller change of probability than this is not blown up to a strong colour


def pair_film(pair: Pair, words: Words) -> dict[str, Any]:
    """Show both masks and where the probability changed, at every step."""
    one, other = pair.before, pair.after
    frames = list(zip(one.frames, other.frames, strict=True))
    opening, size = one.opening, tile_size(one.opening.picture, len(frames) + 2)
    picture = paint.fit(opening.picture, size)
    reference = [paint.fit(t, size, smooth=False) for t in opening.reference]

    def masks(recording: Recording) -> list[paint.RGB]:
        tiles = [paint.on_picture(picture, cut(f, size), reference) for f in recording.frames]
        last = paint.on_picture(picture, paint.fit(recording.outcome.labels, size, smooth=False), reference)
        return spread(recording, tiles, last=last)

    changes = [f.mean.astype(np.int16) - e.mean for e, f in frames]
    last = other.outcome.probability.astype(np.int16) - one.outcome.probability
    top = max(_LEAST, *(float(np.abs(c).max()) / 255 for c in (*changes, last)))
    shown = [_difference(c, top, size) for c in (*changes, last)]
    nothing = _difference(np.zeros_like(last), top, size)
    tiles = spread(one, shown[:-1], first=nothing, last=shown[-1])

    places = _places(pair, words)
    titles = [words("pair.before"), words(f"change.{pair.key}.title"), words("pair.difference")]
    bars = (None, None, Bar(paint.DIVERGING, f"−{top:.2g}", f"+{top:.2g}"))
    rows = (masks(one), masks(other), tiles)
    views = [
        View(title, row, [f"{title}. {place.say}" for place in places], bar)
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
    """Say what the change did, as HTML."""
    names = [words.known(f"class.{n}", n) for n in pair.before.facts["labels"]]
    alike = each(names, pair.dice)
    said = [words("pair.dice", dice=alike, changed=f"{100 * pair.changed:.2f}", largest=f"{pair.largest:.2f}")]
    before, after = (r.facts["dice"] for r in (pair.before, pair.after))
    if before and after:
        said.append(words("pair.reference", before=each(names, before[0]), after=each(names, after[0])))
    least = min((v for v in pair.dice if not math.isnan(v)), default=1.0)
    verdict = "none" if pair.changed == 0 else "small" if least > _ALIKE else "large"
    said.append(words(f"pair.verdict_{verdict}"))
    return f"<p>{html.escape(' '.join(said))}</p>"


def each(names: Sequence[str], values: Sequence[float]) -> str:
    """Say one number for every class, named where there are several."""
    told = ["–" if math.isnan(v) else f"{v:.3f}" for v in values]
    return told[0] if len(told) == 1 else ", ".join(f"{n} {v}" for n, v in zip(names, told, strict=False))


def brief(names: Sequence[str], values: Sequence[float], words: Words) -> str:
    """Say the same in one cell: of many classes the mean, and which is lowest."""
    known = [(v, n) for v, n in zip(values, names, strict=True) if not math.isnan(v)]
    if len(names) <= _FEW or not known:
        return each(names, values)
    least, name = min(known)
    return words("pair.brief", mean=f"{mean(values):.3f}", name=name, least=f"{least:.3f}")


# ---------------------------------------------------------------------------------------------- setups side by side


def setup_words(setup: Setup, words: Words) -> str:
    """Name a setup."""
    if setup.sampler in (ANCHOR, PLAIN):
        return words(
            "compare.plain_setup" if setup.sampler == PLAIN else "compare.anchor_setup", checkpoint=setup.checkpoint
        )
    sampler = words(f"settings.sampler.{setup.sampler}")
    return words("compare.setup", checkpoint=setup.checkpoint, sampler=sampler, steps=setup.steps)


def layers(side: Side, image: InputImage) -> paint.RGB:
    """Draw a side's mask on the picture, at screen size."""
    opening = image.opening
    size = opening.picture.shape[:2]
    return paint.on_picture(opening.picture, paint.fit(side.labels, size, smooth=False), opening.reference)


def masks(sides: Sequence[Side], image: InputImage, words: Words) -> str:
    """Lay every side's mask out as a picture with its setup below, as HTML."""
    figures = []
    for side in sides:
        setup, share = setup_words(side.setup, words), 100 * float((side.labels > 0).mean())
        alt = html.escape(words("compare.mask_alt", setup=setup, share=f"{share:.1f}"))
        overlay = f'<img src="{paint.data_uri(layers(side, image))}" alt="{alt}" style="width: 100%; margin: 0">'
        figures.append(f'<figure style="margin: 0">{overlay}<figcaption>{html.escape(setup)}</figcaption></figure>')
    grid = "display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(220px, 100%), 320px))"
    return f'<div style="{grid}">{"".join(figures)}</div>'


def side_words(sides: Sequence[Side], words: Words) -> str:
    """Lay sides out as a table, and say how alike two are, as HTML."""
    names = list(sides[0].areas)
    shown = [words.known(f"class.{name}", name) for name in names]
    known = all(side.dice for side in sides)

    def cell(side: Side, label: int) -> str:
        area = f"{100 * side.areas[names[label]]['share']:.1f} %"
        return f"{area}, Dice {each([''], [side.dice[label]])}" if known and len(names) > 1 else area

    heads = ["", *(setup_words(side.setup, words) for side in sides)]
    rows = [
        [words("compare.area", label=name), *(cell(side, label) for side in sides)] for label, name in enumerate(shown)
    ]
    if known:
        rows.append([words("compare.dice"), *(each([""], [mean(side.dice)]) for side in sides)])
    rows.append([words("compare.seconds"), *(f"{side.seconds:.2f} s" for side in sides)])
    millions = [f"{side.parameters / 1e6:.1f}" for side in sides]
    rows.append([words("compare.parameters"), *(words("compare.millions", count=m) for m in millions)])
    if len(sides) != 2:
        return table(heads, rows)
    alike = agreement(sides[0].labels, sides[1].labels, len(names))
    return f"{table(heads, rows)}<p>{html.escape(words('compare.alike', dice=each(shown, alike)))}</p>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay words out as a table, the first of each row its name, as HTML."""
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' if h else "<td></td>" for h in heads)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(c)}</td>" for c in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def rung_words(rungs: Sequence[Rung], words: Words) -> str:
    """Lay the numbers of steps out as a table, the fewest first, as HTML."""
    heads = [words("sweep.steps"), words("sweep.seconds"), words("sweep.agreement")]
    known = any(not math.isnan(r.dice) for r in rungs)
    rows = [
        [str(r.steps), f"{r.seconds:.2f} s", each([""], [r.agreement]), *([each([""], [r.dice])] if known else [])]
        for r in sorted(rungs, key=lambda r: r.steps)
    ]
    return table([*heads, *([words("compare.dice")] if known else [])], rows)


def rung_charts(rungs: Sequence[Rung], words: Words) -> list[Figure]:
    """Draw seconds, and agreement, over the number of steps."""
    ladder = sorted(rungs, key=lambda r: r.steps)
    steps, axis = [r.steps for r in ladder], words("sweep.steps")
    seconds = [Curve(words("sweep.seconds"), steps, [r.seconds for r in ladder])]
    alike = [Curve(words("sweep.agreement"), steps, [r.agreement for r in ladder])]
    if any(not math.isnan(r.dice) for r in ladder):
        alike.append(Curve(words("compare.dice"), steps, [r.dice for r in ladder]))
    return [
        curves(seconds, [words("sweep.seconds")], axis, [words("sweep.seconds")]),
        curves(alike, [words("sweep.quality")], axis, ["Dice"], least=[0.8]),
    ]
