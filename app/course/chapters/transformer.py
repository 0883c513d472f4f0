"""Chapter 7. SS-Former and NBP-Filter: attention in the frequency domain, filtered depending on t.

M   = ( F(q) W_q ) ( F(r) W_k )^T          affinity of token frequencies, n x n, complex, no softmax        V2 figure
M'  = S_t * M      or, in arXiv v1,  M' = sin M
q'  = q + Re F^-1( M' ) ( r W_v )
"""

import numpy as np

from app.components.scrubber import film
from app.core.frames import Plane, Recording
from app.core.settings import Choice, Slide
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import CASE, SEED, of_recording, panel
from app.i18n import Words
from app.views.charts import Curve, curves
from app.views.films import legend, positions, stage_words, step_views, transformer_views
from app.views.panels import charts_of
from medsegdiff.config import RunSettings
from medsegdiff.switches import Switches

__all__ = ["CHAPTER"]

_STEPS, _TIMES = 5, 25
_SWITCHES = {"all": {}, "no_nbp": {"nbp": False}, "no_ss": {"ss_former": False}}


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    from app.course.networks import openings  # imports torch

    case, t, part = values["case"], int(values["t"]), values["part"]
    settings = RunSettings(
        members=1, steps=_STEPS, seed=values["seed"], fuse="mean", trace=True, switches=Switches(**_SWITCHES[part])
    )
    shown = bench.run("v2", case, settings)
    whole = bench.run("v2", case, RunSettings(members=1, steps=_STEPS, seed=values["seed"], fuse="mean", trace=True))
    run = f"transformer-{case}-{part}-{values['seed']}"
    result = film(
        step_views(shown, words), positions(shown, words), words, run=run, legend=legend(shown, words, members=False)
    )
    cells = transformer_views(shown, words)
    inside = (film(cells, positions(shown, words), words, run=run, smooth=False),) if cells else ()

    segmenter = bench.segmenter("v2")
    last = segmenter.diffusion.schedule.timesteps - 1
    times = np.linspace(0, last, _TIMES).round().astype(int).tolist()
    over_time = bench.keep(("openings",), lambda: {k: v.mean((1, 2)) for k, v in openings(segmenter, times).items()})
    here = openings(segmenter, [min(t, last)])
    lines = [Curve(stage_words(stage, words), times, mean.tolist(), width=2) for stage, mean in over_time.items()]
    lines += [Curve(f"t = {t}", [t, t], [0, 1], width=1)]
    sizes = np.linspace(0, 2.5, 60)
    measured = np.concatenate([p.values.astype(float).ravel() for p in _affinities(shown)] or [[0.0]])
    lines += [
        Curve(words("course.transformer.sine"), sizes.tolist(), np.abs(np.sin(sizes)).tolist(), panel=1),
        Curve(
            words("course.transformer.sine_imaginary"),
            sizes.tolist(),
            np.sinh(sizes).tolist(),
            panel=1,
            color="#AA4499",
        ),
        *(
            Curve(stage_words(stage, words), sizes.tolist(), (float(s[0].mean()) * sizes).tolist(), panel=1, width=1.5)
            for stage, s in here.items()
        ),
    ]
    chart = curves(
        lines,
        [words("course.transformer.opening"), words("course.transformer.transfer", t=t)],
        "",
        [words("course.transformer.mean"), "|M'|"],
    )
    chart.update_layout(xaxis_title="t", xaxis2_title="|M|", yaxis2_range=[0, 2.5])
    facts = dict(of_recording(shown, words)) | {"whole": of_recording(whole, words)["dice"], "t": t}
    numbers = (
        Fact("Dice", f"{facts['dice']:.3f}", words("course.transformer.dice_detail", whole=f"{facts['whole']:.3f}")),
        *(
            Fact(
                stage_words(stage, words),
                f"{s.mean():.2f}",
                words("course.transformer.flat", low=f"{s.min():.2f}", high=f"{s.max():.2f}", t=t),
            )
            for stage, s in here.items()
        ),
    )
    if part != "no_ss":
        typical, most = np.median(measured), measured.max()
        numbers += (Fact("|M|", f"{typical:.3f}", words("course.transformer.measured", most=f"{most:.2f}")),)
    figures = () if part != "all" else tuple(charts_of(panel("transformer"), shown, words))
    return Seen((result, *inside), (chart, *figures), numbers, facts, recording=shown)


def _affinities(recording: Recording) -> list[Plane]:
    """Return the magnitudes of all affinities of a run, averaged over the heads."""
    return [p for frame in recording.frames for p in frame.planes if p.kind == "token affinity"]


CHAPTER = Chapter(
    key="transformer",
    see=_see,
    controls=(CASE, Slide("t", 500, 0, 999, 1), Choice("part", "all", tuple(_SWITCHES)), SEED),
    tasks=(
        Task("noisy", lambda v, f: v["t"] >= 950),
        Task("clean", lambda v, f: v["t"] <= 50),
        Task("off", lambda v, f: v["part"] == "no_ss"),
    ),
    equations=(
        Equation(
            r"M=\bigl(\mathcal F(e)\,W_q\bigr)\bigl(\mathcal F(c)\,W_k\bigr)^{\!\top},\qquad M'=S_t\otimes M",
            "course.transformer.place_affinity",
        ),
        Equation(
            r"S_t(u,v)=\sigma\bigl([\mathrm{conv}\to\text{scale, shift by }t\to\mathrm{conv}]\times R\,(u,v)\bigr)",
            "course.transformer.place_band",
        ),
        Equation(
            r"e'=e+\mathrm{Re}\,\mathcal F^{-1}[M']\,(c\,W_v)",
            "course.transformer.place_value",
        ),
    ),
    symbols=(
        Symbol("<i>M</i>", "affinity", ("tile 1.0",)),
        Symbol("<i>S</i><sub>t</sub>", "band", ("tile 1.-1",)),
        Symbol("<i>t</i>", "t", ("t",)),
        Symbol("<i>M′</i>", "filtered", ("chart 0.1",)),
    ),
    sources=(
        "medsegdiff.nn.transformer:SpectrumSpaceModule.affinity",
        "medsegdiff.nn.transformer:SpectrumSpaceModule.filtered",
        "medsegdiff.nn.spectral:NBPFilter.forward",
    ),
    fidelity=("F17", "F18", "F19", "F23", "F24"),
    blocks=("ss_former", "nbp"),
    minutes=15,
    answers=("c", "b"),
    prediction="a",
    log=("case", "part", "t", "dice"),
    kind="v2",
    panel="transformer",
)
