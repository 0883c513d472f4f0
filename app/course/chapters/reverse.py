"""Chapter 3. The reverse process step by step: three samplers on the same noise, and the effect of a wrong timestep.

    DDPM      x_s ~ N( mu(x_t, x_0), beta~ I )                                                        DDPM eq. 6, 7
    DDIM      x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) eps                                 DDIM eq. 12
    DPM++     as DDIM, with x_0 extrapolated from the last two predictions                            DPM-Solver++ alg. 2

The fault: a sampler that rebuilds a schedule of 50 steps, numbered 0 ... 49, passes timesteps to a network trained on
0 ... 999 that do not match the noise. Halfway, alpha_bar is 0.05, but the timestep stands for 0.99.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core.settings import Choice
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Task, Values
from app.course.parts import PROBABILITY, SEED, SMALL, dice, noisy, outlined, probability
from app.i18n import Words
from app.inputs.images import phantom
from app.views import paint
from app.views.charts import Curve, curves
from medsegdiff.config import RunSettings
from medsegdiff.pipeline import Segmenter
from medsegdiff.records import Condition, Step
from medsegdiff.sampling import MemberNoise, denoise
from medsegdiff.schedule import Diffusion, NoiseSchedule

__all__ = ["CHAPTER", "sample_with_wrong_t"]

_SHOWN, _REBUILT = 26, 50
_GREY = Bar(("#000000", "#ffffff"), "−3", "3")


@dataclass(frozen=True, slots=True, eq=False)
class _Trajectory:
    given: list[int]  # the t given to the network
    actual: list[int]  # the training timestep that matches the noise of x_t
    x_t: Float[ndarray, "p h w"]
    eps: Float[ndarray, "p h w"]
    share: Float[ndarray, "p h w"]


def sample_with_wrong_t(segmenter: Segmenter, condition: Condition, steps: int, seed: int) -> Iterator[Step]:
    """Sample with a rebuilt short schedule, whose betas and timesteps the network was not trained on."""
    rebuilt = Diffusion(replace(segmenter.diffusion.config, timesteps=steps), segmenter.diffusion.classes)
    size = segmenter.checkpoint.model_config.image_size
    shape = (rebuilt.channels, size, size)
    yield from denoise(segmenter.model, condition, rebuilt, list(reversed(range(steps))), MemberNoise(seed, 1), shape)


def _trajectory(bench: Bench, case: int, sampler: str, steps: int, seed: int, fault: bool) -> _Trajectory:

    segmenter, start = bench.segmenter("v1"), bench.start("v1", case)  # V2 was also trained on its own trajectories
    schedule = segmenter.diffusion.schedule
    if fault:
        trajectory = list(sample_with_wrong_t(segmenter, start.condition, _REBUILT, seed))
        power = NoiseSchedule(schedule.kind, _REBUILT).alpha_bar
        actual = [int((schedule.alpha_bar - power[s.t]).abs().argmin()) for s in trajectory]
    else:
        settings = segmenter.resolve_settings(RunSettings(members=1, steps=steps, sampler=sampler, seed=seed))
        trajectory = list(segmenter.denoise(start.condition, settings))
        actual = [s.t for s in trajectory]
    kept = np.unique(np.linspace(0, len(trajectory) - 1, min(_SHOWN, len(trajectory))).round().astype(int)).tolist()
    states = [trajectory[i] for i in kept]
    eps = [schedule.eps_from_x_0(s.x_t, actual[i], s.x_0) for i, s in zip(kept, states, strict=True)]
    return _Trajectory(
        [s.t for s in states],
        [actual[i] for i in kept],
        np.stack([s.x_t[0, 0].float().cpu().numpy() for s in states]),
        np.stack([e[0, 0].float().cpu().numpy() for e in eps]),
        np.stack([1 - segmenter.diffusion.probability(s.x_0.float())[0, 0].cpu().numpy() for s in states]),
    )


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, sampler, steps, seed = (values[k] for k in ("case", "sampler", "reverse_steps", "seed"))
    fault = values["times"] == "wrong"
    trajectory = bench.keep(
        ("reverse", case, sampler, steps, seed, fault), lambda: _trajectory(bench, case, sampler, steps, seed, fault)
    )
    image = phantom(case)
    picture, reference = image.picture.pixels, image.reference
    known = paint.fit(reference[0], trajectory.share.shape[1:], smooth=False) > 0
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
    rows = (
        (words("film.x_t"), [noisy(x) for x in trajectory.x_t], _GREY),
        (words("course.reverse.eps"), [noisy(e) for e in trajectory.eps], _GREY),
        (words("film.x_0"), [probability(p) for p in trajectory.share], PROBABILITY),
        (words("film.on_picture"), [outlined(picture, p > 0.5, reference) for p in trajectory.share], None),
    )
    views = [View(title, tiles, [f"{title}. {p.spoken}" for p in places], bar) for title, tiles, bar in rows]
    legend = [(paint.CLASSES[0], "solid", words("film.model")), (paint.REFERENCE, "dotted", words("film.reference"))]
    run = f"reverse-{case}-{sampler}-{steps}-{seed}-{fault}"
    shown = film(views, places, words, run=run, legend=legend)

    index = list(range(1, total + 1))
    lines = [
        Curve(words("course.reverse.given"), index, trajectory.given),
        Curve(words("course.reverse.actual"), index, trajectory.actual, width=1.5),
        Curve(words("chart.dice"), index, scores, panel=1),
    ]
    titles = [words("course.reverse.times_title"), words("chart.dice")]
    chart = curves(lines, titles, words("course.reverse.shown_step"), ["t", "Dice"], least=[None, 0.0])
    apart = max(abs(a - b) for a, b in zip(trajectory.given, trajectory.actual, strict=True))
    count = _REBUILT if fault else steps
    numbers = (
        Fact("Dice", f"{scores[-1]:.3f}", words("course.reverse.dice_detail", first=f"{scores[0]:.3f}")),
        Fact(words("course.reverse.evaluations"), str(count), words("course.reverse.evaluations_detail")),
        Fact(words("course.reverse.apart"), str(apart), words("course.reverse.apart_detail")),
    )
    return Seen((shown,), (chart,), numbers, {"dice": round(scores[-1], 3), "evaluations": count, "positions": total})


CHAPTER = Chapter(
    key="reverse",
    see=_see,
    controls=(
        SMALL,
        Choice("reverse_steps", 10, (1, 2, 5, 10, 50)),
        Choice("sampler", "ddim", ("ddim", "ddpm", "dpm-solver++")),
        Choice("times", "right", ("right", "wrong")),
        SEED,
    ),
    tasks=(
        Task("one", lambda v, f: v["times"] == "right" and v["reverse_steps"] == 1),
        Task("other", lambda v, f: v["times"] == "right" and v["sampler"] != "ddim"),
        Task("wrong", lambda v, f: v["times"] == "wrong" and v["at"] is not None),
    ),
    equations=(
        Equation(
            r"x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z", "DDIM eq. 12"
        ),
        Equation(r"\epsilon_\theta(x_t,I,t)=D\bigl((E^I_t+E^x_t,\,t),\,t\bigr)", "V1 eq. 2"),
    ),
    sources=("medsegdiff.sampling.ddim:DDIM.step", "app.course.chapters.reverse:sample_with_wrong_t"),
    fidelity=("F10", "F12", "F11"),
    minutes=15,
    log=("sampler", "reverse_steps", "times", "seed", "dice"),
    kind="v1",
)
