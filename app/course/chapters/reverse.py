"""Chapter 3. The reverse process step by step: three samplers on the same noise, and the effect of a wrong timestep.

    DDPM      x_s ~ N( mu(x_t, x_0), beta~ I )                                                        DDPM eq. 6, 7
    DDIM      x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) eps                                 DDIM eq. 12
    DPM++     as DDIM, with x_0 extrapolated from the last two predictions                            DPM-Solver++ alg. 2

The fault: the timesteps of a run are renumbered 0, 1, 2 ... for the network, as in code that rebuilds a short schedule. The
network was trained on each of these numbers, but with far less noise. The sampler and the noise are those of a correct run.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core.settings import Choice
from app.course import pixel, readers
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import PROBABILITY, SEED, SMALL, dice, noisy, outlined, probability
from app.i18n import Words
from app.inputs.images import phantom
from app.views import paint
from app.views.charts import Curve, curves

__all__ = ["CHAPTER"]

_SHOWN, _STARTS = 26, 4
_GREY = Bar(("#000000", "#ffffff"), "−3", "3")


@dataclass(frozen=True, slots=True, eq=False)
class _Trajectory:
    given: list[int]  # the t given to the network
    actual: list[int]  # the t of the noise in x_t
    x_t: Float[ndarray, "p h w"]
    eps: Float[ndarray, "p h w"]
    share: Float[ndarray, "p h w"]
    scores: list[float]  # Dice of the mask from each starting noise; the first one is shown


def _trajectory(bench: Bench, case: int, sampler: str, steps: int, seed: int, fault: bool) -> _Trajectory:
    from app.course import networks  # imports torch

    segmenter, start = bench.segmenter("v1"), bench.start("v1", case)  # V2 was also trained on its own trajectories
    schedule = segmenter.diffusion.schedule
    trajectory = list(networks.run_of(segmenter, start.condition, steps, sampler, seed, _STARTS, fault=fault))
    times = [step.t for step in trajectory]
    shares = 1 - segmenter.probability(trajectory[-1].x_0)[:, 0].cpu().numpy()
    known = _known(case, shares.shape[1:])
    kept = np.unique(np.linspace(0, len(trajectory) - 1, min(_SHOWN, len(trajectory))).round().astype(int)).tolist()
    states = [trajectory[i] for i in kept]
    eps = [schedule.eps_from_x_0(s.x_t[:1], s.t, s.x_0[:1]) for s in states]
    return _Trajectory(
        [len(times) - 1 - i if fault else times[i] for i in kept],
        [s.t for s in states],
        np.stack([s.x_t[0, 0].float().cpu().numpy() for s in states]),
        np.stack([e[0, 0].float().cpu().numpy() for e in eps]),
        np.stack([1 - segmenter.probability(s.x_0[:1])[0, 0].cpu().numpy() for s in states]),
        [dice(share > 0.5, known) for share in shares],
    )


def _known(case: int, size: tuple[int, int]) -> Bool[ndarray, "h w"]:
    return paint.fit(phantom(case).reference[0], size, smooth=False) > 0


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, sampler, steps, seed = (values[k] for k in ("case", "sampler", "reverse_steps", "seed"))
    fault = values["times"] == "wrong"

    def computed(wrong: bool) -> _Trajectory:
        key = ("reverse", case, sampler, steps, seed, wrong)
        return bench.keep(key, lambda: _trajectory(bench, case, sampler, steps, seed, wrong))

    right = computed(False)
    trajectory = computed(True) if fault else right
    image = phantom(case)
    picture, reference = image.picture.pixels, image.reference
    known = _known(case, trajectory.share.shape[1:])
    scores = [dice(share > 0.5, known) for share in trajectory.share]
    total = len(trajectory.given)
    places = [
        Position(text, text)
        for i, (given, actual) in enumerate(zip(trajectory.given, trajectory.actual, strict=True))
        for text in [
            words("course.reverse.wrong_place", step=i + 1, total=total, given=given, actual=actual)
            if fault
            else words("course.reverse.place", step=i + 1, total=total, t=given, dice=f"{scores[i]:.3f}")
        ]
    ]
    masks = [outlined(picture, p > 0.5, reference) for p in trajectory.share]
    rows = [
        (words("film.x_t"), [noisy(x) for x in trajectory.x_t], _GREY),
        (words("course.reverse.eps"), [noisy(e) for e in trajectory.eps], _GREY),
        (words("film.x_0"), [probability(p) for p in trajectory.share], PROBABILITY),
        (words("course.reverse.with_wrong") if fault else words("film.on_picture"), masks, None),
    ]
    if fault:
        other = [outlined(picture, p > 0.5, reference) for p in right.share]
        rows.append((words("course.reverse.with_right"), other, None))
    views = [View(title, tiles, [f"{title}. {p.spoken}" for p in places], bar) for title, tiles, bar in rows]
    legend = [(paint.CLASSES[0], "solid", words("film.model")), (paint.REFERENCE, "dotted", words("film.reference"))]
    run = f"reverse-{case}-{sampler}-{steps}-{seed}-{fault}"
    shown = film(views, places, words, run=run, legend=legend)

    index, starts = list(range(1, total + 1)), list(range(1, _STARTS + 1))
    names = {False: words("course.reverse.with_right"), True: words("course.reverse.with_wrong")}
    lines = [Curve(names[False], starts, right.scores, panel=1, mode="markers")]
    if fault:
        lines += [
            Curve(names[True], starts, trajectory.scores, panel=1, mode="markers"),
            Curve(words("course.reverse.given"), index, trajectory.given),
            Curve(words("course.reverse.actual"), index, trajectory.actual, width=1.5),
        ]
    else:
        lines.append(Curve(words("chart.dice"), index, scores))
    titles = [
        words("course.reverse.times_title") if fault else words("chart.dice"),
        words("course.reverse.starts_title"),
    ]
    chart = curves(lines, titles, "", ["t" if fault else "Dice", "Dice"], least=[None if fault else 0.0, 0.0])
    chart.update_layout(xaxis_title=words("course.reverse.shown_step"), xaxis2_title=words("course.reverse.start"))
    apart = max(abs(a - b) for a, b in zip(trajectory.given, trajectory.actual, strict=True))
    means = {False: float(np.mean(right.scores)), True: float(np.mean(trajectory.scores))}
    numbers = (
        Fact("Dice", f"{scores[-1]:.3f}", words("course.reverse.dice_detail", first=f"{scores[0]:.3f}")),
        Fact(
            words("course.reverse.starts", count=_STARTS),
            " · ".join(f"{means[wrong]:.3f}" for wrong in (False, True) if fault or not wrong),
            words("course.reverse.starts_both" if fault else "course.reverse.starts_right"),
        ),
        Fact(words("course.reverse.evaluations"), str(steps), words("course.reverse.evaluations_detail")),
        Fact(words("course.reverse.apart"), str(apart), words("course.reverse.apart_detail")),
    )
    moved = {name: pixel.particles(0.5, name, steps, seed) for name in ("ddim", "ddpm")}
    reached = " · ".join(f"{100 * pixel.at_a_mode(one):.0f} %" for one in moved.values())
    numbers += (Fact(words("course.pixel.reached"), reached, words("course.pixel.reached_detail", steps=steps)),)
    paths = pixel.paths_chart(0.5, [(words(f"settings.sampler.{name}"), one) for name, one in moved.items()], words)
    at = min(max(int(values["at"]), 0), total - 1) if values["at"] is not None else total - 1
    facts = {"dice": round(scores[-1], 3), "evaluations": steps, "positions": total, "given": trajectory.given[at]}
    seen = Seen((shown,), (chart, paths), numbers, facts)
    return readers.joined(bench, seen, lambda: readers.samplers(bench, case, seed, words), "nearer")


CHAPTER = Chapter(
    key="reverse",
    see=_see,
    controls=(
        SMALL,
        Choice("reverse_steps", 10, (1, 2, 5, 10, 25)),
        Choice("sampler", "ddim", ("ddim", "ddpm", "dpm-solver++")),
        Choice("times", "right", ("right", "wrong")),
        SEED,
    ),
    tasks=(
        Task("one", lambda v, f: v["times"] == "right" and v["reverse_steps"] == 1),
        Task("other", lambda v, f: v["times"] == "right" and v["sampler"] != "ddim"),
        Task("wrong", lambda v, f: v["times"] == "wrong" and v["at"] is not None),
        Task("nearer", lambda v, f: f.get("ddim", 1) < f.get("ddpm", 0)),
    ),
    equations=(
        Equation(
            r"x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z", "DDIM eq. 12"
        ),
        Equation(r"\epsilon_\theta(x_t,I,t)=D\bigl((E^I_t+E^x_t,\,t),\,t\bigr)", "V1 eq. 2"),
    ),
    symbols=(
        Symbol("<i>x</i><sub>t</sub>", "xt", ("tile 0.0",)),
        Symbol("<i>ε̂</i>", "eps", ("tile 0.1",)),
        Symbol("<i>x̂</i><sub>0</sub>", "x0", ("tile 0.2",)),
        Symbol("<i>t</i>", "t", ("times",), "given"),
        Symbol("<i>σ</i>", "sigma", ("sampler",)),
    ),
    sources=("medsegdiff.sampling.ddim:DDIM.step", "app.course.networks:Renumbered.__call__"),
    fidelity=("F10", "F12", "F11"),
    blocks=("sampler_block",),
    minutes=15,
    answers=("a", "c"),
    prediction="b",
    log=("case", "sampler", "reverse_steps", "times", "seed", "dice"),
    kind="v1",
)
