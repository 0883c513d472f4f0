"""Compare runs: one component changed with the same noise, several setups on one image, and a sweep over step counts.

Each `Change` describes one intervention: the component it applies to, its parameters, and the quantity it replaces. Image,
checkpoint, seed and sampler stay the same. The original run is not repeated, it is the one on the screen; with eta = 0 any
difference comes from the change.

Runs are generators that yield at every step, so that callers can show progress and stop.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.core.frames import Frame, Recording, target
from app.core.session import RunOutput, Session
from app.core.settings import Slide, checked
from app.inputs.images import InputImage
from medsegdiff.config import RunSettings
from medsegdiff.errors import InputError
from medsegdiff.metrics import binary_dice, dice, mean
from medsegdiff.progress import Progress
from medsegdiff.switches import Interventions

__all__ = [
    "ANCHOR",
    "CHANGES",
    "CUTOFF",
    "PLAIN",
    "SWEEP",
    "Change",
    "Clock",
    "Pair",
    "Setup",
    "Side",
    "StepsResult",
    "agreement",
    "band",
    "change",
    "checkpoints_for",
    "compare",
    "intervene",
    "settings_of",
    "sweep_steps",
]

_CORNER = math.sqrt(0.5)  # largest radial frequency of a spectrum, in cycles per cell
_GAINS = 33  # samples of a filter profile
CUTOFF = 0.15  # default cut-off frequency, in cycles per cell


@dataclass(frozen=True, slots=True)
class Change:
    """One intervention on a network at run time."""

    key: str  # of its label
    panel: str  # the panel of the component it applies to
    dials: tuple[Slide, ...]  # its parameters
    fields: Callable[..., dict[str, Any]]  # values of the dials -> fields of records.Interventions
    custom: bool = False  # takes a profile of gains drawn by the visitor instead of dials


def band(low: float, high: float) -> tuple[float, ...]:
    """Return the gains of a filter that passes `low` to `high` (cycles per cell), with edges one sample wide."""
    radius = np.linspace(0, _CORNER, _GAINS)
    edge = radius[1]
    rising = np.clip((radius - low) / edge + 1, 0, 1)
    falling = np.clip((high - radius) / edge + 1, 0, 1)
    return tuple(np.minimum(rising, falling).round(6).tolist())


def _cutoff(field: str, default: float) -> Slide:
    return Slide(field, default, 0.0, 0.7, 0.01)


def _off(part: str) -> Callable[..., dict[str, Any]]:
    return lambda: {part: False}


CHANGES: tuple[Change, ...] = (
    Change("ff_parser", "parser", (), _off("ff_parser")),
    Change("low_pass", "parser", (_cutoff("high", CUTOFF),), lambda high: {"profile": band(0, high)}),
    Change(
        "band_pass",
        "parser",
        (_cutoff("low", CUTOFF / 2), _cutoff("high", 2 * CUTOFF)),
        lambda low, high: {"profile": band(low, high)},
    ),
    Change("high_pass", "parser", (_cutoff("low", CUTOFF),), lambda low: {"profile": band(low, _CORNER)}),
    Change("custom", "parser", (), lambda gains: {"profile": tuple(gains)}, custom=True),
    Change("dynamic_encoding", "encoding", (), _off("dynamic_encoding")),
    Change("anchor", "anchor", (), _off("anchor")),
    Change("sigma", "anchor", (Slide("sigma", 2.0, 0.1, 6.0, 0.1),), lambda sigma: {"sigma": sigma}),
    Change("ss_former", "transformer", (), _off("ss_former")),
    Change("nbp", "transformer", (), _off("nbp")),
)


def change(key: str, values: Sequence[float] = (), gains: Sequence[float] = ()) -> dict[str, Any]:
    """Translate a change and its parameters to fields of `records.Interventions`.

    Raises:
        ValueError: There is no such change, or a parameter is out of range.
    """
    row = next((row for row in CHANGES if row.key == key), None)
    if row is None:
        raise InputError(
            "setting.change",
            "change is {key}; choose {keys}",
            key=f"{key!r:.60}",
            keys=", ".join(row.key for row in CHANGES),
        )
    given = [checked(dial, value) for dial, value in zip(row.dials, values, strict=True)]
    return row.fields(gains) if row.custom else row.fields(*given)


def settings_of(recorded: Mapping[str, Any]) -> RunSettings:
    """Rebuild the settings of a run from its recording, where they are stored as JSON types."""
    return RunSettings(**{**recorded, "switches": Interventions(**recorded["switches"])})


# ------------------------------------------------------------------------------------------------- one change, same n


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A run and its repetition with one change."""

    key: str  # of the change
    before: Recording
    after: Recording
    dice: tuple[float, ...]  # between the two masks, per class at the original size; nan if neither mask has the class
    largest: float  # largest change of the mean foreground probability, in [0, 1]
    changed: float  # share of pixels whose label changed


