"""Chapter 8. Ensembles: STAPLE step by step, disagreement and error, and the number of members."""

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core.settings import Choice, Slide
from app.course import readers
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import HARD, PROBABILITY, SEED, dice, marked, outlined, probability, still
from app.course.staple import staple
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, curves
from medsegdiff.config import RunSettings

__all__ = ["CHAPTER"]

_MEMBERS, _STEPS, _ROUNDS, _GALLERY = 12, 4, 5, 4


def poor_rater(mask: UInt8[ndarray, "h w"]) -> UInt8[ndarray, "h w"]:
    """Simulate a poor rater: shift a mask by a quarter of the image, along both axes towards the farther border."""
    rows, columns = (index.mean() if len(index) else 0.0 for index in np.nonzero(mask))
    for axis, centre in ((0, rows), (1, columns)):
        side, by = mask.shape[axis], mask.shape[axis] // 4
        kept = np.moveaxis(mask, axis, 0)
        none = np.zeros_like(kept[:by])
        kept = np.concatenate([none, kept[:-by]] if centre < side / 2 else [kept[by:], none])
        mask = np.moveaxis(kept, 0, axis)
    return mask


def _see(bench: Bench, values: Values, words: Words) -> Seen:

    case, count, with_poor_rater = values["case"], int(values["count"]), values["stranger"] == "on"
    recording = bench.run("v2", case, RunSettings(members=_MEMBERS, steps=_STEPS, seed=values["seed"], spacing="early"))
    picture = recording.opening.picture
    reference = (recording.opening.reference[0] > 0).astype(np.uint8)
    everyone = (recording.outcome.members > 0).astype(np.uint8)
    members = everyone[:count]
    raters = np.concatenate([members, poor_rater(members[0])[None]]) if with_poor_rater else members
    rounds = [one for _, one in zip(range(_ROUNDS + 1), staple(raters), strict=False)]
    scores = [dice(r.weight > 0.5, reference > 0) for r in rounds]

    places = [
        Position(text, text)
        for i, score in enumerate(scores)
        for text in [words("course.ensembles.place" if i else "course.ensembles.vote", round=i, dice=f"{score:.3f}")]
    ]
    n = len(places)
    spread = members.std(0)
    wrong = (members.mean(0) > 0.5) != (reference > 0)
    views = [
        View(
            words("course.ensembles.weight"),
            [probability(r.weight) for r in rounds],
            [p.spoken for p in places],
            PROBABILITY,
        ),
        View(
            words("film.on_picture"),
            [outlined(picture, r.weight > 0.5, (reference,)) for r in rounds],
            [p.spoken for p in places],
        ),
        still(
            words("film.disagreement"),
            paint.mapped(paint.fit(np.rint(510 * spread).astype(np.uint8), (160, 160)), 0, 255, "cividis"),
            n,
            bar=Bar(paint.CIVIDIS, "0", "0.5"),
        ),
        still(words("course.ensembles.wrong"), marked(picture, wrong), n),
    ]
    gallery = [*raters[: _GALLERY - 1], raters[-1]] if len(raters) >= _GALLERY else [*raters]
    for i, mask in enumerate(gallery):
        last = with_poor_rater and i == len(gallery) - 1
        number = len(members) if i == _GALLERY - 1 else i + 1
        title = words("course.ensembles.stranger") if last else words("film.one_member", number=number)
        views.append(still(title, outlined(picture, mask, (reference,)), n))
    run = f"ensembles-{case}-{count}-{with_poor_rater}-{values['seed']}"
    legend = [(paint.CLASSES[0], "solid", words("film.model")), (paint.REFERENCE, "dotted", words("film.reference"))]
    shown = film(views, places, words, run=run, at=0, legend=legend)

    def name(j: int) -> str:
        known = with_poor_rater and j == len(raters) - 1
        return words("course.ensembles.stranger") if known else words("film.one_member", number=j + 1)

    index = list(range(n))
    chosen = sorted({0, 1, 2, 3, len(raters) - 1} & set(range(len(raters))))
    lines = [Curve(name(j), index, [float(r.sensitivity[j]) for r in rounds], width=1.5) for j in chosen]
    first_n = [dice(everyone[:k].mean(0) > 0.5, reference > 0) for k in range(1, _MEMBERS + 1)]
    lines.append(
        Curve(words("course.ensembles.fused"), list(range(1, _MEMBERS + 1)), first_n, panel=1, color="#AA4499")
    )
    lines.append(
        Curve(words("course.ensembles.here"), [count], [first_n[count - 1]], panel=1, width=6, color="#D55E00")
    )
    titles = [words("course.ensembles.sensitivity"), words("course.ensembles.enough")]
    chart = curves(lines, titles, "", ["p", "Dice"], least=[0.5, None])
    chart.update_layout(xaxis_title=words("course.ensembles.round"), xaxis2_title=words("settings.members.label"))

    at = min(max(values["at"] or 0, 0), _ROUNDS)
    agreed = float((wrong & (spread == 0)).sum() / max(int(wrong.sum()), 1)) if count > 1 else None
    here = rounds[at]
    facts = {
        "round": at,
        "dice": round(scores[at], 4),
        "all": round(first_n[-1], 4),
        "few": round(first_n[count - 1], 4),
        "agreed": None if agreed is None else round(agreed, 3),
        "sensitivity": round(float(here.sensitivity[-1]), 2) if at else None,
        "specificity": round(float(here.specificity[-1]), 2) if at else None,
        "positions": n,
    }
    numbers = (
        Fact("Dice", f"{scores[at]:.3f}", places[at].label),
        Fact(
            words("course.ensembles.agreed"),
            "–" if agreed is None else f"{100 * agreed:.0f} %",
            words("course.ensembles.agreed_one")
            if agreed is None
            else words("course.ensembles.agreed_detail", wrong=f"{100 * float(wrong.mean()):.2f}"),
        ),
        Fact(
            words("course.ensembles.quality"),
            f"{here.sensitivity[-1]:.2f} · {here.specificity[-1]:.2f}" if at else "–",
            words("course.ensembles.quality_detail", who=name(len(raters) - 1)),
        ),
    )
    seen = Seen((shown,), (chart,), numbers, facts)
    return readers.joined(bench, seen, lambda: readers.answers(bench, case, values["seed"], count, words), "worse")


