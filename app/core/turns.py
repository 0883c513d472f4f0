"""One run at a time computes, in the order in which they came, whether a page or a program started it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medsegdiff.errors import InputError

__all__ = ["Turns"]


@dataclass(slots=True, eq=False)
class _Place:
    seen: float  # when its run last moved on


@dataclass(slots=True)
class Turns:
    """A line of runs, for threads.

    Arguments:
        patience: seconds without a step after which the run at the head loses its turn: whoever held it is gone.
    """

    patience: float = 300.0
    _line: deque[_Place] = field(default_factory=deque, init=False, repr=False)
    _change: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)

    @contextmanager
    def place(self) -> Iterator[Callable[[float], int]]:
        """Stand in line; yield a function that waits so many seconds at most and returns how many runs are ahead."""
        mine = _Place(time.monotonic())
        with self._change:
            self._line.append(mine)

        def ahead(seconds: float) -> int:
            with self._change:
                mine.seen = time.monotonic()
                if mine not in self._line:
                    raise InputError("run.turn", "the run stood still for too long and lost its turn; start it again")
                head = self._line[0]
                if head is not mine and time.monotonic() - head.seen > self.patience:
                    self._line.popleft()
                    self._change.notify_all()
                elif head is not mine and seconds:
                    self._change.wait(seconds)
                return self._line.index(mine)

        try:
            yield ahead
        finally:
            with self._change:
                if mine in self._line:
                    self._line.remove(mine)
                self._change.notify_all()
