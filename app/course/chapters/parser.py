"""Chapter 5. The FF-Parser: a learned or custom gain for every frequency.

M = F(m),   M' = A * M,   m' = F^-1(M')                                                              V1 eq. 4-6
sum |m|^2 = sum |M|^2                                       Parseval, for the unitary transform: F preserves energy, A does not
"""

import numpy as np

from app.components.equaliser import GAINS
from app.components.scrubber import film
from app.core.settings import Choice
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Faders, Seen, Symbol, Task, Values
from app.course.parts import SEED, SMALL, compared, dice, of_recording, panel
from app.i18n import Words
from app.views.charts import Curve, curves
from app.views.films import legend, parser_views, positions
from app.views.panels import charts_of
from medsegdiff.config import RunSettings
from medsegdiff.switches import Interventions, Switches

__all__ = ["CHAPTER", "PROFILES"]

_STEPS = 4
PROFILES = {
    "identity": (1.0,) * GAINS,
    "lowpass": (1.0, 1.0, *(0.0,) * (GAINS - 2)),
    "highpass": (0.0, 0.0, *(1.0,) * (GAINS - 2)),
    "closed": (0.0,) * GAINS,
}


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    from app.course import networks  # imports torch

    case, kind, size = values["case"], values["filter"], values["parser_size"]
    profile = values["gains"] if kind == "own" else PROFILES.get(kind, ())

    def settings(switches: Switches) -> RunSettings:
        return RunSettings(
            members=1, steps=_STEPS, seed=values["seed"], fuse="mean", trace=True, size=size, switches=switches
        )

    learned = bench.run("v1", case, settings(Interventions()))
    own = bench.run("v1", case, settings(Interventions(profile=profile))) if profile else learned
    run = f"parser-{case}-{kind}-{profile}-{size}-{values['seed']}"
    chosen = words(f"control.filter.{kind}")
    runs = [(words("course.parser.learned"), learned)] + ([(chosen, own)] if profile else [])
    pictures, places = compared(runs, words)
    top = film(pictures, places, words, run=run, legend=legend(own, words, members=False))
    cells = film(parser_views(own, words), positions(own, words), words, run=run, smooth=False)
    gains = profile or (1.0, 1.0)
    radius = np.linspace(0, np.sqrt(0.5), len(gains)).tolist()
    drawn = curves(
        [Curve(words("course.parser.gain"), radius, list(gains))],
        [words("course.parser.profile")],
        words("chart.frequency"),
        ["|A|"],
    ).update_yaxes(range=[-0.05, 2.05])
    figures = charts_of(panel("parser"), own, words)

    segmenter = bench.segmenter("v1")
    parser, config = segmenter.checkpoint.model.get_submodule("parsers.0"), segmenter.checkpoint.model_config
    cell = (size or config.image_size) // config.stem
    feature = bench.keep(("parseval",), lambda: networks.first_feature(segmenter))
    (in_space, in_frequency), after = networks.energies(feature), networks.energy_after(segmenter, feature, profile)
    facts = dict(of_recording(own, words)) | {
        "learned": of_recording(learned, words)["dice"],
        "alike": round(dice(learned.outcome.labels > 0, own.outcome.labels > 0), 3),
    }
    trained = config.image_size // config.stem
    numbers = (
        Fact("Dice", f"{facts['dice']:.3f}", words("course.parser.dice_detail", learned=f"{facts['learned']:.3f}")),
        Fact("Parseval", f"{in_space:.6g} = {in_frequency:.6g}", words("course.parser.parseval_detail")),
        Fact(words("course.parser.energy"), f"{100 * after / in_space:.1f} %", words("course.parser.energy_detail")),
        Fact(
            words("course.parser.fixed"),
            words("course.parser.breaks" if cell != trained else "course.parser.fits"),
            networks.without_interpolation(parser, (cell, cell))
            if cell != trained
            else f"{trained} × {trained // 2 + 1}",
        ),
    )
    return Seen((top, cells), ((drawn, *figures) if profile else tuple(figures)), numbers, facts, recording=own)


CHAPTER = Chapter(
    key="parser",
    see=_see,
    controls=(
        SMALL,
        Choice("filter", "learned", ("learned", *PROFILES, "own")),
        Faders("gains", (1.0,) * GAINS, 0.0, 2.0, "filter", {"learned": (1.0,) * GAINS, **PROFILES}, "own"),
        Choice("parser_size", 0, (0, 128, 192, 320)),
        SEED,
    ),
    tasks=(
        Task("choose", lambda v, f: v["filter"] not in ("learned", "identity")),
        Task("draw", lambda v, f: v["filter"] == "own" and len(set(v["gains"])) > 1),
        Task("size", lambda v, f: v["parser_size"] != 0),
    ),
    equations=(
        Equation(r"M=\mathcal F[m],\qquad M'=A\otimes M,\qquad m'=\mathcal F^{-1}[M']", "V1 eq. 4–6"),
        Equation(r"\textstyle\sum\lvert m\rvert^2=\sum\lvert M\rvert^2", "course.parser.place_parseval"),
    ),
    symbols=(
        Symbol("<i>M</i>", "before", ("tile 1.0", "tile 1.2")),
        Symbol("<i>A</i>", "filter", ("tile 1.4", "filter")),
        Symbol("<i>M′</i>", "after", ("tile 1.1", "tile 1.3")),
        Symbol("Σ|<i>m</i>|²", "energy", ("fact 1",)),
        Symbol("Σ|<i>m′</i>|²", "left", ("fact 2",)),
    ),
    sources=(
        "medsegdiff.nn.spectral:FFParser.forward",
        "medsegdiff.nn.spectral:FFParser.filter",
        "app.course.networks:energies",
    ),
    fidelity=("F6", "F7", "F7b"),
    blocks=("parser",),
    minutes=18,
    answers=("c", "a"),
    prediction="a",
    log=("case", "filter", "gains", "parser_size", "dice"),
    kind="v1",
    panel="parser",
)
