"""DPM-Solver++ (2M): DDIM with a memory of one step.

On the way from t to s the clean mask is all that has to be guessed. DDIM holds it constant. Over half the log
signal-to-noise ratio, lambda = log( sqrt(alpha_bar) / sqrt(1 - alpha_bar) ), it is nearly a line; so look half a step
ahead on the line through the last two guesses:

    D   = x_0 + h / (2 h') (x_0 - x_0'),   h = lambda_s - lambda_t,  h' that of the step before    DPM-Solver++ alg. 2
    x_s = sqrt(1 - alpha_bar_s) / sqrt(1 - alpha_bar_t) x_t - sqrt(alpha_bar_s) (exp(-h) - 1) D

The second line is DDIM's step with D for x_0, and is computed as such. The first step has no memory and the step to
clean no finite h; there D = x_0, so the walk ends on x_0 itself. The error falls with the square of h, DDIM's with h.

The equivalent in diffusers: DPMSolverMultistepScheduler as it comes (order 2, midpoint, final sigma zero). Its
trailing spacing is ours; its linspace and leading are those of n + 1 steps without the last.

References:
    DPM-Solver++ (Lu et al., 2022), https://arxiv.org/abs/2211.01095
"""

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from medsegdiff.sampling.noise import MemberNoise
from medsegdiff.schedule import NoiseSchedule

__all__ = ["DPMSolver"]


@dataclass(slots=True)
class DPMSolver:
    """One run of DPM-Solver++; it remembers the step before, so every run needs its own.

    Arguments:
        schedule: of the training.
        times: the walk, descending.
    """

    schedule: NoiseSchedule
    times: list[int]
    _before: tuple[Tensor, float] | None = field(default=None, init=False, repr=False)  # x_0', lambda'

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        """Step from t to s; neither a learned variance nor fresh noise is used."""
        lambda_t = self._half_log_snr(t)
        aim = x_0
        if self._before is not None and s >= 0:
            x_0_before, lambda_before = self._before
            aim = x_0 + (self._half_log_snr(s) - lambda_t) / (lambda_t - lambda_before) / 2 * (x_0 - x_0_before)
        self._before = x_0, lambda_t
        return self.schedule.noised(aim, s, self.schedule.eps_from_x_0(x_t, t, aim))

    def _half_log_snr(self, t: int) -> float:
        alpha_bar = float(self.schedule.alpha_bar_at(t))
        return 0.5 * math.log(alpha_bar / (1 - alpha_bar))
