"""Chapter 1. Why generate masks: a deterministic network averages the experts, a sampler gives one of their masks.

argmin_f E |f(I) - x_0|^2 = E[x_0 | I] = s m_1 + (1 - s) m_2                the average: a mask that no expert drew
x_0 ~ p(x_0 | I):  m_1 with probability s, m_2 with probability 1 - s       what a diffusion segmenter aims at
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16, Int, UInt8
from numpy import ndarray

from app.components.scrubber import Position, View, film
from app.core import catalogue
from app.core.settings import Slide
from app.course import pixel, readers
from app.course.bench import CASES, Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import CASE, PROBABILITY, SEED, dice, outlined, probability, still
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, curves
from medsegdiff.data.synthetic import draw
from medsegdiff.multi_reader import energy_distance

__all__ = ["CHAPTER", "RECORDED", "Recorded", "Trajectory", "recorded", "trajectory"]

RECORDED = Path(__file__).parent.parent / "recorded" / "raters.npz"

_SIZE, _STEPS, _SHOWN, _RATERS = 128, 20, 5, 10
_SHARE, _MEMBERS = Slide("share", 0.5, 0.0, 1.0, 0.05), Slide("raters_members", 5, 1, 25, 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Experts:
    picture: paint.RGB
    masks: tuple[UInt8[ndarray, "h w"], UInt8[ndarray, "h w"]]

    def mean(self, share: float) -> Float[ndarray, "h w"]:
        """Return E[x_0], as probability, if the first mask has this probability."""
        return share * self.masks[0].astype(np.float32) + (1 - share) * self.masks[1]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Samples of the two masks, and of the pixel."""

    times: Sequence[int]
    belief: Float[ndarray, "t m"]  # posterior probability of the first rater
    particles: pixel.Particles


@lru_cache(maxsize=16)
def _experts(case: int) -> _Experts:
    """Return the two raters of a phantom that differ most."""
    drawn = draw(catalogue.TASK, case, _SIZE, raters=_RATERS)
    pairs = combinations([(r > 0).astype(np.uint8) for r in drawn.raters], 2)
    small, large = sorted(min(pairs, key=lambda pair: dice(pair[0] > 0, pair[1] > 0)), key=lambda mask: int(mask.sum()))
    return _Experts(drawn.image, (small, large))


