"""Loads, reads, runs: a picture and settings in, frames out. Knows no toolkit, and holds nothing of a visitor.

Models are shared by all visitors and have no state of their own; torch is imported when the first one is asked for.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.core import catalogue, frames, zerogpu
from app.core.frames import Frame, Opening, Recording
from app.inputs.images import InputImage, phantom
from medsegdiff.metrics import dice

if TYPE_CHECKING:
    from medsegdiff.config import RunSettings
    from medsegdiff.pipeline import Segmentation, Segmenter

__all__ = ["FinishedRun", "RunOutput", "Session", "write"]

_FRAMES_KEPT = 40
_FETCHED, _CACHED = 500_000_000, 4_000_000_000  # bytes of a checkpoint from the Hub, and of all of them
_FETCHING = 180.0  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class RunOutput:
    """The end of a run: what the page keeps, and what is written to files."""

    recording: Recording
    result: "Segmentation"


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """A finished run as a page remembers it: what replays, and the mask at the picture's own size."""

    recording: Recording
    labels: UInt8[ndarray, "h w"]
    members: UInt8[ndarray, "m h w"]  # those whose masks are kept, at that size too

    @classmethod
    def of(cls, finished: "RunOutput") -> "FinishedRun":
        """Keep what a page needs of a finished run."""
        result = finished.result
        kept = len(finished.recording.outcome.members)
        return cls(finished.recording, result.labels, result.members[:kept])


@dataclass(slots=True)
class Session:
    """The checkpoints of one server.

    Arguments:
        sources: folder of each checkpoint by the name it is chosen by; then only of those that denoise.
        device: as in `Segmenter`.
    """

    sources: Mapping[str, str] = field(default_factory=catalogue.shipped)
    device: str = "auto"
    plain: dict[str, str] = field(init=False)  # U-Nets: nothing to watch, only to compare with
    fetched: dict[str, str] = field(default_factory=dict, init=False)
    pace: dict[str, float] = field(
        default_factory=dict, init=False
    )  # seconds of a member's step per pixel, last measured
    _load: "Callable[[str], Segmenter]" = field(init=False, repr=False)
    _beside: "Callable[..., Iterator[Opening | Frame | RunOutput | ValueError]] | None" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = self.sources
        self.plain = {name: folder for name, folder in given.items() if catalogue.card(folder).kind == "unet"}
        self.sources = {name: folder for name, folder in given.items() if name not in self.plain}
        loading = threading.Lock()  # two first visitors wait for one load instead of doing it twice

        def load(folder: str) -> "Segmenter":
            with loading:
                return _loaded(folder, "cpu" if self._beside else self.device)

        self._load = load
        # Asked for before the page opens, or a ZeroGPU Space closes it.
        self._beside = zerogpu.on_gpu(_watch_beside) if zerogpu.is_available() else None

    def folder(self, name: str) -> str:
        """Find where a checkpoint lies: one of this server's, or one fetched before.

        Raises:
            ValueError: it is neither. A path is never followed, whoever asks.
        """
        folder = self.sources.get(name) or self.plain.get(name) or self.fetched.get(name)
        if folder is None:
            raise ValueError(f"checkpoint is {name!r:.80}; choose one of {', '.join(self.sources) or 'none here'}")
        return folder

    def fetch(self, repository: str, revision: str, *, refresh: bool = False) -> str:
        """Fetch a checkpoint from the Hub, see that it loads, and return the name to choose or compare it by.

        What was fetched before is found without asking the Hub, unless a branch is to be refreshed.

        Raises:
            ValueError: the name is no owner/name, nothing is there, it is too large, or it is no checkpoint.
        """
        from medsegdiff.hub import cached, resolve

        repository, revision = repository.strip(), revision.strip() or "main"
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise ValueError(f"{repository!r:.80} is no repository of the Hub; write owner/name")
        tab = max(0, _CACHED - sum(held.size for held in cached()))
        # A revision is given, so that no local path is ever meant.
        limits = {"most": min(_FETCHED, tab), "longest": _FETCHING}
        folder = str(resolve(repository, revision, refresh=refresh, **limits))
        self._load(folder)
        name, plain = f"{repository}@{revision}", catalogue.card(folder).kind == "unet"
        (self.plain if plain else self.fetched)[name] = folder
        return name

    def card(self, name: str) -> catalogue.Card:
        """Say what a checkpoint is."""
        return catalogue.card(self.folder(name))

    def task(self, name: str | None) -> str:
        """Say which task a checkpoint is for; without one, the page's first."""
        card = self.card_of(name)
        return card.task if card else catalogue.TASK

    def card_of(self, name: str | None) -> catalogue.Card | None:
        """Say what a checkpoint is where one is chosen."""
        return None if name is None else self.card(name)

    def segmenter(self, name: str) -> "Segmenter":
        """Load a checkpoint, once."""
        return self._load(self.folder(name))

    def warm(self) -> None:
        """Load the first checkpoint before anybody asks for it, and time two steps of it on this machine.

        Whoever asks for it will hear what is wrong with it. A card that is lent is lent to visitors alone.
        """
        if self._beside:
            return
        from medsegdiff.config import RunSettings

        name = next(iter(self.sources), "")
        with suppress(ValueError):
            list(self.run(name, phantom(catalogue.EXAMPLES[0], self.task(name)), RunSettings(members=2, steps=2)))

    def estimate(self, name: str | None, settings: "RunSettings") -> float | None:
        """Foretell the seconds of a run from the last one measured; None before any was."""
        pace = self.pace.get(name or "")
        if pace is None or name is None:
            return None
        side = settings.size or self.card(name).size
        return pace * settings.members * settings.steps * side**2

    def run(
        self, name: str, image: InputImage, settings: "RunSettings"
    ) -> Generator[Opening | Frame | RunOutput, None, None]:
        """Segment, yielding what is seen: the opening with the anchor, every step, and the end."""
        if self._beside:
            events = self._beside(self.folder(name), self.device, name, image, settings)
        else:
            events = _watch(self.segmenter(name), name, image, settings)
        first = 0.0  # when the first step was done, which is slower than the others
        for event in events:
            match event:
                case ValueError():
                    raise event
                case Frame(index=0):
                    first = time.perf_counter()
                case Frame(index=index):
                    work = index * settings.members * (settings.size or self.card(name).size) ** 2
                    self.pace[name] = (time.perf_counter() - first) / work
                case _:
                    pass
            yield event


