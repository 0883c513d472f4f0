"""Chapter 6. The anchor: a coarse mask feature, smoothed by a learned Gaussian, gates the diffusion features.

f_anc  = Max( f_c^-1 * k_Gauss, f_c^-1 ),     f_d'^0 = Sigmoid( f_anc * k_1x1 ) . f_d^0 + f_d^0      V2, anchor condition
"""

from dataclasses import replace

import numpy as np

from app.components.scrubber import film
from app.core.frames import Recording
from app.core.settings import Choice, Slide
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Task, Values
from app.course.parts import CASE, SEED, of_recording, panel, switch
from app.i18n import Words
from app.views.charts import Curve, curves
from app.views.films import legend, positions, step_views
from app.views.panels import charts_of
from medsegdiff.config import RunSettings
from medsegdiff.switches import Interventions

__all__ = ["CHAPTER"]

_STEPS = 4


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, on, sigma, members = values["case"], values["gate"] == "on", float(values["sigma"]), values["some_members"]
    settings = RunSettings(
        members=members, steps=_STEPS, seed=values["seed"], trace=True, switches=Interventions(sigma=sigma)
    )
    anchored = bench.run("v2", case, settings)
    free = bench.run("v2", case, replace(settings, switches=Interventions(anchor=False)))
    shown = anchored if on else free
    never = bench.run("v1", case, replace(settings, switches=Interventions())) if bench.checkpoint("v1") else None
    run = f"anchor-{case}-{on}-{sigma}-{members}-{values['seed']}"
    views = [
        replace(step_views(anchored, words)[2], title=words("course.anchor.with")),
        replace(step_views(free, words)[2], title=words("course.anchor.without")),
    ]
    moving = film(
        views if on else views[::-1],
        positions(anchored, words),
        words,
        run=run,
        legend=legend(shown, words, members=True),
    )

    steps = [f.index + 1 for f in anchored.frames]
    pairs = [(words("course.anchor.with"), anchored), (words("course.anchor.without"), free)]
    pairs += [(words("course.anchor.never"), never)] if never else []
    lines = [Curve(name, steps, [float(f.spread.mean()) / 510 for f in r.frames]) for name, r in pairs]
    lines += [Curve(name, steps, [100 * float(np.std(f.shares)) for f in r.frames], panel=1) for name, r in pairs]
    titles = [words("film.disagreement"), words("course.anchor.area_spread")]
    spread = curves(lines, titles, words("chart.step"), [words("chart.deviation"), words("chart.percent")])

    facts = dict(of_recording(shown, words)) | {
        "spread_with": round(_area_spread(anchored), 3),
        "spread_without": round(_area_spread(free), 3),
        "free_dice": of_recording(free, words)["dice"],
        "spread_v1": round(_area_spread(never), 3) if never else None,
    }
    sigmas = [np.asarray(p.values, float) for p in anchored.frames[0].planes if p.kind == "anchor sigma"]
    gates = [np.asarray(p.values, float) for p in anchored.frames[0].planes if p.kind == "anchor gate"]
    numbers = (
        Fact(
            words("course.anchor.area_spread"),
            " · ".join(f"{_area_spread(r):.2f}" for _, r in pairs),
            words("course.anchor.area_detail", members=members),
        ),
        Fact(
            "Dice",
            " · ".join(f"{of_recording(r, words)['dice']:.3f}" for _, r in pairs),
            words("course.anchor.dice_detail", anchor=f"{facts['anchor_dice'] or 0:.3f}"),
        ),
        Fact(
            "σ",
            f"{np.mean(sigmas):.2f}" if sigmas else "–",
            words("course.anchor.sigma_detail", low=f"{np.min(gates):.2f}", high=f"{np.max(gates):.2f}")
            if gates
            else "",
        ),
    )
    return Seen((moving,), (spread, *charts_of(panel("anchor"), anchored, words)), numbers, facts)


def _area_spread(recording: Recording) -> float:
    """Compute the standard deviation of the members' areas, in percent of the image."""
    return 100 * float(np.std([(member > 0).mean() for member in recording.outcome.members]))


CHAPTER = Chapter(
    key="anchor",
    see=_see,
    controls=(CASE, Slide("sigma", 0.0, 0.0, 4.0, 0.25), switch("gate"), Choice("some_members", 6, (2, 6, 10)), SEED),
    tasks=(
        Task("before", lambda v, f: v["at"] == 0),
        Task("sigma", lambda v, f: v["sigma"] >= 2),
        Task("off", lambda v, f: v["gate"] == "off"),
    ),
    equations=(
        Equation(r"f_{anc}=\mathrm{Max}\bigl(f_c^{-1}*k_{Gauss},\ f_c^{-1}\bigr)", "course.anchor.place_gaussian"),
        Equation(
            r"f_d'^{\,0}=\mathrm{Sigmoid}\bigl(f_{anc}*k_{1\times1}\bigr)\cdot f_d^{\,0}+f_d^{\,0}",
            "course.anchor.place_gate",
        ),
    ),
    sources=(
        "medsegdiff.nn.anchor:GaussianSpatialAttention.kernel",
        "medsegdiff.nn.anchor:GaussianSpatialAttention.gate",
        "medsegdiff.nn.anchor:GaussianSpatialAttention.forward",
    ),
    fidelity=("F14", "F15", "F27", "F31"),
    minutes=15,
    log=("case", "sigma", "gate", "spread_with", "spread_without", "spread_v1", "dice"),
    kind="v2",
    panel="anchor",
)
