"""Use any scheduler of diffusers as a sampler, without importing diffusers.

A scheduler must have `config.prediction_type`, `alphas_cumprod`, `set_timesteps`, `timesteps`, `scale_model_input` and `step`. It
chooses its own timesteps, `len(times)` of them.

The predicted x_0 is converted to the scheduler's prediction type, whatever the network predicts:

    epsilon         eps, from x_t and x_0
    sample          x_0
    v_prediction    v, from x_t and x_0

Some schedulers scale their state, x_t / c_t, where `scale_model_input` multiplies by c_t. Here the state is always x_t.

Fresh noise comes from the members' streams if `step` takes a generator. A scheduler that draws noise without one (DPMSolverSDE)
is not reproducible by the run's seed.

References:
    Schedulers of diffusers, https://huggingface.co/docs/diffusers/api/schedulers/overview
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from medsegdiff.sampling.noise import MemberNoise
from medsegdiff.schedule import NoiseSchedule

__all__ = ["from_diffusers"]


def from_diffusers(scheduler: Any) -> Callable[[NoiseSchedule, list[int], float], "_Borrowed"]:
    """Return a `sampler` for `denoise` that uses a scheduler; each run works on its own copy.

    Raises, when a run begins: ValueError if the scheduler has another noise schedule, an unknown `prediction_type`, or
    timesteps between those of training.
    """

    def begin(schedule: NoiseSchedule, times: list[int], eta: float) -> _Borrowed:
        return _Borrowed(copy.deepcopy(scheduler), schedule, len(times), eta)

    return begin


class _Borrowed:
    def __init__(self, scheduler: Any, schedule: NoiseSchedule, steps: int, eta: float) -> None:
        theirs = getattr(scheduler, "alphas_cumprod", torch.empty(0)).double().cpu()
        if theirs.shape != schedule.alpha_bar.shape or not torch.allclose(theirs, schedule.alpha_bar, atol=1e-5):
            raise ValueError(
                f"the scheduler was built for another noise schedule than the network's ({schedule.kind}, "
                f"{schedule.timesteps} steps); build it with the same betas (`trained_betas`)"
            )
        scheduler.set_timesteps(steps)
        timesteps = list(scheduler.timesteps)
        self.times = [int(t) for t in timesteps]
        if any(float(t) != round(float(t)) for t in timesteps):
            raise ValueError("the scheduler visits times between training steps; give it timestep_spacing='trailing'")
        self._scheduler = scheduler
        self._schedule = schedule
        self._upcoming = iter(timesteps)  # as tensors: some schedulers refuse plain integers, some repeat a time
        self._takes = inspect.signature(scheduler.step).parameters
        self._eta = eta

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        timestep = next(self._upcoming)
        scaled = x_t / self._scheduler.scale_model_input(x_t.new_ones(1, 1, 1, 1), timestep)
        offered = {"eta": self._eta, "generator": noise.generators}
        extra = {name: value for name, value in offered.items() if name in self._takes}
        reached = self._scheduler.step(self._spoken(x_t, x_0, t), timestep, scaled, **extra).prev_sample
        return reached if s < 0 else self._scheduler.scale_model_input(reached, s)

    def _spoken(self, x_t: Tensor, x_0: Tensor, t: int) -> Tensor:
        match self._scheduler.config.prediction_type:
            case "epsilon":
                return self._schedule.eps_from_x_0(x_t, t, x_0)
            case "sample":
                return x_0
            case "v_prediction":
                return self._schedule.v_from_x_0(x_t, t, x_0)
            case other:
                raise ValueError(
                    f"the scheduler's prediction_type is {other!r}; epsilon, sample and v_prediction are known"
                )