@lru_cache(maxsize=16)
def trajectory(case: int, share: float, members: int, seed: int) -> Trajectory:
    """Sample masks, and values of one pixel, with the optimal denoiser of two raters."""
    from app.course import oracles  # imports torch

    oracle = oracles.two_raters(np.stack(_experts(case).masks), share, 0.2)
    steps = oracles.sample(oracle, "ddim", _STEPS, members, seed)
    return Trajectory(
        [s.t for s in steps], oracles.beliefs(oracle, steps), pixel.particles(share, "ddim", _STEPS, seed)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """The trajectories of seed 0 for every case, share and member, and those of the pixel for every share."""

    times: Int[ndarray, " t"]
    belief: Float16[ndarray, "cases shares t m"]
    x: Float16[ndarray, "shares t n"]  # of the pixel
    end: Float16[ndarray, "shares n"]

    def trajectory(self, case: int, share: float, members: int) -> Trajectory:
        """Return one of them."""
        i, times = round(share / _SHARE.step), self.times.tolist()
        belief = self.belief[CASES.index(case), i, :, :members].astype(np.float32)
        moved = pixel.Particles(times, self.x[i].astype(np.float32), self.end[i].astype(np.float32))
        return Trajectory(times, belief, moved)

    @classmethod
    def computed(cls) -> "Recorded":
        """Compute all of them."""
        shares = [i * _SHARE.step for i in range(round(_SHARE.high / _SHARE.step) + 1)]
        found = [[trajectory(case, share, int(_MEMBERS.high), 0) for share in shares] for case in CASES]
        moved = [each.particles for each in found[0]]
        return cls(
            np.array(moved[0].times),
            np.array([[each.belief for each in row] for row in found], np.float16),
            np.stack([each.x for each in moved]).astype(np.float16),
            np.stack([each.end for each in moved]).astype(np.float16),
        )


@cache
def recorded() -> Recorded:
    """Read the recorded trajectories."""
    with np.load(RECORDED) as file:
        return Recorded(**file)


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    share, count = values["share"], int(values["raters_members"])
    experts, replay = _experts(values["case"]), values["recorded"]
    if replay:
        found = recorded().trajectory(values["case"], share, count)
    else:
        found = trajectory(values["case"], share, count, values["seed"])
    small, large = experts.masks
    average = experts.mean(share)
    cut = average > 0.5
    on_first = int((found.belief[-1] > 0.5).sum())
    either = small != large

    places = [words("course.raters.place", step=i + 1, total=_STEPS, t=t) for i, t in enumerate(found.times)]
    n = len(places)
    views = [
        still(words("course.raters.first"), outlined(experts.picture, small), n),
        still(words("course.raters.second"), outlined(experts.picture, large), n),
        still(words("course.raters.average"), probability(average), n, bar=PROBABILITY),
    ]
    for m in range(min(_SHOWN, count)):
        title = words("film.one_member", number=m + 1)
        beliefs = [words("course.raters.belief", share=f"{100 * b:.0f}") for b in found.belief[:, m]]
        alts = [f"{title}. {place}. {belief}" for place, belief in zip(places, beliefs, strict=True)]
        views.append(View(title, [probability(experts.mean(b)) for b in found.belief[:, m]], alts, PROBABILITY))
    run = f"raters-{values['case']}-{share}-{count}-{values['seed']}"
    shown = film(views, [Position(place, place) for place in places], words, run=run)

    steps = list(range(1, n + 1))
    lines = [
        Curve(words("film.one_member", number=m + 1), steps, found.belief[:, m].tolist()) for m in range(min(6, count))
    ]
    names = [words("course.raters.belief_title"), words("course.raters.share_title")]
    kept = np.cumsum(found.belief[-1] > 0.5) / np.arange(1, count + 1)
    lines.append(
        Curve(words("course.raters.found"), list(range(1, count + 1)), kept.tolist(), panel=1, color="#AA4499")
    )
    lines.append(
        Curve(words("course.raters.asked"), [1, max(count, 2)], [share, share], panel=1, width=1.5, color="#7d8590")
    )
    chart = curves(lines, names, "", ["", ""])
    chart.update_yaxes(range=[-0.03, 1.03])
    chart.update_layout(xaxis_title=words("chart.step"), xaxis2_title=words("settings.members.label"))

    experts_20 = np.stack([small] * round(20 * share) + [large] * (20 - round(20 * share)))  # in steps of 0.05: exact
    samples = np.stack([experts.mean(b) > 0.5 for b in found.belief[-1]]).astype(np.uint8)
    ged_samples = energy_distance(samples, experts_20)
    ged_one = energy_distance(cut[None].astype(np.uint8), experts_20)
    numbers = (
        Fact(words("course.raters.sides"), f"{on_first} : {count - on_first}", words("course.raters.sides_detail")),
        Fact(
            words("course.raters.nobody"),
            f"{100 * float((either & (average > 0.02) & (average < 0.98)).mean()):.1f} %",
            words("course.raters.nobody_detail", share=f"{100 * share:.0f}"),
        ),
        Fact(
            words("course.raters.cut"),
            f"{dice(cut, small > 0):.3f} · {dice(cut, large > 0):.3f}",
            words("course.raters.cut_detail"),
        ),
        Fact(words("course.raters.ged"), f"{ged_samples:.3f} · {ged_one:.3f}", words("course.raters.ged_detail")),
    )
    at = min(max(int(values["at"]), 0), _STEPS - 1) if values["at"] is not None else _STEPS - 1
    one_pixel = pixel.density_chart(share, found.particles, at, words)
    paths = pixel.paths_chart(share, [("DDIM", found.particles)], words)
    facts = {"first": on_first, "members": count, "share": share}
    seen = Seen((shown,), (chart, one_pixel, paths), numbers, facts)
    if replay:
        return readers.left_out(seen, "unmarked")
    return readers.joined(bench, seen, lambda: readers.show(bench, values["case"], values["seed"], words), "unmarked")


def _both(values: Values, facts: Values) -> bool:
    return 0 < facts["first"] < facts["members"]


CHAPTER = Chapter(
    key="raters",
    see=_see,
    controls=(CASE, _SHARE, _MEMBERS, SEED),
    tasks=(
        Task("both", lambda v, f: v["at"] is not None and _both(v, f)),
        Task("minority", lambda v, f: f["members"] >= 12 and not 0.3 <= f["share"] <= 0.7 and _both(v, f)),
        Task("certain", lambda v, f: f["share"] in (0, 1)),
        Task("unmarked", lambda v, f: f.get("unmarked", 0) > 0),
    ),
    equations=(
        Equation(r"p_\theta(x_{0:T-1}\mid x_T)=\prod_{t=1}^{T}p_\theta(x_{t-1}\mid x_t)", "V1 eq. 1"),
        Equation(
            r"\arg\min_f\ \mathbb E\,\lVert f(I)-x_0\rVert^2=\mathbb E[x_0\mid I]=s\,m_1+(1-s)\,m_2",
            "course.raters.place_average",
        ),
        Equation(
            r"D^2_{GED}=2\,\mathbb E[d(S,Y)]-\mathbb E[d(S,S')]-\mathbb E[d(Y,Y')],\quad d=1-\mathrm{IoU}",
            "course.raters.place_ged",
        ),
        Equation(
            r"\nabla_x\log p_t(x)=\frac{\sqrt{\bar\alpha_t}\,\mathbb E[x_0\mid x_t=x]-x}{1-\bar\alpha_t}",
            "course.raters.place_score",
        ),
    ),
    symbols=(
        Symbol("<i>s</i>", "s", ("share",)),
        Symbol("<i>m</i><sub>1</sub>", "m1", ("tile 0.0",)),
        Symbol("<i>m</i><sub>2</sub>", "m2", ("tile 0.1",)),
        Symbol("E[<i>x</i><sub>0</sub> | <i>I</i>]", "mean", ("tile 0.2", "fact 1")),
        Symbol("<i>x</i><sub>0</sub> ~ <i>p</i><sub>θ</sub>", "sample", ("tile 0.3",)),
        Symbol("<i>D</i>²<sub>GED</sub>", "ged", ("fact 3",)),
    ),
    sources=(
        "app.course.oracles:TwoRaters.belief",
        "app.course.oracles:TwoRaters.__call__",
        "medsegdiff.multi_reader:energy_distance",
    ),
    fidelity=("F16",),
    blocks=("x_0",),
    minutes=12,
    answers=("b", "c"),
    prediction="b",
    log=("case", "share", "raters_members", "seed", "first"),
    panel="members",
    unrecorded=("seed",),
)
