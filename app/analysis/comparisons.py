"""Experiments on a run: one part changed and the same noise, two setups side by side, how many steps are enough.

A `Change` is a row of a table: the part of the network it needs, the dials it has, and what it puts in the place of the
learned quantity. Everything else stays as it was: picture, checkpoint, seed, sampler. The untouched run is not computed
again, it is the one on the screen; with eta = 0 only the change can make a difference.

Runs are generators that yield at every step, so that whoever holds one may show it or stop it.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.core.frames import Frame, Recording
from app.core.session import RunOutput, Session
from app.core.settings import Slide
from app.inputs.images import InputImage
from medsegdiff.metrics import binary_dice, dice, mean
from medsegdiff.records import Progress

if TYPE_CHECKING:
    from medsegdiff.config import RunSettings

__all__ = [
    "ANCHOR",
    "CHANGES",
    "CUT",
    "LADDER",
    "PLAIN",
    "Change",
    "Clock",
    "Pair",
    "Rung",
    "Setup",
    "Side",
    "agreement",
    "band",
    "change",
    "compare",
    "intervene",
    "ladder",
    "peers",
    "settings_of",
]

_CORNER = math.sqrt(0.5)  # cycles per cell: the largest radius of a spectrum
_GAINS = 33  # of a profile with a cut-off
CUT = 0.15  # cycles per cell, where the filters of the page begin


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done to a network while it runs."""

    key: str  # of its words
    panel: str  # where it stands: the panel of the part it is done to
    dials: tuple[Slide, ...]
    fields: Callable[..., dict[str, Any]]  # dials' values -> fields of records.Interventions
    drawn: bool = False  # takes a profile of gains that somebody drew, beside its dials


def band(low: float, high: float) -> tuple[float, ...]:
    """Pass radial frequencies from `low` to `high` (cycles per cell), with edges one gain wide."""
    radius = np.linspace(0, _CORNER, _GAINS)
    edge = radius[1]
    rising = np.clip((radius - low) / edge + 1, 0, 1)
    falling = np.clip((high - radius) / edge + 1, 0, 1)
    return tuple(np.minimum(rising, falling).round(6).tolist())


def _cut(field: str, default: float) -> Slide:
    return Slide(field, default, 0.0, 0.7, 0.01)


def _off(part: str) -> Callable[..., dict[str, Any]]:
    return lambda: {part: False}


CHANGES: tuple[Change, ...] = (
    Change("ff_parser", "parser", (), _off("ff_parser")),
    Change("low_pass", "parser", (_cut("high", CUT),), lambda high: {"profile": band(0, high)}),
    Change(
        "band_pass",
        "parser",
        (_cut("low", CUT / 2), _cut("high", 2 * CUT)),
        lambda low, high: {"profile": band(low, high)},
    ),
    Change("high_pass", "parser", (_cut("low", CUT),), lambda low: {"profile": band(low, _CORNER)}),
    Change("drawn", "parser", (), lambda gains: {"profile": tuple(gains)}, drawn=True),
    Change("dynamic_encoding", "encoding", (), _off("dynamic_encoding")),
    Change("anchor", "anchor", (), _off("anchor")),
    Change("sigma", "anchor", (Slide("sigma", 2.0, 0.1, 6.0, 0.1),), lambda sigma: {"sigma": sigma}),
    Change("ss_former", "transformer", (), _off("ss_former")),
    Change("nbp", "transformer", (), _off("nbp")),
)


def change(key: str, values: Sequence[float] = (), gains: Sequence[float] = ()) -> dict[str, Any]:
    """Say a change in fields of `records.Interventions`.

    Raises:
        ValueError: there is no such change, or a dial is out of its range.
    """
    row = next((row for row in CHANGES if row.key == key), None)
    if row is None:
        raise ValueError(f"change is {key!r:.60}; choose {', '.join(row.key for row in CHANGES)}")
    for dial, value in zip(row.dials, values, strict=True):
        if not isinstance(value, int | float) or not dial.low <= value <= dial.high:
            raise ValueError(f"{dial.field} is {value!r:.60}; choose {dial.low} to {dial.high}")
    return row.fields(gains) if row.drawn else row.fields(*values)


def settings_of(told: Mapping[str, Any]) -> "RunSettings":
    """Build the settings of a run again from what it recorded of them, as JSON types."""
    from medsegdiff.config import RunSettings
    from medsegdiff.records import Interventions

    return RunSettings(**{**told, "switches": Interventions(**told["switches"])})


# ------------------------------------------------------------------------------------------------ one part changed


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """An untouched run and the same run with one change."""

    key: str  # of the change
    before: Recording
    after: Recording
    dice: tuple[float, ...]  # of each class between the two masks, at the picture's own size; nan where neither has it
    largest: float  # change of the mean foreground probability on the screen, in [0, 1]
    changed: float  # share of the picture whose label changed