def _enough(values: Values, facts: Values) -> bool:
    return values["count"] <= 8 and facts["few"] >= facts["all"] - 0.01


CHAPTER = Chapter(
    key="ensembles",
    see=_see,
    controls=(HARD, Slide("count", _MEMBERS, 1, _MEMBERS, 1), Choice("stranger", "off", ("off", "on")), SEED),
    tasks=(
        Task("five", lambda v, f: v["stranger"] == "off" and f["round"] == _ROUNDS),
        Task("stranger", lambda v, f: v["stranger"] == "on" and f["round"] >= 1),
        Task("enough", _enough),
        Task("worse", lambda v, f: f.get("worse", False)),
    ),
    equations=(
        Equation(
            r"W_i=\frac{\gamma\prod_j p_j^{D_{ij}}(1-p_j)^{1-D_{ij}}}"
            r"{\gamma\prod_j p_j^{D_{ij}}(1-p_j)^{1-D_{ij}}+(1-\gamma)\prod_j q_j^{1-D_{ij}}(1-q_j)^{D_{ij}}}",
            "course.ensembles.place_e",
        ),
        Equation(
            r"p_j=\frac{\sum_i W_iD_{ij}}{\sum_i W_i},\qquad q_j=\frac{\sum_i(1-W_i)(1-D_{ij})}{\sum_i(1-W_i)}",
            "course.ensembles.place_m",
        ),
    ),
    symbols=(
        Symbol("<i>W</i><sub>i</sub>", "weight", ("tile 0.0",)),
        Symbol("<i>D</i><sub>ij</sub>", "rater", ("tile 0.4", "tile 0.5", "tile 0.6", "tile 0.7")),
        Symbol("<i>j</i>", "members", ("count",)),
        Symbol("<i>p</i><sub>j</sub>", "sensitivity", ("chart 0.0", "fact 2"), "sensitivity"),
        Symbol("<i>q</i><sub>j</sub>", "specificity", ("fact 2",), "specificity"),
    ),
    sources=("app.course.staple:staple", "medsegdiff.ensemble:_staple"),
    fidelity=("F16",),
    blocks=("fusion",),
    minutes=15,
    answers=("a", "c"),
    prediction="b",
    log=("case", "count", "stranger", "round", "dice", "agreed"),
    kind="v2",
    panel="members",
)
