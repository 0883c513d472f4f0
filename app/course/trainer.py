"""Train a tiny V2 on phantoms in about a minute, small enough to watch in the course.

    L = L_noise + L_dice + beta L_ce                                                    V2 loss, with alpha = 1 (F25)

L_noise is the cross-entropy of the logits whose squashed value is x_0 (F12); the other two are losses of the anchor.
Network, objective, diffusion and sampler are those of the package; only the loop is written here, because
`medsegdiff.training` needs MONAI and accelerate, which the demo does not install.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from app.course.toy import ITERATIONS, RATE, SIDE, History, Pool, Preview, share_of_rate
from medsegdiff.config import DiffusionConfig, V2Config
from medsegdiff.losses import Objective
from medsegdiff.metrics import binary_dice
from medsegdiff.nn.build import build
from medsegdiff.records import Step
from medsegdiff.sampling import MemberNoise, denoise, spaced
from medsegdiff.schedule import Diffusion

__all__ = ["Trainer"]

_BATCH, _EVERY, _STEPS = 24, 20, 5
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
        with torch.random.fork_rng(devices=[]):  # one training begins at a time, see `live`
            torch.manual_seed(self.seed)
            network = build(_CONFIG)
        self.objective = Objective(network, self.diffusion, alpha=1, beta=1.0)
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
        """Train for about this many seconds, at least one iteration, with a preview every 20 iterations."""
        until = time.perf_counter() + seconds
        began = time.perf_counter()
        while not self.finished:
            self._iterate(len(self._noise))
            if len(self._noise) % _EVERY == 0:
                self._previews.append(self._preview())
            if time.perf_counter() >= until:
                break
        self._seconds += time.perf_counter() - began

    def _iterate(self, i: int) -> None:
        rng = np.random.default_rng((self.seed, i))
        chosen, turns = rng.integers(len(self.training.labels), size=_BATCH), rng.integers(4, size=_BATCH)
        image = _image([np.rot90(self.training.pictures[j], k) for j, k in zip(chosen, turns, strict=True)])
        labels = torch.from_numpy(
            np.stack([np.rot90(self.training.labels[j], k) for j, k in zip(chosen, turns, strict=True)])
        )
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        t = torch.randint(self.diffusion.schedule.timesteps, (_BATCH,), generator=generator)
        eps = torch.randn(_BATCH, 1, SIDE, SIDE, generator=generator)
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
