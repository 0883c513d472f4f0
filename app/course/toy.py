"""The data and the history of the network that is trained in chapter 9. Does not import torch; `trainer` does."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from app.core import catalogue
from medsegdiff.data.synthetic import draw

__all__ = [
    "ITERATIONS",
    "RATE",
    "SIDE",
    "History",
    "Pool",
    "Preview",
    "held_out",
    "share_of_rate",
    "trained_on",
]

SIDE, ITERATIONS = 32, 400
RATE, _WARMUP = 3e-3, 20
_TRAINED_ON, _HELD_OUT = 96, 12


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A set of phantoms."""

    pictures: UInt8[ndarray, "n h w 3"]
    labels: UInt8[ndarray, "n h w"]

    def first(self, count: int) -> "Pool":
        """Return the first `count` phantoms."""
        return Pool(self.pictures[:count], self.labels[:count])


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """Masks predicted for held-out phantoms during training."""

    iteration: int
    masks: UInt8[ndarray, "n h w"]
    dice: float


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Losses and previews of a training so far."""

    noise: tuple[float, ...]  # loss of each iteration
    anchor: tuple[float, ...]
    previews: tuple[Preview, ...]
    seconds: float

    def save(self, path: Path) -> None:
        """Write the history to an .npz file."""
        kept = self.previews
        np.savez_compressed(
            path,
            noise=np.array(self.noise, np.float32),
            anchor=np.array(self.anchor, np.float32),
            seconds=self.seconds,
            at=np.array([p.iteration for p in kept]),
            dice=np.array([p.dice for p in kept], np.float32),
            masks=np.stack([p.masks for p in kept]),
        )

    @classmethod
    def load(cls, path: Path) -> "History":
        """Read a history written by `save`."""
        with np.load(path) as f:
            kept: dict[str, ndarray] = dict(f)
        found = zip(kept["at"].tolist(), kept["masks"], kept["dice"].tolist(), strict=True)
        previews = tuple(Preview(i, masks, dice) for i, masks, dice in found)
        return cls(tuple(kept["noise"].tolist()), tuple(kept["anchor"].tolist()), previews, kept["seconds"].item())


def _pool(first: int, count: int) -> Pool:
    """Generate `count` phantoms, starting from the seed `first`."""
    drawn = [draw(catalogue.TASK, seed, SIDE, raters=0) for seed in range(first, first + count)]
    return Pool(np.stack([d.image for d in drawn]), np.stack([d.labels for d in drawn]))


def held_out() -> Pool:
    """Return the held-out phantoms, used for previews."""
    return _pool(0, _HELD_OUT)


def trained_on() -> Pool:
    """Return the training phantoms."""
    return _pool(1000, _TRAINED_ON)


def share_of_rate(i: int) -> float:
    """Compute the learning rate at an iteration, relative to the peak: linear warm-up, then cosine decay."""
    return min(1.0, (i + 1) / _WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / ITERATIONS)))
