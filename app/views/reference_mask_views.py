"""Show a result against its reference mask, and write both as files that reproduce the scores."""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from numpy import ndarray

from app.analysis.reference_mask import Score
from app.components.scrubber import Position, View, film
from app.i18n import Words
from app.views import paint
from app.views.comparison_views import table

__all__ = ["class_legend", "contours", "score_table", "write"]


def score_table(scores: Sequence[Score], source: str, w: Words) -> str:
    """Make a table of the scores, headed by the source of the reference mask, as HTML."""
    heads = ["", "Dice", "IoU", f"HD95 ({scores[0].unit})"]
    rows = [
        [w.known(f"class.{s.label}", s.label), _number(s.dice, 4), _number(s.iou, 4), _number(s.hd95, 2)]
        for s in scores
    ]
    return f"<p>{html.escape(w(f'reference.of_{source}'))}</p>{table(heads, rows)}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def class_legend(names: Sequence[str], w: Words) -> str:
    """List the colour of each class, as HTML; empty for a single class."""
    if len(names) < 2:
        return ""
    items = "".join(
        f'<span><i style="background:{paint.CLASSES[i % len(paint.CLASSES)]}"></i>{html.escape(w.known(f"class.{n}", n))}</span>'
        for i, n in enumerate(names)
    )
    return f'<p class="swatches">{html.escape(w("reference.colours"))} {items}</p>'


def contours(
    picture: paint.RGB,
    labels: UInt8[ndarray, "h w"],
    reference: UInt8[ndarray, "h w"],
    names: Sequence[str],
    scores: Sequence[Score],
    w: Words,
) -> dict[str, Any]:
    """Make a film of both contours on the image, and of the pixels where they differ."""
    size = picture.shape[:2]
    result, known = (paint.fit(mask, size, smooth=False) for mask in (labels, reference))
    present = [s for s in scores if not math.isnan(s.dice)]
    numbers = ", ".join(f"{w.known(f'class.{s.label}', s.label)} Dice {_number(s.dice, 3)}" for s in present)
    missed, extra = (known > 0) & (result == 0), (result > 0) & (known == 0)
    change = extra.astype(int) - missed.astype(int)
    errors = paint.mapped(change, -1, 1, "diverging")
    shares = {"missed": f"{100 * missed.mean():.2f}", "extra": f"{100 * extra.mean():.2f}"}
    views = [
        View(
            w("reference.contours"),
            [paint.on_picture(picture, result, [known])],
            [f"{w('reference.contours')}. {numbers}"],
        ),
        View(w("reference.differs"), [errors], [w("reference.differs_alt", **shares)]),
    ]
    shown = [(i, n) for i, n in enumerate(names) if ((labels == i + 1) | (reference == i + 1)).any()]
    named = [(paint.CLASSES[i % len(paint.CLASSES)], "solid", w.known(f"class.{n}", n)) for i, n in shown]
    lines = [
        *(named if len(names) > 1 else [(paint.CLASSES[0], "solid", w("film.model"))]),
        (paint.REFERENCE, "dotted", w("reference.line")),
        (paint.DIVERGING[-1], "solid", w("reference.extra", share=shares["extra"])),
        (paint.DIVERGING[0], "solid", w("reference.missed", share=shares["missed"])),
    ]
    return film(views, [Position(numbers, numbers)], w, legend=lines, smooth=False)


def write(
    folder: Path, labels: UInt8[ndarray, "h w"], reference: UInt8[ndarray, "h w"], scores: Sequence[Score]
) -> dict[str, Path]:
    """Write both masks as label images at the original size, and the scores as JSON."""
    paths = {"mask": folder / "mask.png", "reference": folder / "reference.png", "scores": folder / "scores.json"}
    paint.save_labels(paths["mask"], labels)
    paint.save_labels(paths["reference"], reference)
    rows = [score.facts() for score in scores]
    paths["scores"].write_text(json.dumps(rows, indent=2, allow_nan=False), encoding="utf-8")
    return paths
