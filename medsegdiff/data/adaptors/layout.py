"""The interface of a published layout, and helpers to find its folders and splits."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from medsegdiff.data.folders import Case
from medsegdiff.image_ref import Intensity

__all__ = ["Layout", "fifths", "inside"]

_T = TypeVar("_T")


class Layout(Protocol):
    """How one data set is laid out on disk."""

    def recognized(self, folder: Path) -> bool:
        """Whether a folder has this layout."""
        ...

    def task(self, folder: Path) -> str | None:
        """Return the task, a key of `tasks.TASKS`."""
        ...

    def provenance(self, folder: Path) -> tuple[str, str]:
        """Return source and licence of the data, which may differ from those of the task; "" for one that is not known."""
        ...

    def intensity(self, folder: Path) -> Intensity | None:
        """Return how grey values are windowed unless the task or the user states it; None is the file's own window."""
        ...

    def expected(self, split: str) -> str:
        """Describe the expected files, for error messages."""
        ...

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        """Return the cases of train, val or test."""
        ...


def inside(folder: Path, *names: str) -> Path | None:
    """Return the first folder with one of these names, down to two levels below the folder."""
    places = chain([folder], *(sorted(folder.glob(pattern)) for pattern in ("*/", "*/*/")))
    by_name = {place.name: place for place in reversed([*places]) if place.is_dir()}
    return next((by_name[name] for name in names if name in by_name), None)


def fifths(found: Iterable[_T], split: str) -> Iterator[_T]:
    """Return every fifth item for `val`, the others for `train`, and none for `test`, which has no ground truth."""
    for index, one in enumerate(found):
        if split == ("val" if index % 5 == 4 else "train"):
            yield one
