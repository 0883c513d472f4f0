"""Provide a denoiser with a closed-form answer: two experts, two masks, nothing learned.

If an image has two correct masks m_1 and m_2 with probabilities s and 1 - s, the optimal denoiser is known:

    b_i(x_t)     ~  share_i exp( -|x_t - sqrt(alpha_bar) m_i|^2 / 2 (1 - alpha_bar) )        posterior probability of m_i
    E[x_0|x_t]   =  b_1 m_1 + b_2 m_2

At t = T-1 the posterior equals the prior and the prediction is the average of the masks, which is all that a deterministic
network can give. As the noise decreases, the posterior approaches 0 or 1, and the sample becomes one of the masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from medsegdiff.config import DiffusionConfig
from medsegdiff.records import Condition, Prediction, Step, Switches
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, spaced
from medsegdiff.schedule import Diffusion

__all__ = ["TwoRaters", "beliefs", "sample", "two_raters"]

_LEAST = 1e-6  # probability of a mask; its logarithm must be finite


@dataclass(frozen=True, slots=True)
class TwoRaters:
    """The optimal denoiser for an image with two expert masks. Shapes are those of `records.Denoiser`."""

    diffusion: Diffusion  # with parametrisation x_0
    masks: Float[Tensor, "2 1 h w"]  # in {-scale, scale}
    share: float  # of the first

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Return a condition that contains the image only, which is not used."""
        return Condition((image,))

    def belief(self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " u"]) -> Float[Tensor, "b 2"]:
        """Compute the posterior probability of each mask given x_t."""
        signal, noise = self.diffusion.schedule.signal_and_noise(t, x_t)
        distance = (x_t[:, None] - signal[:, None] * self.masks).square().sum((2, 3, 4))
        prior = x_t.new_tensor([self.share, 1 - self.share]).log()
        return (prior - distance / (2 * noise.reshape(-1, 1) ** 2)).softmax(1)

    def __call__(
        self,
        x_t: Float[Tensor, "b 1 h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = Switches(),
    ) -> Prediction:
        """Predict E[x_0 | x_t], as logits."""
        x_0 = torch.einsum("bm,mkhw->bkhw", self.belief(x_t, t), self.masks)
        return Prediction((x_0 / self.diffusion.config.scale + 1).div(2).clamp(0, 1).logit())


def two_raters(masks: UInt8[ndarray, "2 h w"], share: float, scale: float) -> TwoRaters:
    """Build the optimal denoiser of two masks, of which the first has the probability `share`."""
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=scale))
    clean = diffusion.from_labels(torch.from_numpy(masks))
    return TwoRaters(diffusion, clean, min(max(share, _LEAST), 1 - _LEAST))


def sample(oracle: TwoRaters, sampler: str, steps: int, members: int, seed: int) -> list[Step]:
    """Sample masks with the optimal denoiser; the same seed gives the same starting noise to every sampler."""
    diffusion, (height, width) = oracle.diffusion, oracle.masks.shape[-2:]
    times = spaced(diffusion.schedule.timesteps, steps)
    condition, noise = oracle.encode(torch.zeros(1, 3, height, width)), MemberNoise(seed, members)
    settings = SamplingSettings(sampler=sampler)
    return list(denoise(oracle, condition, diffusion, times, noise, (1, height, width), settings))


def beliefs(oracle: TwoRaters, steps: Sequence[Step]) -> Float[ndarray, "t m"]:
    """Compute the posterior probability of the first mask at every step, for every member."""
    return np.stack([oracle.belief(step.x_t, torch.tensor([step.t]))[:, 0].numpy() for step in steps])
