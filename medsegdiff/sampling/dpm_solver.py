"""DPM-Solver++ (2M): a second-order multistep solver.

Between t and s, DDIM treats the predicted clean mask as constant. As a function of half the log signal-to-noise ratio,
lambda = log( sqrt(alpha_bar) / sqrt(1 - alpha_bar) ), it is nearly linear; so extrapolate the last two predictions by
half a step:

    D   = x_0 + h / (2 h') (x_0 - x_0'),   h = lambda_s - lambda_t,  h' of the previous step    DPM-Solver++ alg. 2
    x_s = sqrt(1 - alpha_bar_s) / sqrt(1 - alpha_bar_t) x_t - sqrt(alpha_bar_s) (exp(-h) - 1) D

The second line is DDIM's step with D in place of x_0, and is computed as such. In the first step, which has no
predecessor, and in the last, where h is infinite, D = x_0, so the result is x_0 itself. The error is of order h^2, that
of DDIM of order h.

The equivalent in diffusers: DPMSolverMultistepScheduler with its defaults (order 2, midpoint, final sigma zero). Its
trailing spacing is the same; its linspace and leading spacings are those of n + 1 steps without the last.

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
    """DPM-Solver++ for one run; it keeps the previous prediction.

    Arguments:
        schedule: used in training.
        times: timesteps, descending.
    """

    schedule: NoiseSchedule
    times: list[int]
    _before: tuple[Tensor, float] | None = field(default=None, init=False, repr=False)  # x_0', lambda'

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        """Return x_s; neither a learned variance nor fresh noise is used."""
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
