"""Work shared among the processes that `accelerate launch` (or torchrun) started.

Process r of w takes every w-th piece of work from the r-th on, and what was found is gathered in all of them. Started
alone, a process is the only one and nothing is asked of accelerate, which segmenting does not need.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Share"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Share:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> "Share":
        """Read it off the environment."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def of(self, work: Sequence[_T]) -> list[_T]:
        """Take this process's part."""
        return list(work[self.rank :: self.world])

    def gathered(self, found: _T) -> list[_T]:
        """Bring together what every process found, in their order; all must call."""
        if self.world == 1:
            return [found]
        from accelerate import PartialState
        from accelerate.utils import gather_object

        PartialState()  # joins the group of processes
        return gather_object([found])
