"""Chapter 9. Train a network: a tiny V2 learns to segment phantoms of 32 x 32 pixels while the student watches.

L_t = L_noise,t + 1[t mod alpha = 0] ( L_dice + beta L_ce )                                      V2 loss; here alpha = 1
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.components.scrubber import Bar, Position, View, film
from app.core.settings import Choice
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import PROBABILITY, noisy, outlined, probability
from app.course.toy import ITERATIONS, History, Pool, held_out
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, curves

if TYPE_CHECKING:  # imports torch
    from app.course.trainer import Trainer

__all__ = ["CHAPTER", "RECORDED", "TRAINED", "sampled", "show"]

RECORDED = Path(__file__).parent.parent / "recorded" / "training.npz"
TRAINED = 0.5  # Dice on held-out phantoms from which a network counts as trained
_SHOWN = 6
_BOX = 10


def show(history: History, testing: Pool, words: Words, run: str) -> Seen:
    """Show a training so far: predictions on held-out phantoms, losses and Dice."""
    previews = history.previews
    reference = (testing.labels > 0).astype(np.uint8)
    places = [
        Position(text, text)
        for p in previews
        for text in [words("course.training.place", iteration=p.iteration, dice=f"{p.dice:.3f}")]
    ]
    views = [
        View(
            words("course.training.phantom", number=i + 1),
            [outlined(testing.pictures[i], p.masks[i], (reference[i],)) for p in previews],
            [p.spoken for p in places],
        )
        for i in range(_SHOWN)
    ]
    legend = [(paint.CLASSES[0], "solid", words("film.model")), (paint.REFERENCE, "dotted", words("film.reference"))]
    shown = (film(views, places, words, run=run, legend=legend),) if previews else ()
    done = len(history.noise)
    facts = {
        "iterations": done,
        "dice": round(previews[-1].dice, 3) if previews else 0.0,
        "best": round(max((p.dice for p in previews), default=0.0), 3),
        "positions": len(previews),
    }
    numbers = (
        Fact(words("course.training.iteration"), str(done), words("course.training.of", total=ITERATIONS)),
        Fact("Dice", f"{facts['dice']:.3f}", words("course.training.dice_detail")),
        Fact(words("result.seconds"), words("result.seconds_value", seconds=f"{history.seconds:.0f}"), ""),
    )
    return Seen(shown, (_chart(history, words),), numbers, facts)


def _chart(history: History, words: Words) -> Figure:
    def smooth(values: tuple[float, ...]) -> tuple[list[int], list[float]]:
        kept = len(values) // _BOX * _BOX
        boxes = np.reshape(values[:kept], (-1, _BOX)).mean(1) if kept else np.array(values[:1])
        return [(i + 1) * _BOX for i in range(len(boxes))], boxes.tolist()

    lines = [
        Curve(words("course.training.noise_loss"), *smooth(history.noise)),
        Curve(words("course.training.anchor_loss"), *smooth(history.anchor)),
        Curve(
            words("course.training.held_out"),
            [p.iteration for p in history.previews],
            [p.dice for p in history.previews],
            panel=1,
        ),
    ]
    titles = [words("course.training.losses"), words("chart.dice")]
    chart = curves(lines, titles, words("course.training.iteration"), ["", "Dice"])
    chart.update_xaxes(range=[0, ITERATIONS], dtick=ITERATIONS // 4)
    if not history.noise:
        chart.update_layout(yaxis_range=[0, 1])
    return chart.update_layout(yaxis2_range=[-0.02, 1.02])


def sampled(trainer: "Trainer", which: int, seed: int, steps: int, words: Words) -> Seen:
    """Sample a mask from the network in its current state, step by step."""
    picture, reference = trainer.testing.pictures[which], (trainer.testing.labels[which] > 0).astype(np.uint8)
    trajectory = list(trainer.sample(picture[None], seed, steps))
    shares = [trainer.diffusion.probability(s.x_0)[0, 1].numpy() for s in trajectory]
    places = [
        Position(text, text)
        for s in trajectory
        for text in [words("course.training.step", step=s.index + 1, total=s.total, t=s.t)]
    ]
    grey = Bar(("#000000", "#ffffff"), "−3", "3")
    rows = (
        (words("film.x_t"), [noisy(s.x_t[0, 0].numpy()) for s in trajectory], grey),
        (words("film.x_0"), [probability(share) for share in shares], PROBABILITY),
        (words("film.on_picture"), [outlined(picture, share > 0.5, (reference,)) for share in shares], None),
    )
    views = [View(title, tiles, [f"{title}. {p.spoken}" for p in places], bar) for title, tiles, bar in rows]
    run = f"training-sample-{which}-{seed}-{steps}-{len(trainer.history.noise)}"
    return Seen((film(views, places, words, run=run),))


@cache
def _recorded() -> tuple[History, Pool]:
    return History.load(RECORDED), held_out()


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    """Replay the recorded training; a live one belongs to one visitor and is held by the front end."""
    return show(*_recorded(), words, "training-recorded")


CHAPTER = Chapter(
    key="training",
    see=_see,
    controls=(Choice("toy_rate", "0.003", ("0.0003", "0.003", "0.03")), Choice("toy_pool", 96, (4, 24, 96))),
    tasks=(
        Task("pause", lambda v, f: bool(f.get("paused"))),
        Task("learn", lambda v, f: f.get("best", 0) >= 0.7),
        Task("sample", lambda v, f: bool(f.get("sampled"))),
    ),
    equations=(
        Equation(
            r"\mathcal L_t=\mathcal L_{noise,t}+\mathbb 1[t\equiv0\ (\mathrm{mod}\ \alpha)]\,"
            r"\bigl(\mathcal L_{dice}+\beta\,\mathcal L_{ce}\bigr)",
            "course.training.place_loss",
        ),
    ),
    symbols=(
        Symbol("ℒ<sub>noise</sub>", "noise", ("chart 0.0",)),
        Symbol("ℒ<sub>dice</sub> + <i>β</i> ℒ<sub>ce</sub>", "anchor", ("chart 0.0",)),
        Symbol("<i>α</i>", "alpha"),
    ),
    sources=("medsegdiff.losses:Objective.forward", "medsegdiff.losses:soft_dice_loss", "app.course.toy:share_of_rate"),
    fidelity=("F12", "F25", "F28"),
    blocks=("loss",),
    minutes=15,
    answers=("a", "b"),
    prediction="b",
    log=("toy_rate", "toy_pool", "iterations", "best"),
)