class Clock:
    """Estimate the time left from the steps so far, excluding the first, which is slower.

    Two measured steps are the least: the time of a single one varies several times over with what else the server does.
    """

    def __init__(self) -> None:
        self.began = math.nan

    def left(self, done: int, total: int) -> float:
        """Return the estimated seconds left, when called at the end of each step; nan after the first two."""
        now = time.perf_counter()
        if done == 1:
            self.began = now
        return (now - self.began) / (done - 1) * (total - done) if done > 2 else math.nan


def intervene(
    session: Session,
    image: InputImage,
    before: Recording,
    labels: UInt8[ndarray, "h w"],
    key: str,
    fields: Mapping[str, Any],
) -> Generator[Progress | Pair, None, None]:
    """Repeat a run with one change; `labels` is the mask of the original run at full size."""
    settings = settings_of(before.facts["settings"])
    settings = replace(settings, switches=replace(settings.switches, **fields), trace=True)
    if not settings.switches.anchor:  # removed, it should not return by an average or the noise of the first run
        fuse = "auto" if settings.fuse == "anchored" else settings.fuse
        settings = replace(settings, anchor_weight=0.0, fuse=fuse, noise="auto")
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
    """Compute the Dice of each class between two predictions; nan if neither has the class."""
    return tuple(binary_dice(one == label, other == label) for label in range(1, classes + 1))


# ------------------------------------------------------------------------------------------------- several setups

ANCHOR = "none"  # instead of a sampler: without diffusion, the anchor only
PLAIN = "plain"  # instead of a sampler: a plain U-Net
SWEEP = (50, 20, 10, 5, 2, 1)  # step counts; the others are compared with the first


@dataclass(frozen=True, slots=True)
class Setup:
    """What can differ between the runs of a comparison."""

    checkpoint: str
    sampler: str  # a sampler, ANCHOR or PLAIN
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The result of one setup."""

    setup: Setup
    labels: UInt8[ndarray, "h w"]  # at the original size
    seconds: float
    dice: tuple[float, ...]  # per class against the ground truth; empty if it is unknown
    areas: dict[str, dict[str, float]]
    parameters: int


def checkpoints_for(session: Session, task: str) -> list[str]:
    """List the checkpoints for a task, plain U-Nets last."""
    known = (*session.sources, *session.fetched, *session.plain)
    return [name for name in known if session.task(name) == task]


def compare(
    session: Session, image: InputImage, settings: RunSettings, setups: Sequence[Setup]
) -> Generator[Progress | Side, None, None]:
    """Run every setup with the same image, members and seed; for a plain U-Net sampler and steps are ignored.

    Raises:
        ValueError: A checkpoint does not exist, or has no anchor (V1) where the anchor is requested.
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
        scores = tuple(d for known in target(image.reference) for d in dice(result.labels, known, len(areas)))
        yield Side(setup, result.labels, result.seconds, scores, areas, parameters)


@dataclass(frozen=True, slots=True)
class StepsResult:
    """Time and quality for one number of steps."""

    steps: int
    seconds: float
    agreement: float  # Dice against the longest run, mean over classes
    dice: float  # against the ground truth, mean over classes; nan if it is unknown


def sweep_steps(
    session: Session, name: str, image: InputImage, settings: RunSettings, steps: Sequence[int] = SWEEP
) -> Generator[Progress | StepsResult, None, None]:
    """Run the same image and noise with each number of steps."""
    longest: Side | None = None
    for event in compare(session, image, settings, [Setup(name, settings.sampler, n) for n in steps]):
        match event:
            case Progress():
                yield event
            case Side():
                longest = longest or event
                alike = agreement(event.labels, longest.labels, len(event.areas))
                yield StepsResult(event.setup.steps, event.seconds, mean(alike), mean(event.dice))
