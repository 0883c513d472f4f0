"""Reliability diagram as SVG: observed frequency of a class against predicted probability.

Points below the diagonal mean that the model is overconfident. The area of a point grows with the logarithm of the number of
pixels in its bin. Colours are safe for colour-blind readers (Okabe & Ito, 2008).
"""

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape

from medsegdiff.evaluation import Evaluation

__all__ = ["reliability_plot"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SIDE, _LEFT, _TOP = 320, 56, 24  # of the square, and where it begins


def reliability_plot(evaluation: Evaluation, title: str) -> str:
    """Return the SVG of an evaluation, all classes in one diagram with a legend."""
    legend = 16 * len(evaluation.class_names)
    height = max(_SIDE, legend) + _TOP + 48
    width = _LEFT + _SIDE + 240
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="11">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(title)}</text>',
            *_frame(),
            *_curves(evaluation),
            "</svg>\n",
        ]
    )


def _x(p: float) -> float:
    return round(_LEFT + p * _SIDE, 1)


def _y(p: float) -> float:
    return round(_TOP + (1 - p) * _SIDE, 1)


def _frame() -> Iterator[str]:
    yield f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999"/>'
    yield f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="#999" stroke-dasharray="4 3"/>'
    for tick in (0, 0.25, 0.5, 0.75, 1):
        yield f'<text x="{_x(tick)}" y="{_y(0) + 16}" text-anchor="middle">{tick:g}</text>'
        yield f'<text x="{_LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>'
    yield f'<text x="{_x(0.5)}" y="{_y(0) + 34}" text-anchor="middle">mean probability in the bin</text>'
    middle = f"14 {_y(0.5)}"
    yield f'<text transform="translate({middle}) rotate(-90)" text-anchor="middle">share of pixels that are the class</text>'


def _curves(evaluation: Evaluation) -> Iterator[str]:
    pixels = evaluation.reliability
    rows = zip(
        evaluation.class_names, pixels.confidence, pixels.frequency, pixels.count, evaluation.per_class, strict=True
    )
    for c, (name, confidence, frequency, count, scores) in enumerate(rows):
        colour = _COLOURS[c % len(_COLOURS)]
        dots = [(_x(p), _y(f), n) for p, f, n in zip(confidence, frequency, count, strict=True) if n]
        line = "L".join(f"{x} {y}" for x, y, _ in dots)
        yield f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield from (
            f'<circle cx="{x}" cy="{y}" r="{1 + math.sqrt(math.log10(n)):.1f}" fill="{colour}"/>' for x, y, n in dots
        )
        place = _TOP + 12 + 16 * c
        yield f'<rect x="{_LEFT + _SIDE + 14}" y="{place - 9}" width="10" height="10" fill="{colour}"/>'
        words = f"{name}, ECE {scores.ece:.4f}"
        yield f'<text x="{_LEFT + _SIDE + 30}" y="{place}">{escape(words)}</text>'
