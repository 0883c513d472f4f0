"""DDPM: ancestral sampling, on any subset of the training timesteps.

    x_s ~ N( mu(x_t, x_0), sigma^2 I )      mu, beta~: mean and variance of q(x_s | x_t, x_0)      DDPM eq. 6, 7

The true variance lies between beta~, exact for known x_0, and beta = 1 - alpha_bar_t / alpha_bar_s, exact for standard normal
x_0. Without a learned variance sigma^2 = beta~. A network with a learned variance predicts v in [-1, 1], and

    log sigma^2 = f log beta + (1 - f) log beta~,     f = (v + 1) / 2                          Improved DDPM eq. 15

The last step adds no noise and returns x_0.

The equivalent in diffusers: DDPMScheduler(clip_sample=False), variance_type "fixed_small" or "learned_range". If its
last step starts at t > 0 it adds noise of variance 1e-20 (learned: between that and beta); this project adds none.

References:
    DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    Improved DDPM (Nichol & Dhariwal, 2021), https://arxiv.org/abs/2102.09672
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from medsegdiff.sampling.noise import MemberNoise
from medsegdiff.schedule import NoiseSchedule

__all__ = ["DDPM"]


@dataclass(frozen=True, slots=True)
class DDPM:
    """DDPM for one run.

    Arguments:
        schedule: used in training.
        times: timesteps, descending.
    """

    schedule: NoiseSchedule
    times: list[int]

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        """Return x_s; `variance` is the learned fraction v in [-1, 1], if there is one."""
        if s < 0:
            return x_0
        smallest, beta = self.schedule.posterior_variance(t, s)
        sigma: Tensor | float = math.sqrt(smallest)
        if variance is not None:
            f = (variance + 1) / 2
            sigma = (f * math.log(beta) + (1 - f) * math.log(smallest)).mul(0.5).exp()
        return self.schedule.posterior_mean(x_t, x_0, t, s) + sigma * noise.draw(x_t.shape[1:], x_t)
