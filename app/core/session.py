"""Load checkpoints and run them on images, yielding frames for display.

Checkpoints are loaded once and shared by all visitors; no visitor's data is stored here. torch is imported when the first
checkpoint is loaded.
"""

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from numpy import ndarray

from app.core import catalogue, domain_check, frames, zerogpu
from app.core.frames import Frame, Opening, Recording
from app.core.turns import Turns
from app.inputs.images import InputImage, phantom
from medsegdiff.config import RunSettings
from medsegdiff.errors import InputError
from medsegdiff.metrics import dice
from medsegdiff.shipped import has_weights

if TYPE_CHECKING:
    from medsegdiff.pipeline import Segmentation, Segmenter

__all__ = ["FinishedRun", "RunOutput", "Session"]

_FRAMES_KEPT = 40
_FETCHED, _CACHED = 500_000_000, 4_000_000_000  # most bytes of one checkpoint from the Hub, and of all together
_FETCHING = 180.0  # seconds before a download times out


@dataclass(frozen=True, slots=True, eq=False)
class RunOutput:
    """The last event of a run: its recording, and the result at full size."""

    recording: Recording
    result: "Segmentation"


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRun:
    """A finished run as kept in a browser session: the recording, and the masks at the image's original size."""

    recording: Recording
    labels: UInt8[ndarray, "h w"]
    members: UInt8[ndarray, "m h w"]  # at most MEMBERS_KEPT

    @classmethod
    def of(cls, finished: "RunOutput") -> "FinishedRun":
        """Extract what the page needs from the output of a run."""
        result = finished.result
        kept = len(finished.recording.outcome.members)
        return cls(finished.recording, result.labels, result.members[:kept])


@dataclass(slots=True)
class Session:
    """The checkpoints available on one server.

    Arguments:
        sources: folder of each checkpoint by name. Plain U-Nets are moved from it to `plain`.
        device: as in `Segmenter`.
    """

    sources: Mapping[str, str] = field(default_factory=catalogue.shipped)
    device: str = "auto"
    plain: dict[str, str] = field(init=False)  # plain U-Nets, available for comparison only
    fetched: dict[str, str] = field(default_factory=dict, init=False)
    turns: Turns = field(default_factory=Turns, init=False)  # one run at a time computes
    pace: dict[str, float] = field(
        default_factory=dict, init=False
    )  # seconds per step, member and pixel of the latest run
    _load: "Callable[[str], Segmenter]" = field(init=False, repr=False)
    _on_gpu: "Callable[..., Iterator[Opening | Frame | RunOutput | ValueError]] | None" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = self.sources
        self.plain = {name: folder for name, folder in given.items() if catalogue.card(folder).kind == "unet"}
        self.sources = {name: folder for name, folder in given.items() if name not in self.plain}
        loading = threading.Lock()  # concurrent first visitors wait for one load

        def load(folder: str) -> "Segmenter":
            folder = _with_weights(folder)  # a download does not delay those who use other checkpoints
            with loading:
                return _loaded(folder, "cpu" if self._on_gpu else self.device)

        self._load = load
        # A ZeroGPU Space requires this call before the page starts.
        self._on_gpu = zerogpu.on_gpu(_watch_on_gpu) if zerogpu.is_available() else None

    def folder(self, name: str) -> str:
        """Find the folder of a checkpoint of this server or of one downloaded earlier.

        Raises:
            ValueError: There is no checkpoint of this name. Paths are not accepted.
        """
        folder = self.sources.get(name) or self.plain.get(name) or self.fetched.get(name)
        if folder is None:
            raise InputError(
                "checkpoint.unknown",
                "checkpoint is {name}; choose one of {names}",
                name=f"{name!r:.80}",
                names=", ".join(self.sources) or "none here",
            )
        return folder

    def fetch(self, repository: str, revision: str, *, refresh: bool = False) -> str:
        """Download a checkpoint from the Hub, load it, and return its name.

        A checkpoint downloaded earlier is used from the local cache, unless `refresh` is set.

        Raises:
            ValueError: The name is not owner/name, or the repository is missing, too large, or not a checkpoint.
        """
        from medsegdiff.hub import cached, resolve

        repository, revision = repository.strip(), revision.strip() or "main"
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise InputError(
                "hub.name",
                "{repository} is no repository of the Hub; write owner/name",
                repository=f"{repository!r:.80}",
            )
        available = max(0, _CACHED - sum(held.size for held in cached()))
        # With a revision, `resolve` never takes the name for a local path.
        limits = {"most": min(_FETCHED, available), "longest": _FETCHING}
        folder = str(resolve(repository, revision, refresh=refresh, **limits))
        self._load(folder)
        name, plain = f"{repository}@{revision}", catalogue.card(folder).kind == "unet"
        (self.plain if plain else self.fetched)[name] = folder
        return name

    def card(self, name: str) -> catalogue.Card:
        """Return the metadata of a checkpoint."""
        return catalogue.card(self.folder(name))

    def task(self, name: str | None) -> str:
        """Return the task of a checkpoint; without a checkpoint, the default task."""
        card = self.card_of(name)
        return card.task if card else catalogue.TASK

    def card_of(self, name: str | None) -> catalogue.Card | None:
        """Return the metadata of a checkpoint, or None if none is chosen."""
        return None if name is None else self.card(name)

    def segmenter(self, name: str) -> "Segmenter":
        """Load a checkpoint, or return it from the cache."""
        return self._load(self.folder(name))

    def warm(self) -> None:
        """Load the first checkpoint in advance and time two of its steps, for `estimate`.

        Errors are suppressed: they are raised again when the checkpoint is used. Does nothing on ZeroGPU.
        """
        if self._on_gpu:
            return

        name = next(iter(self.sources), "")
        with suppress(ValueError):
            task = self.task(name)
            list(self.run(name, phantom(catalogue.examples(task)[0], task), RunSettings(members=2, steps=2)))

    def prefetch(self) -> None:
        """Download the published weights that are not on this machine, one checkpoint after another.

        Errors are suppressed: they are raised again when the checkpoint is used.
        """
        for folder in (*self.sources.values(), *self.plain.values()):
            with suppress(ValueError):
                _with_weights(folder)

    def estimate(self, name: str | None, settings: RunSettings) -> float | None:
        """Estimate the seconds of a run from the latest one measured; None if none was."""
        pace = self.pace.get(name or "")
        if pace is None or name is None:
            return None
        side = settings.size or self.card(name).size
        return pace * settings.members * settings.steps * side**2

    def check(self, name: str | None, image: InputImage) -> domain_check.ImageCheck:
        """Compare an image with the training images of a checkpoint, and of the others."""
        return domain_check.check(image, self.card_of(name), {other: self.card(other) for other in self.sources})

    def best(self, path: str) -> str:
        """Return the name of the checkpoint that fits a file best.

        Raises:
            ValueError: the file cannot be read, or no checkpoint here fits it.
        """
        return domain_check.best(path, {name: self.task(name) for name in self.sources})

    def run(
        self, name: str, image: InputImage, settings: RunSettings
    ) -> Generator[Opening | Frame | RunOutput, None, None]:
        """Segment an image, yielding the opening with the anchor, every step, and the output."""
        judged = self.check(name, image).verdict
        domain = None if judged is None else judged.facts()
        if self._on_gpu:
            events = self._on_gpu(_with_weights(self.folder(name)), self.device, name, image, settings, domain)
        else:
            events = _watch(self.segmenter(name), name, image, settings, domain)
        first = 0.0  # end of the first step, which is slower than the others
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


