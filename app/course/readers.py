"""Show a trained network where experts disagree: readers of a synthetic lung nodule beside the members of an ensemble.

The condition network returns one mask, near the readers' mean. After one step the members do the same; with more steps
they become masks that differ as the readers' do, which the squared generalised energy distance (GED) measures.

    show       members by number of steps                                                               chapter 1
    samplers   the same with DDIM beside DDPM, from the same noise                                      chapter 3
    answers    one mask from the condition network or from a fusion, beside all members, by their number    chapter 8
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from app.analysis.ensemble import beside_readers
from app.components.scrubber import Position, View, film
from app.core.frames import Recording
from app.course.bench import Bench
from app.course.chapter import Fact, Seen
from app.course.parts import PROBABILITY, outlined, probability, still
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, Figure, curves
from medsegdiff.config import RunSettings
from medsegdiff.multi_reader import diversity, energy_distance

__all__ = [
    "COUNTS",
    "MEMBERS",
    "STEPS",
    "TASK",
    "Panel",
    "answers",
    "distances",
    "joined",
    "left_out",
    "runs",
    "samplers",
    "show",
]

TASK = "lung-nodule"
STEPS = (1, 2, 5, 10)
MEMBERS = 12
COUNTS = (1, 2, 4, 8, 12)  # members that answer, beside the chosen number
_SHOWN = 3  # members
_FUSED = ("mean", "vote", "staple")


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A film about the readers, with a text above it, its chart, its numbers, and the facts that decide which tasks are done."""

    text: str
    film: Mapping[str, Any]
    chart: Figure
    numbers: tuple[Fact, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Nodule:
    """The middle half of a phantom, where the nodule is."""

    picture: paint.RGB
    readers: UInt8[ndarray, "n h w"]
    anchor: Float[ndarray, "h w"]  # probability of the condition network

    @classmethod
    def of(cls, recording: Recording) -> "_Nodule":
        seen = recording.seen.opening
        return cls(seen.picture, np.stack(seen.readers), paint.fit(seen.anchor[0], seen.picture.shape[:2]) / 255)

    @property
    def share(self) -> Float[ndarray, "h w"]:
        """Share of the readers that marked a pixel."""
        return (self.readers > 0).mean(0)

    @property
    def unmarked(self) -> int:
        """Number of readers that marked nothing."""
        return int((~(self.readers > 0).any((1, 2))).sum())

    def stills(self, count: int, words: Words) -> list[View]:
        """Return the views that do not change: readers, their share, and the condition network's answer."""
        none = np.zeros(self.picture.shape[:2], np.uint8)
        return [
            still(words("course.readers.readers"), outlined(self.picture, none, list(self.readers)), count),
            still(words("course.readers.share"), probability(self.share), count, bar=PROBABILITY),
            still(words("course.readers.alone"), probability(self.anchor), count, bar=PROBABILITY),
        ]


def joined(bench: Bench, seen: Seen, made: Callable[[], Panel], task: str) -> Seen:
    """Add a panel to a chapter; without a checkpoint trained on several readers, leave out its task instead."""
    if bench.checkpoint("v2", TASK) is None:
        return left_out(seen, task)
    panel = made()
    return Seen(
        (*seen.films, panel.film),
        (*seen.figures, panel.chart),
        (*seen.numbers, *panel.numbers),
        {**seen.facts, **panel.facts},
        panel.text,
    )


def left_out(seen: Seen, task: str) -> Seen:
    """Leave out the task that needs the readers' panel."""
    return replace(seen, facts={**seen.facts, "skipped": [task]})


def runs(bench: Bench, case: int, seed: int, sampler: str = "ddim") -> list[Recording]:
    """Segment a phantom of a lung nodule with each number of steps, from the same noise."""
    return [_run(bench, case, seed, steps, sampler) for steps in STEPS]


def _run(bench: Bench, case: int, seed: int, steps: int, sampler: str = "ddim") -> Recording:
    settings = RunSettings(members=MEMBERS, steps=steps, seed=seed, fuse="mean", sampler=sampler)
    return bench.run("v2", case, settings, TASK)


def distances(recordings: list[Recording]) -> tuple[list[float], float]:
    """Compute the squared GED to the readers: of the members for each number of steps, and of the condition network's mask."""
    found = [beside_readers(recording) for recording in recordings]
    return [beside.distance for beside in found if beside], next(b.anchor_distance[0] for b in found if b)


def show(bench: Bench, case: int, seed: int, words: Words) -> Panel:
    """Show the members by number of steps."""
    recordings = runs(bench, case, seed)
    ged, alone = distances(recordings)
    nodule = _Nodule.of(recordings[0])
    places = [
        words("course.readers.place", steps=steps, ged=f"{distance:.2f}")
        for steps, distance in zip(STEPS, ged, strict=True)
    ]
    views = nodule.stills(len(places), words)
    views.append(_mean(words("course.readers.mean", members=MEMBERS), recordings, places))
    views += [_member(words("film.one_member", number=m + 1), m, nodule, recordings, places) for m in range(_SHOWN)]
    shown = film(views, [Position(place, place) for place in places], words, run=f"readers-{case}-{seed}", smooth=False)
    chart = _by_steps([(words("course.readers.members"), ged)], alone, words)
    label = words("course.readers.ged", steps=STEPS[-1])
    numbers = (Fact(label, f"{ged[0]:.2f} · {ged[-1]:.2f} · {alone:.2f}", words("course.readers.ged_detail")),)
    return Panel(words("course.readers.text"), shown, chart, numbers, {"unmarked": nodule.unmarked})


def samplers(bench: Bench, case: int, seed: int, words: Words) -> Panel:
    """Show the members by number of steps, with DDIM beside DDPM."""
    found = {name: runs(bench, case, seed, name) for name in ("ddim", "ddpm")}
    ged = {name: distances(recordings)[0] for name, recordings in found.items()}
    _, alone = distances(found["ddim"])
    nodule = _Nodule.of(found["ddim"][0])
    both = list(zip(STEPS, ged["ddim"], ged["ddpm"], strict=True))
    places = [words("course.readers.place_both", steps=n, ddim=f"{a:.2f}", ddpm=f"{b:.2f}") for n, a, b in both]
    views = nodule.stills(len(places), words)[1:2]
    for name, recordings in found.items():
        title = words(f"settings.sampler.{name}")
        views.append(_mean(words("course.readers.mean_of", name=title, members=MEMBERS), recordings, places))
        for m in range(_SHOWN - 1):
            views.append(
                _member(words("course.readers.member_of", name=title, number=m + 1), m, nodule, recordings, places)
            )
    run = f"readers-samplers-{case}-{seed}"
    shown = film(views, [Position(place, place) for place in places], words, run=run, smooth=False)
    chart = _by_steps([(words(f"settings.sampler.{name}"), ged[name]) for name in found], alone, words)
    spread = {
        name: " · ".join(f"{diversity(one.outcome.members):.2f}" for one in recordings)
        for name, recordings in found.items()
    }
    numbers = (
        Fact(
            words("course.readers.ged_by", steps=STEPS[-1]),
            " · ".join(f"{ged[name][i]:.2f}" for name in found for i in (0, -1)),
            words("course.readers.ged_by_detail", alone=f"{alone:.2f}"),
        ),
        Fact(
            words("course.readers.diversity", steps=", ".join(map(str, STEPS))),
            spread["ddim"],
            words("course.readers.diversity_detail", readers=f"{diversity(nodule.readers):.2f}", ddpm=spread["ddpm"]),
        ),
    )
    return Panel(
        words("course.readers.text_samplers"),
        shown,
        chart,
        numbers,
        {name: distance[-1] for name, distance in ged.items()},
    )


def answers(bench: Bench, case: int, seed: int, count: int, words: Words) -> Panel:
    """Show the single answers of the condition network and of fusions beside all members, by the number of members."""
    recording = _run(bench, case, seed, STEPS[-1])
    nodule, whole = _Nodule.of(recording), recording.outcome.members
    members = (recording.seen.outcome.members > 0).astype(np.uint8)
    fused = {n: _fusions(members[:n]) for n in range(1, MEMBERS + 1)}
    known = np.stack(recording.opening.readers)
    ged = [energy_distance(whole[:n], known) for n in range(1, MEMBERS + 1)]
    _, alone = distances([recording])
    counts = sorted({*COUNTS, count})
    places = [words("course.readers.place_count", count=n, ged=f"{ged[n - 1]:.2f}") for n in counts]
    views = nodule.stills(len(places), words)
    title, none = words("course.readers.members_of"), np.zeros(nodule.picture.shape[:2], np.uint8)
    tiles = [outlined(nodule.picture, none, (), list(members[:n])) for n in counts]
    views.insert(1, View(title, tiles, [f"{title}. {place}" for place in places]))
    names = {rule: words(f"course.readers.{rule}") for rule in ("vote", "staple")}
    names = {"mean": words("course.readers.mean_map"), **names}
    for rule, name in names.items():
        one = [fused[n][rule] for n in counts]
        tiles = [probability(m) if rule == "mean" else outlined(nodule.picture, m > 0.5) for m in one]
        alts = [f"{name}. {place}" for place in places]
        views.append(View(name, tiles, alts, PROBABILITY if rule == "mean" else None))
    run = f"answers-{case}-{seed}-{count}"
    shown = film(
        views, [Position(place, place) for place in places], words, run=run, at=counts.index(count), smooth=False
    )

    def error(answer: Float[ndarray, "h w"] | Bool[ndarray, "h w"]) -> float:
        return 1e4 * float(np.square(answer - nodule.share).mean())

    index = list(range(1, MEMBERS + 1))
    condition, ends = words("course.readers.condition"), [1, MEMBERS]
    lines = [Curve(name, index, [error(fused[n][rule]) for n in index]) for rule, name in names.items()]
    lines += [
        Curve(condition, ends, [error(nodule.anchor)] * 2, mode="dots"),
        Curve(words("course.readers.members"), index, ged, panel=1),
        Curve(condition, ends, [alone] * 2, panel=1, mode="dots"),
        Curve(words("course.readers.floor"), index, [diversity(known) / n for n in index], panel=1, width=1.5),
    ]
    titles = [words("course.readers.chart_answers"), words("course.readers.chart_count")]
    chart = curves(lines, titles, words("settings.members.label"), ["10⁻⁴", "GED²"])
    chart.update_yaxes(rangemode="tozero")
    numbers = (
        Fact(
            words("course.readers.error"),
            " · ".join(f"{error(one):.0f}" for one in (nodule.anchor, *(fused[count][rule] for rule in _FUSED))),
            words("course.readers.error_detail", count=count),
        ),
        Fact(
            words("course.readers.ged_answers", count=count),
            f"{ged[count - 1]:.2f} · {alone:.2f}",
            words("course.readers.ged_answers_detail", floor=f"{diversity(known) / count:.2f}"),
        ),
        Fact(
            words("course.readers.empty"),
            f"{nodule.unmarked} / {len(nodule.readers)} · {int((~whole[:count].any((1, 2))).sum())} / {count}",
            words("course.readers.empty_detail"),
        ),
    )
    return Panel(words("course.readers.text_answers"), shown, chart, numbers, {"worse": ged[count - 1] > alone})


def _fusions(members: UInt8[ndarray, "m h w"]) -> dict[str, Float[ndarray, "h w"]]:
    """Fuse masks: their mean as a map of shares, and vote and STAPLE as masks."""
    from medsegdiff.ensemble import fuse  # imports torch

    votes = np.stack([1 - members, members], 1).astype(np.float32)
    return {"mean": members.mean(0)} | {rule: fuse(votes, rule).labels.astype(float) for rule in ("vote", "staple")}


def _mean(title: str, recordings: Sequence[Recording], places: Sequence[str]) -> View:
    tiles = [probability((r.seen.outcome.members > 0).mean(0)) for r in recordings]
    return View(title, tiles, [f"{title}. {place}" for place in places], PROBABILITY)


def _member(title: str, m: int, nodule: _Nodule, recordings: Sequence[Recording], places: Sequence[str]) -> View:
    tiles = [outlined(nodule.picture, r.seen.outcome.members[m] > 0) for r in recordings]
    return View(title, tiles, [f"{title}. {place}" for place in places])


def _by_steps(lines: Sequence[tuple[str, list[float]]], alone: float, words: Words) -> Figure:
    """Draw the GED by number of steps, with that of the condition network as a dotted line."""
    drawn = [Curve(name, list(STEPS), ged) for name, ged in lines]
    drawn.append(Curve(words("course.readers.condition"), [STEPS[0], STEPS[-1]], [alone, alone], mode="dots"))
    chart = curves(drawn, [words("course.readers.chart")], words("settings.steps.label"), ["GED²"])
    return chart.update_yaxes(rangemode="tozero").update_xaxes(tickvals=list(STEPS))
