"""Share models and cached runs on phantoms between the chapters and their visitors.

Only results on phantoms are cached, never data of a visitor.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from app.core import catalogue
from app.core.frames import Recording
from app.core.session import RunOutput, Session
from app.inputs.images import phantom
from medsegdiff.config import RunSettings
from medsegdiff.errors import InputError

if TYPE_CHECKING:  # recordings must be shown without torch
    from medsegdiff.pipeline import Segmenter, Start

__all__ = ["CASES", "Bench"]

CASES = (3, 7, 11, 5, 14)  # seeds of the phantoms used in the course; the first three have recordings
_RUNS_KEPT = 32

T = TypeVar("T")


@dataclass(slots=True)
class Bench:
    """Models and cached results shared by all visitors; hold `turn` while computing, so that computations do not overlap."""

    session: Session = field(default_factory=Session)
    turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _kept: dict[tuple[Hashable, ...], Any] = field(default_factory=dict, init=False, repr=False)
    _keeping: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def checkpoint(self, kind: str, task: str = catalogue.TASK) -> str | None:
        """Return the name of a checkpoint of a kind for a task, that with the shortest name (no variant), or None."""
        cards = ((name, self.session.card(name)) for name in self.session.sources)
        return min((name for name, card in cards if card.kind == kind and card.task == task), key=len, default=None)

    def segmenter(self, kind: str) -> "Segmenter":
        """Load this checkpoint, or return it from the cache.

        Raises:
            ValueError: There is no such checkpoint.
        """
        return self.session.segmenter(self._named(kind))

    def run(self, kind: str, case: int, settings: RunSettings, task: str = catalogue.TASK) -> Recording:
        """Segment a phantom of a task, or return the cached run."""
        name = self._named(kind, task)
        return self.keep(("run", name, case, settings), lambda: self._computed(name, case, settings))

    def start(self, kind: str, case: int) -> "Start":
        """Compute the start of a run on a phantom: the condition features before any denoising."""
        name = self._named(kind)
        return self.keep(("start", name, case), lambda: self._begun(name, case))

    def keep(self, key: tuple[Hashable, ...], compute: Callable[[], T]) -> T:
        """Compute a result on a phantom, or return it from the cache; not for data of a visitor."""
        with self._keeping:
            if key in self._kept:
                return self._kept[key]
        made = compute()
        with self._keeping:
            self._kept[key] = made
            while len(self._kept) > _RUNS_KEPT:
                self._kept.pop(next(iter(self._kept)))
        return made

    def _named(self, kind: str, task: str = catalogue.TASK) -> str:
        name = self.checkpoint(kind, task)
        if name is None:
            raise InputError(
                "checkpoint.none_of_kind",
                "no {kind} checkpoint for {task} is here; train one, or use recordings only",
                kind=kind,
                task=task,
            )
        return name

    def _computed(self, name: str, case: int, settings: RunSettings) -> Recording:
        *_, last = self.session.run(name, phantom(case, self.session.task(name)), settings)
        assert isinstance(last, RunOutput)
        return last.recording

    def _begun(self, name: str, case: int) -> "Start":
        from medsegdiff.pipeline import Start

        start = next(self.session.segmenter(name).run(phantom(case).picture))
        assert isinstance(start, Start)
        return start
