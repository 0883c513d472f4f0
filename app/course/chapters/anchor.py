"""Chapter 6. The anchor: a coarse mask feature, smoothed by a learned Gaussian, gates the diffusion features.

f_anc  = Max( f_c^-1 * k_Gauss, f_c^-1 ),     f_d'^0 = Sigmoid( f_anc * k_1x1 ) . f_d^0 + f_d^0      V2, anchor condition
"""

from dataclasses import replace

import numpy as np

from app.components.scrubber import film
from app.core.frames import Recording
from app.core.settings import Choice, Slide
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import CASE, SEED, compared, of_recording, panel, switch
from app.i18n import Words
from app.views.charts import Curve, curves
from app.views.films import legend
from app.views.panels import charts_of, film_of
from medsegdiff.config import RunSettings
from medsegdiff.switches import Interventions

__all__ = ["CHAPTER"]

_STEPS = 4


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, on, sigma, members = values["case"], values["gate"] == "on", float(values["sigma"]), values["some_members"]
    settings = RunSettings(
        members=members,
        steps=_STEPS,
        seed=values["seed"],
        fuse="mean",  # of the members alone: the anchor removed must not return in the fusion
        trace=True,
        switches=Interventions(sigma=sigma),
    )
    anchored = bench.run("v2", case, settings)
    shown = anchored if on else bench.run("v2", case, replace(settings, switches=Interventions(anchor=False)))
    pairs = [(words("course.anchor.with"), anchored)] + ([] if on else [(words("course.anchor.without"), shown)])
    run = f"anchor-{case}-{on}-{sigma}-{members}-{values['seed']}"
    views, places = compared(pairs, words)
    moving = film(views, places, words, run=run, legend=legend(shown, words, members=True))

    steps = [f.index + 1 for f in anchored.frames]
    lines = [Curve(name, steps, [float(f.spread.mean()) / 510 for f in r.frames]) for name, r in pairs]
    lines += [Curve(name, steps, [100 * float(np.std(f.shares)) for f in r.frames], panel=1) for name, r in pairs]
    titles = [words("film.disagreement"), words("course.anchor.area_spread")]
    spread = curves(lines, titles, words("chart.step"), [words("chart.deviation"), words("chart.percent")])

    facts = dict(of_recording(shown, words)) | {
        "spread_with": round(_area_spread(anchored), 3),
        "spread_without": None if on else round(_area_spread(shown), 3),
    }
    sigmas = [np.asarray(p.values, float) for p in anchored.frames[0].planes if p.kind == "anchor sigma"]
    gates = [np.asarray(p.values, float) for p in anchored.frames[0].planes if p.kind == "anchor gate"]
    if sigmas:
        facts["width"] = round(float(np.mean(sigmas)), 2)
    names = " · ".join(name for name, _ in pairs)
    numbers = (
        Fact(
            words("course.anchor.area_spread"),
            " · ".join(f"{_area_spread(r):.2f}" for _, r in pairs),
            words("course.anchor.area_detail", names=names, members=members),
        ),
        Fact(
            "Dice",
            " · ".join(f"{of_recording(r, words)['dice']:.3f}" for _, r in pairs),
            words(
                "course.anchor.dice_detail",
                names=names,
                anchor=f"{of_recording(anchored, words)['anchor_dice'] or 0:.3f}",
            ),
        ),
        Fact(
            "σ",
            f"{np.mean(sigmas):.2f}" if sigmas else "–",
            words("course.anchor.sigma_detail", low=f"{np.min(gates):.2f}", high=f"{np.max(gates):.2f}")
            if gates
            else "",
        ),
    )
    maps = film_of(panel("anchor"), anchored, words, f"{run}-maps")
    return Seen(
        (moving, *([maps] if maps else [])),
        (spread, *charts_of(panel("anchor"), anchored, words)),
        numbers,
        facts,
        recording=shown,
    )


def _area_spread(recording: Recording) -> float:
    """Compute the standard deviation of the members' areas, in percent of the image."""
    return 100 * float(np.std([(member > 0).mean() for member in recording.outcome.members]))


CHAPTER = Chapter(
    key="anchor",
    see=_see,
    controls=(
        CASE,
        Slide("sigma", 0.0, 0.0, 4.0, 0.25),
        switch("gate"),
        Choice("some_members", 6, (2, 6, 12, 25)),
        SEED,
    ),
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
    symbols=(
        Symbol("<i>f</i><sub>c</sub><sup>−1</sup>", "raw", ("tile 1.0",)),
        Symbol("<i>k</i><sub>Gauss</sub>", "kernel", ("sigma", "fact 2"), "width"),
        Symbol("<i>f</i><sub>c</sub><sup>−1</sup> ∗ <i>k</i><sub>Gauss</sub>", "smooth", ("tile 1.1",)),
        Symbol("<i>f</i><sub>anc</sub>", "anchor", ("tile 1.2",)),
        Symbol("Sigmoid(·) + 1", "gate", ("tile 1.3", "gate")),
    ),
    sources=(
        "medsegdiff.nn.anchor:GaussianSpatialAttention.kernel",
        "medsegdiff.nn.anchor:GaussianSpatialAttention.gate",
        "medsegdiff.nn.anchor:GaussianSpatialAttention.forward",
    ),
    fidelity=("F14", "F15", "F27", "F31"),
    blocks=("feature", "gate"),
    minutes=15,
    answers=("b", "a"),
    prediction="a",
    log=("case", "sigma", "gate", "spread_with", "spread_without", "dice"),
    kind="v2",
    panel="anchor",
)