@lru_cache(maxsize=4)
def _loaded(folder: str, device: str) -> "Segmenter":
    from medsegdiff.checkpoint import CheckpointError, load
    from medsegdiff.pipeline import Segmenter

    try:
        return Segmenter(load(folder), device)
    except CheckpointError as error:  # where on this server it lies is not a visitor's business
        raise CheckpointError(str(error).removeprefix(f"{folder}: ")) from error


def _watch(
    segmenter: "Segmenter", name: str, image: InputImage, settings: "RunSettings"
) -> Iterator[Opening | Frame | RunOutput]:
    """Run, and turn what the network says into what is seen."""
    from medsegdiff.pipeline import Segmentation, Start
    from medsegdiff.records import Step

    began = time.perf_counter()
    opening: Opening = image.opening
    kept: list[Frame] = []
    for event in segmenter.run(image.picture, settings):
        match event:
            case Start():
                yield (opening := frames.from_start(event, image.picture.pixels, image.reference))
            case Step():
                frame = frames.from_step(event, segmenter.diffusion.probability(event.x_0.float()))
                kept.append(frames.without_constants(frame, kept[0]) if kept else frame)
                yield frame
            case Segmentation():
                facts = _facts(name, image, event) | {"seconds": round(time.perf_counter() - began, 3)}
                shown = frames.sequence(kept, _FRAMES_KEPT)
                yield RunOutput(Recording(opening, shown, frames.from_segmentation(event), facts), event)


def _watch_beside(
    folder: str, device: str, name: str, image: InputImage, settings: "RunSettings"
) -> Iterator[Opening | Frame | RunOutput | ValueError]:
    """Do the same in a process forked beside a card, which of an exception would hand on no more than its class.

    No lock is taken, since a thread of the process it was forked from may have held it; and one thread computes on the
    processor, since OpenMP's others were not forked.
    """
    import torch

    torch.set_num_threads(1)
    try:
        yield from _watch(_loaded(folder, device), name, image, settings)
    except ValueError as error:
        yield error


def _facts(name: str, image: InputImage, result: "Segmentation") -> dict[str, Any]:
    """Collect what the page says in numbers, as JSON types."""
    classes = len(result.domain.labels)
    picture = image.picture
    return {
        "checkpoint": name,
        "task": result.domain.task,
        "labels": list(result.domain.labels),
        "digest": result.digest,
        "settings": asdict(result.settings),
        "areas": result.areas(),
        "spacing_mm": result.spacing_mm,
        "picture": {
            "height": picture.height,
            "width": picture.width,
            "kind": picture.source_kind,
            "modality": picture.modality,
        },
        "slice": [picture.slice_index, picture.slice_count],
        "disagreement": float(result.disagreement.mean()),
        "phantom": image.seed,
        "dice": [list(dice(result.labels, reference, classes)) for reference in image.reference],
        "anchor_dice": [
            list(dice(anchor, reference, classes)) for reference in image.reference for anchor in result.anchor
        ],
    }


def write(folder: Path | str, finished: RunOutput) -> dict[str, Path]:
    """Write the result without loss, at the picture's own size: label image, 16-bit maps, JSON."""
    from medsegdiff.evaluation import plain
    from medsegdiff.imaging import write_labels, write_probability

    result, folder = finished.result, Path(folder)
    paths = {
        "mask": folder / "mask.png",
        "probability": folder / "probability.png",
        "disagreement": folder / "disagreement.png",
        "report": folder / "run.json",
    }
    write_labels(paths["mask"], result.labels)
    write_probability(paths["probability"], np.clip(1 - result.probability[0], 0, 1))
    write_probability(paths["disagreement"], np.clip(result.disagreement, 0, 1))
    report = plain(result.sidecar() | {"run": finished.recording.facts})  # of a class that the truth lacks: null
    paths["report"].write_text(json.dumps(report, indent=2, allow_nan=False), encoding="utf-8")
    return paths