def _with_weights(folder: str) -> str:
    """Return the folder that has the weights of a checkpoint, downloaded if they are published and not here.

    Raises:
        ValueError: the Hub did not respond, or the download failed.
    """
    if has_weights(Path(folder)):
        return folder

    from medsegdiff.hub import weights_of

    return str(weights_of(Path(folder), longest=_FETCHING))


@lru_cache(maxsize=4)
def _loaded(folder: str, device: str) -> "Segmenter":
    from medsegdiff.checkpoint import CheckpointError, load
    from medsegdiff.pipeline import Segmenter

    try:
        return Segmenter(load(folder), device)
    except CheckpointError as error:  # do not reveal paths of the server
        error.where = ""
        raise


def _watch(
    segmenter: "Segmenter", name: str, image: InputImage, settings: RunSettings, domain: dict[str, Any] | None
) -> Iterator[Opening | Frame | RunOutput]:
    """Run a segmenter and convert its events to display size."""
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
                frame = frames.from_step(event, segmenter.probability(event.x_0), segmenter.domain.field)
                kept.append(frames.without_constants(frame, kept[0]) if kept else frame)
                yield frame
            case Segmentation():
                facts = _facts(name, image, event) | {"domain": domain}
                facts["seconds"] = round(time.perf_counter() - began, 3)
                shown = frames.sequence(kept, _FRAMES_KEPT)
                yield RunOutput(Recording(opening, shown, frames.from_segmentation(event), facts), event)


def _watch_on_gpu(
    folder: str, device: str, name: str, image: InputImage, settings: RunSettings, domain: dict[str, Any] | None
) -> Iterator[Opening | Frame | RunOutput | ValueError]:
    """Run as `_watch` does, in a process that ZeroGPU forks with a GPU attached.

    A ValueError is yielded, because the parent process would receive only the class of a raised exception. No lock is
    taken, since another thread may have held it at the fork, and torch uses one CPU thread, since OpenMP's threads are
    not forked.
    """
    import torch

    torch.set_num_threads(1)
    try:
        yield from _watch(_loaded(folder, device), name, image, settings, domain)
    except ValueError as error:
        yield error


def _facts(name: str, image: InputImage, result: "Segmentation") -> dict[str, Any]:
    """Collect the metadata of a run, as JSON types."""
    classes = len(result.domain.labels)
    picture = image.picture
    return {
        "checkpoint": name,
        "task": result.domain.task,
        "labels": list(result.domain.labels),
        "digest": result.digest,
        "settings": asdict(result.settings),
        "areas": result.areas(),
        "confidence": result.confidence(),
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
        "dice": [list(dice(result.labels, reference, classes)) for reference in frames.target(image.reference)],
        "anchor_dice": [
            list(dice(anchor, reference, classes))
            for reference in frames.target(image.reference)
            for anchor in result.anchor
        ],
    }
