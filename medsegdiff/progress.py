"""Progress of a long run. Does not import torch."""

import math
from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a long run, yielded between its results."""

    done: float  # steps or slices; a slice in progress counts in part
    total: int
    left: float = math.nan  # estimated seconds left; nan if unknown
    part: object = None  # which run it is, if there are several
