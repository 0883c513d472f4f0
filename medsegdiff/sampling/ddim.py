"""DDIM: denoising diffusion implicit models, which keep the predicted noise instead of drawing new noise.

    x_s   = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma z                    DDIM eq. 12
    sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)      DDIM eq. 16

with fresh noise z. Equivalently, x_0 is noised again to s by the predicted noise, of which a share rho^2 is replaced by z:

    x_s   = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) ( sqrt(1 - rho^2) eps + rho z )
    rho^2 = eta^2 (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t)

eta = 0 is deterministic: each x_T gives one mask. eta = 1 is DDPM. The last step returns x_0. The predicted noise is
computed from x_t and x_0, so that the three are consistent where x_0 was clipped.

The equivalent in diffusers: DDIMScheduler(clip_sample=False), or clip_sample=True with `use_clipped_model_output`. It
uses t - T // n as the step after t, this project the next in the list; with trailing or leading spacing and n a divisor
of T these are the same.

References:
    DDIM (Song et al., 2021), https://arxiv.org/abs/2010.02502
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from medsegdiff.sampling.noise import MemberNoise
from medsegdiff.schedule import NoiseSchedule

__all__ = ["DDIM"]


@dataclass(frozen=True, slots=True)
class DDIM:
    """DDIM for one run.

    Arguments:
        schedule: used in training.
        times: timesteps, descending.
        eta: 0 deterministic, 1 as much fresh noise as DDPM.
    """

    schedule: NoiseSchedule
    times: list[int]
    eta: float = 0.0

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        """Return x_s; a learned variance is not used."""
        eps = self.schedule.eps_from_x_0(x_t, t, x_0)
        if self.eta > 0 and s >= 0:
            _, beta = self.schedule.posterior_variance(t, s)
            rho = self.eta * math.sqrt(beta / (1 - float(self.schedule.alpha_bar_at(t))))
            eps = math.sqrt(1 - rho**2) * eps + rho * noise.draw(x_t.shape[1:], x_t)
        return self.schedule.noised(x_0, s, eps)
