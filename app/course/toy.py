"""Train a tiny V2 on phantoms in about a minute, small enough to watch in the course.

    L = L_noise + L_dice + beta L_ce                                                    V2 loss, with alpha = 1 (F25)

L_noise is the cross-entropy of the logits whose squashed value is x_0 (F12); the other two are losses of the anchor.
Network, objective, diffusion and sampler are those of the package; only the loop is written here, because
`medsegdiff.training` needs MONAI and accelerate, which the demo does not install.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from app.core import catalogue
from medsegdiff.config import DiffusionConfig, V2Config
from medsegdiff.data.synthetic import draw
from medsegdiff.losses import Objective
from medsegdiff.metrics import binary_dice
from medsegdiff.nn.build import build
from medsegdiff.records import Step
from medsegdiff.sampling import MemberNoise, denoise, spaced
from medsegdiff.schedule import Diffusion

__all__ = [
    "ITERATIONS",
    "RATE",
    "History",
    "Pool",
    "Preview",
    "Trainer",
    "held_out",
    "share_of_rate",
    "trained_on",
]

SIDE, ITERATIONS, BATCH, EVERY = 32, 400, 24, 40
RATE, _WARMUP, _STEPS = 3e-3, 20, 5
_TRAINED_ON, _HELD_OUT = 96, 12
_CONFIG = V2Config(
    image_size=SIDE,
    stem=2,
    widths=(16, 32, 48),
    condition_widths=(16, 32, 48),
    blocks=1,
    ss_blocks=1,
    token_width=32,
    heads=2,
    nbp_blocks=2,
    nbp_width=8,
)


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


@dataclass(slots=True)
class Trainer:
    """A training that the caller advances in time slices."""

    seed: int
    training: Pool
    testing: Pool
    rate: float = RATE  # peak learning rate
    diffusion: Diffusion = field(init=False)
    objective: Objective = field(init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)
    _noise: list[float] = field(default_factory=list, init=False)
    _anchor: list[float] = field(default_factory=list, init=False)
    _previews: list[Preview] = field(default_factory=list, init=False)
    _seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2))
        self.objective = Objective(build(_CONFIG), self.diffusion, alpha=1, beta=1.0)
        weights = self.objective.parameters()
        self._optimizer = torch.optim.AdamW(weights, lr=self.rate, weight_decay=1e-2, betas=(0.9, 0.99))
        self._previews.append(self._preview())

    @property
    def history(self) -> History:
        """Losses and previews so far."""
        return History(tuple(self._noise), tuple(self._anchor), tuple(self._previews), self._seconds)

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return len(self._noise) >= ITERATIONS

    def advance(self, seconds: float) -> None:
        """Train for about this many seconds, at least one iteration, with a preview every `EVERY` iterations."""
        until = time.perf_counter() + seconds
        began = time.perf_counter()
        while not self.finished:
            self._iterate(len(self._noise))
            if len(self._noise) % EVERY == 0:
                self._previews.append(self._preview())
            if time.perf_counter() >= until:
                break
        self._seconds += time.perf_counter() - began

    def _iterate(self, i: int) -> None:
        rng = np.random.default_rng((self.seed, i))
        chosen, turns = rng.integers(len(self.training.labels), size=BATCH), rng.integers(4, size=BATCH)
        image = _image([np.rot90(self.training.pictures[j], k) for j, k in zip(chosen, turns, strict=True)])
        labels = torch.from_numpy(
            np.stack([np.rot90(self.training.labels[j], k) for j, k in zip(chosen, turns, strict=True)])
        )
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        t = torch.randint(self.diffusion.schedule.timesteps, (BATCH,), generator=generator)
        eps = torch.randn(BATCH, 1, SIDE, SIDE, generator=generator)
        self.objective.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate * share_of_rate(i)
        with torch.enable_grad():
            loss = self.objective(image, labels, t, eps)
            self._optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self._optimizer.step()
        self._noise.append(loss.noise.item())
        self._anchor.append((loss.anchor_dice + self.objective.beta * loss.anchor_ce).item())

    def _preview(self) -> Preview:
        *_, last = self.sample(self.testing.pictures, 0)
        masks = (self.diffusion.probability(last.x_0)[:, 1] > 0.5).numpy()
        reference = self.testing.labels > 0
        scores = [binary_dice(m, t, empty=0.0) for m, t in zip(masks, reference, strict=True)]
        return Preview(len(self._noise), masks.astype(np.uint8), float(np.mean(scores)))

    def sample(self, pictures: UInt8[ndarray, "n h w 3"], seed: int, steps: int = _STEPS) -> Iterator[Step]:
        """Sample one mask for each image."""
        self.objective.eval()
        model = self.objective.model
        with torch.no_grad():
            condition = model.encode(_image(pictures))
        times = spaced(self.diffusion.schedule.timesteps, steps)
        yield from denoise(model, condition, self.diffusion, times, MemberNoise(seed, len(pictures)), (1, SIDE, SIDE))


def _image(pictures: Sequence[ndarray] | ndarray) -> Float[Tensor, "n 3 h w"]:
    return torch.from_numpy(np.stack(list(pictures))).movedim(-1, 1).float() / 127.5 - 1


def share_of_rate(i: int) -> float:
    """Compute the learning rate at an iteration, relative to the peak: linear warm-up, then cosine decay."""
    return min(1.0, (i + 1) / _WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * i / ITERATIONS)))
