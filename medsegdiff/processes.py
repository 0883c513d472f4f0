"""Distribute work over the processes started by `accelerate launch` or torchrun.

Process r of w takes every w-th item from the r-th on; results are gathered in all processes. A single process does not need
accelerate.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Share"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Share:
    """The rank of this process and the number of processes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> "Share":
        """Read both from the environment."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def of(self, work: Sequence[_T]) -> list[_T]:
        """Return the items of this process."""
        return list(work[self.rank :: self.world])

    def gathered(self, found: _T) -> list[_T]:
        """Gather one value from every process, in order of rank; all processes must call this."""
        if self.world == 1:
            return [found]
        from accelerate import PartialState
        from accelerate.utils import gather_object

        PartialState()  # joins the process group
        return gather_object([found])
