"""What a published layout can be asked, and where a set's folders lie."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from medsegdiff.data.folders import Case

__all__ = ["Layout", "fifths", "inside"]

_T = TypeVar("_T")


class Layout(Protocol):
    """How one data set is laid out on disk."""

    def recognized(self, folder: Path) -> bool:
        """Tell whether the folder looks like it."""
        ...

    def task(self, folder: Path) -> str | None:
        """Name the task, a key of `tasks.TASKS`."""
        ...

    def expected(self, split: str) -> str:
        """Say what should be there, for whom nothing was found."""
        ...

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        """Find the cases of train, val or test."""
        ...


def inside(folder: Path, *names: str) -> Path | None:
    """Find the first folder of one of these names, the folder itself and two levels within it."""
    places = chain([folder], *(sorted(folder.glob(pattern)) for pattern in ("*/", "*/*/")))
    by_name = {place.name: place for place in reversed([*places]) if place.is_dir()}
    return next((by_name[name] for name in names if name in by_name), None)


def fifths(found: Iterable[_T], split: str) -> Iterator[_T]:
    """Give every fifth to `val` and the others to `train`; `test` gets none, for it has no truth."""
    for index, one in enumerate(found):
        if split == ("val" if index % 5 == 4 else "train"):
            yield one