class Clock:
    """How long the rest will take, from the steps so far without the first, which is slower."""

    def __init__(self) -> None:
        self.began = math.nan

    def left(self, done: int, total: int) -> float:
        """Say so in seconds, at the moment that a step is done; nan before the second."""
        now = time.perf_counter()
        if done == 1:
            self.began = now
        return (now - self.began) / (done - 1) * (total - done) if done > 1 else math.nan


def intervene(
    session: Session,
    image: InputImage,
    before: Recording,
    labels: UInt8[ndarray, "h w"],
    key: str,
    fields: Mapping[str, Any],
) -> Generator[Progress | Pair, None, None]:
    """Run again what is on the screen with one change; `labels` is its mask at the picture's own size."""
    settings = settings_of(before.facts["settings"])
    settings = replace(settings, switches=replace(settings.switches, **fields), trace=True)
    clock = Clock()
    for event in session.run(before.facts["checkpoint"], image, settings):
        match event:
            case Frame(index=index, total=total):
                yield Progress(index + 1, total, clock.left(index + 1, total))
            case RunOutput(recording=after, result=result):
                difference = after.outcome.probability.astype(int) - before.outcome.probability
                yield Pair(
                    key,
                    before,
                    after,
                    agreement(result.labels, labels, len(before.facts["labels"])),
                    float(np.abs(difference).max()) / 255,
                    float((result.labels != labels).mean()),
                )


def agreement(one: UInt8[ndarray, "h w"], other: UInt8[ndarray, "h w"], classes: int) -> tuple[float, ...]:
    """Dice of each class between two masks, neither of them the truth: nan only where neither has the class."""
    return tuple(binary_dice(one == label, other == label) for label in range(1, classes + 1))


# ---------------------------------------------------------------------------------------------- setups side by side

ANCHOR = "none"  # in the place of a sampler: no denoising, the condition network alone
PLAIN = "plain"  # in the place of whatever was chosen: a plain U-Net has no other way
LADDER = (50, 20, 10, 5, 2, 1)  # steps, the longest first, since the others are compared with it


@dataclass(frozen=True, slots=True)
class Setup:
    """What may differ between two runs on the same picture and seed."""

    checkpoint: str
    sampler: str  # one of the page's, ANCHOR or PLAIN
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A setup's result."""

    setup: Setup
    labels: UInt8[ndarray, "h w"]  # at the picture's own size
    seconds: float
    dice: tuple[float, ...]  # of each class against the truth, where it is known; else empty
    areas: dict[str, dict[str, float]]
    parameters: int


def peers(session: Session, task: str) -> list[str]:
    """Name the checkpoints of a task that can be compared, plain U-Nets last."""
    known = (*session.sources, *session.fetched, *session.plain)
    return [name for name in known if session.task(name) == task]


def compare(
    session: Session, image: InputImage, settings: "RunSettings", setups: Sequence[Setup]
) -> Generator[Progress | Side, None, None]:
    """Run every setup on the same picture, members and seed; of a plain U-Net only the checkpoint counts.

    Raises:
        ValueError: a checkpoint without a condition network is asked for it (V1), or one that is not there.
    """
    setups = [Setup(s.checkpoint, PLAIN, 0) if s.checkpoint in session.plain else s for s in setups]
    total, done = sum(1 if s.sampler in (ANCHOR, PLAIN) else s.steps for s in setups), 0
    clock = Clock()
    for setup in setups:
        if setup.sampler in (ANCHOR, PLAIN):
            result = session.segmenter(setup.checkpoint).anchor(image.picture, settings)
            done += 1
            yield Progress(done, total, clock.left(done, total), setup)
        else:
            own = replace(settings, sampler=setup.sampler, steps=setup.steps, trace=False)
            result = None
            for event in session.run(setup.checkpoint, image, own):
                match event:
                    case Frame():
                        done += 1
                        yield Progress(done, total, clock.left(done, total), setup)
                    case RunOutput():
                        result = event.result
            assert result is not None
        areas, parameters = result.areas(), session.card(setup.checkpoint).parameters
        scores = dice(result.labels, image.reference[0], len(areas)) if image.reference else ()
        yield Side(setup, result.labels, result.seconds, scores, areas, parameters)


@dataclass(frozen=True, slots=True)
class Rung:
    """One number of steps, measured on this machine."""

    steps: int
    seconds: float
    agreement: float  # Dice with the longest run, mean over classes
    dice: float  # against the truth, mean over classes; nan where there is none


def ladder(
    session: Session, name: str, image: InputImage, settings: "RunSettings", steps: Sequence[int] = LADDER
) -> Generator[Progress | Rung, None, None]:
    """Run the same noise with ever fewer steps."""
    longest: Side | None = None
    for event in compare(session, image, settings, [Setup(name, settings.sampler, n) for n in steps]):
        match event:
            case Progress():
                yield event
            case Side():
                longest = longest or event
                alike = agreement(event.labels, longest.labels, len(event.areas))
                yield Rung(event.setup.steps, event.seconds, mean(alike), mean(event.dice))
