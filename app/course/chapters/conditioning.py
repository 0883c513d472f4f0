"""Chapter 4. Dynamic conditional encoding: the mask of the current step re-weights the image features.

A(m_I, m_x) = ( LN(m_I) * LN(m_x) ) * m_I                                                             V1 eq. 3
"""

from dataclasses import replace

from app.components.scrubber import film
from app.core.settings import Choice
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import SEED, SMALL, compared, dice, dice_over_steps, of_recording, switch
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, curves
from app.views.films import encoding_views, legend
from medsegdiff.config import RunSettings
from medsegdiff.switches import Switches

__all__ = ["CHAPTER"]


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, on = values["case"], values["dynamic"] == "on"
    settings = RunSettings(members=1, steps=values["few_steps"], seed=values["seed"], fuse="mean", trace=True)
    whole = bench.run("v1", case, settings)
    part = replace(settings, switches=Switches(dynamic_encoding=False))
    shown = whole if on else bench.run("v1", case, part)
    runs = [(words("course.conditioning.with"), whole)] + (
        [] if on else [(words("course.conditioning.without"), shown)]
    )
    masks, places = compared(runs, words)
    maps = encoding_views(whole, words)[1:]
    size = maps[0].tiles[0].shape[:2]
    views = [*(replace(v, tiles=[paint.fit(tile, size) for tile in v.tiles]) for v in masks), *maps]
    run = f"conditioning-{case}-{settings.steps}-{settings.seed}-{on}"
    moving = film(views, places, words, run=run, legend=legend(shown, words, members=False))

    steps = [f.index + 1 for f in whole.frames]
    curve = [Curve(words("course.conditioning.with"), steps, dice_over_steps(whole))]
    if not on:
        curve.append(Curve(words("course.conditioning.without"), steps, dice_over_steps(shown)))
    chart = curves(curve, [words("chart.dice")], words("chart.step"), ["Dice"], least=[0.0])

    facts = dict(of_recording(shown, words)) | {"positions": len(views[0].tiles)}
    alike = "–" if on else f"{dice(whole.outcome.labels > 0, shown.outcome.labels > 0):.3f}"
    numbers = (
        Fact("Dice", f"{of_recording(whole, words)['dice']:.3f}", words("course.conditioning.with")),
        Fact("Dice", f"{facts['dice']:.3f}" if not on else "–", words("course.conditioning.without")),
        Fact(words("course.conditioning.alike"), alike, words("course.conditioning.alike_detail")),
    )
    return Seen((moving,), (chart,), numbers, facts, recording=shown)


CHAPTER = Chapter(
    key="conditioning",
    see=_see,
    controls=(SMALL, switch("dynamic"), Choice("few_steps", 5, (2, 5, 10)), SEED),
    tasks=(
        Task("first", lambda v, f: v["at"] == 0),
        Task("off", lambda v, f: v["dynamic"] == "off"),
        Task("both", lambda v, f: v["dynamic"] == "off" and v["case"] != SMALL.default),
    ),
    equations=(
        Equation(r"\mathcal A(m_I,m_x)=\bigl(\mathrm{LN}(m_I)\otimes\mathrm{LN}(m_x)\bigr)\otimes m_I", "V1 eq. 3"),
    ),
    symbols=(
        Symbol("<i>m</i><sub>x</sub>", "mx", ("tile 0.0",)),
        Symbol("𝒜", "affinity", ("tile 0.-2", "tile 0.-1")),
        Symbol("⊗ <i>m</i><sub>I</sub>", "gate", ("dynamic",)),
    ),
    sources=("medsegdiff.nn.fusion:DynamicEncoding", "medsegdiff.nn.fusion:ChannelNorm.forward"),
    fidelity=("F2", "F5", "F8", "F9"),
    blocks=("encoding",),
    minutes=12,
    answers=("b", "c"),
    prediction="c",
    log=("case", "dynamic", "few_steps", "dice"),
    kind="v1",
    panel="encoding",
)
