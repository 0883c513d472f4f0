"""Our samplers against those of diffusers with the same noise and network, and their schedulers as samplers.

In diffusers the step after t is t - T // n (DDIM), the next of the list (DDPM) or the next noise level (DPM-Solver++);
here it is always the next of the list. Comments mark where the two are not meant to agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from oracles import Gaussian, OneTruth, Oracle
from torch import Tensor

from medsegdiff.config import DiffusionConfig
from medsegdiff.records import Condition, Prediction, Step, Switches
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, from_diffusers, spaced
from medsegdiff.schedule import Diffusion

pytestmark = pytest.mark.slow

SHAPE, MEMBERS = (1, 4, 4), 6
EXACT = 1e-12  # both sides in float64; measured 2e-15
SINGLE = 5e-6  # one side in float32; measured 2e-6
SPOKEN = {"epsilon": "epsilon", "v": "v_prediction"}
SPACINGS = {"trailing": "trailing", "leading": "leading", "even": "linspace"}


@dataclass
class Clumsy(Oracle):
    """A network whose masks overshoot, so that they are clipped; and which has an opinion on the variance."""

    def __call__(
        self, x_t: Tensor, t: Tensor, condition: Condition, *, trace: bool = False, switches: Switches = Switches()
    ) -> Prediction:
        return Prediction(torch.tanh(0.6 * x_t), torch.cos(3 * x_t))


def diffusion_in(parametrization: str = "epsilon", schedule: str = "linear") -> Diffusion:
    return Diffusion(DiffusionConfig(parametrization=parametrization, schedule=schedule))


def gaussian(diffusion: Diffusion) -> Gaussian:
    return Gaussian(diffusion, torch.linspace(-0.4, 0.4, 16).reshape(1, *SHAPE), std=0.1)


def theirs(oracle: Oracle, scheduler, steps: int, x_T: Tensor, learned: bool = False, **options) -> Tensor:
    # Solving for x_0 at the noisy end magnifies the rounding of their float32 alphas by hundreds. test_schedule
    # compares those; here ours take their place, so that what is compared is the formula.
    scheduler.alphas_cumprod = oracle.diffusion.schedule.alpha_bar
    scheduler.set_timesteps(steps)
    condition = oracle.encode(x_T)
    for t in scheduler.timesteps:
        prediction = oracle(x_T, t.reshape(1), condition)
        output = torch.cat([prediction.output, prediction.variance], 1) if learned else prediction.output
        x_T = scheduler.step(output, t, x_T, **options).prev_sample
    return x_T


def walk(oracle: Oracle, times: list[int], noise: MemberNoise, x_T: Tensor | None = None, **options) -> Iterator[Step]:
    return denoise(
        oracle,
        oracle.encode(torch.zeros(1)),
        oracle.diffusion,
        times,
        noise,
        SHAPE,
        SamplingSettings(**options),
        x_T=x_T,
    )


def ours(oracle: Oracle, times: list[int], noise: MemberNoise, x_T: Tensor | None = None, **options) -> Step:
    *_, step = walk(oracle, times, noise, x_T, **options)
    return step


def assert_agree(one: Tensor, other: Tensor, bound: float) -> None:
    """Compare the greatest error with the greatest value."""
    assert (one - other).abs().max() <= bound * other.abs().max()


def start(dtype: torch.dtype = torch.float64) -> tuple[MemberNoise, Tensor]:
    noise = MemberNoise(0, MEMBERS)
    return noise, noise.draw(SHAPE, torch.empty(0, dtype=dtype))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [2, 7, 16, 100, 999, 1000])
def test_the_spacings_are_theirs(spacing, steps):
    scheduler = DDIMScheduler(timestep_spacing=SPACINGS[spacing])
    scheduler.set_timesteps(steps)
    assert spaced(1000, steps, spacing) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("parametrization", ["epsilon", "v"])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("steps", [5, 50, 100])  # divisors of T: elsewhere theirs leaves its own list
def test_ddim(parametrization, spacing, steps):
    oracle = gaussian(diffusion_in(parametrization))
    scheduler = DDIMScheduler(
        clip_sample=False, timestep_spacing=spacing, prediction_type=SPOKEN[parametrization], set_alpha_to_one=True
    )
    noise, x_T = start()
    assert_agree(
        ours(oracle, spaced(1000, steps, spacing), noise, x_T).x_s, theirs(oracle, scheduler, steps, x_T), EXACT
    )


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_of_a_network_that_overshoots(eta):
    oracle = Clumsy(diffusion_in())
    scheduler = DDIMScheduler(clip_sample=True, timestep_spacing="trailing")
    noise, x_T = start(torch.float32)
    also, _ = start(torch.float32)
    expected = theirs(oracle, scheduler, 50, x_T, eta=eta, use_clipped_model_output=True, generator=also.generators)
    assert_agree(ours(oracle, spaced(1000, 50), noise, x_T, eta=eta).x_s, expected, SINGLE)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [5, 7, 100])
def test_ddpm(spacing, steps):
    oracle = gaussian(diffusion_in())
    scheduler = DDPMScheduler(clip_sample=False, timestep_spacing=SPACINGS[spacing])
    noise, x_T = start(torch.float32)
    also, _ = start(torch.float32)
    expected = theirs(oracle, scheduler, steps, x_T, generator=also.generators)
    assert_agree(ours(oracle, spaced(1000, steps, spacing), noise, x_T, sampler="ddpm").x_s, expected, SINGLE)


@pytest.mark.parametrize("steps", [5, 100])
def test_ddpm_with_a_learned_variance_and_clipping(steps):
    oracle = Clumsy(diffusion_in())
    scheduler = DDPMScheduler(clip_sample=True, variance_type="learned_range", timestep_spacing="leading")
    noise, x_T = start(torch.float32)
    also, _ = start(torch.float32)
    expected = theirs(oracle, scheduler, steps, x_T, learned=True, generator=also.generators)
    assert_agree(ours(oracle, spaced(1000, steps, "leading"), noise, x_T, sampler="ddpm").x_s, expected, SINGLE)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(
    "steps", [2, 5, 7, 20, 100]
)  # their float32 sigmas would tell in a single step from pure noise
def test_dpm_solver(schedule, steps):
    oracle = gaussian(diffusion_in(schedule=schedule))
    scheduler = DPMSolverMultistepScheduler(
        timestep_spacing="trailing", beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[schedule]
    )
    noise, x_T = start()
    expected = theirs(oracle, scheduler, steps, x_T)
    times = spaced(1000, steps)
    assert times == scheduler.timesteps.tolist()
    assert_agree(ours(oracle, times, noise, x_T, sampler="dpm-solver++").x_s, expected, SINGLE)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("ddim", DDIMScheduler),
        ("ddpm", DDPMScheduler),
        ("dpm-solver++", DPMSolverMultistepScheduler),
    ],
)
def test_their_schedulers_give_the_same_masks(sampler, scheduler, prediction_type):
    oracle = gaussian(diffusion_in("v"))  # what the network speaks need not be what the scheduler speaks
    clip = {} if sampler == "dpm-solver++" else {"clip_sample": False}
    borrowed = from_diffusers(scheduler(timestep_spacing="trailing", prediction_type=prediction_type, **clip))
    mine, other = (ours(oracle, spaced(1000, 20), start(torch.float32)[0], sampler=s).x_s for s in (sampler, borrowed))
    assert_agree(other, mine, SINGLE)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(),
        DDPMScheduler(),
        DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
        EulerDiscreteScheduler(timestep_spacing="trailing"),
        HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing"),
        PNDMScheduler(set_alpha_to_one=True),
        UniPCMultistepScheduler(),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_any_scheduler_reaches_a_single_mask(scheduler):
    diffusion = diffusion_in()
    truth = diffusion.from_labels(torch.arange(16).reshape(1, 4, 4) % 2)
    borrowed = from_diffusers(scheduler)
    first, second = (ours(OneTruth(diffusion, truth), spaced(1000, 10), start()[0], sampler=borrowed) for _ in range(2))
    torch.testing.assert_close(first.x_s, truth.expand_as(first.x_s), rtol=0, atol=1e-3)
    assert torch.equal(first.x_s, second.x_s)  # members' streams feed it, and no run leaves a trace on the next


def test_runs_with_one_scheduler_can_be_interleaved():
    oracle = gaussian(diffusion_in())
    borrowed = from_diffusers(DPMSolverMultistepScheduler(timestep_spacing="trailing"))

    def run(seed: int) -> Iterator[Step]:
        return walk(oracle, spaced(1000, 8), MemberNoise(seed, MEMBERS), sampler=borrowed)

    alone = list(zip(list(run(1)), list(run(2)), strict=True))
    interleaved = list(zip(run(1), run(2), strict=True))
    for apart, together in zip(alone, interleaved, strict=True):
        assert all(torch.equal(a.x_s, b.x_s) for a, b in zip(apart, together, strict=True))


def test_the_states_of_a_scheduler_with_another_scale_are_ours():
    # Euler keeps x_t / sqrt(alpha_bar_t); deterministic first order, it is DDIM in other clothes.
    oracle = gaussian(diffusion_in())
    borrowed = from_diffusers(EulerDiscreteScheduler(timestep_spacing="trailing"))
    runs = (walk(oracle, spaced(1000, 20), start()[0], sampler=sampler) for sampler in ("ddim", borrowed))
    for one, other in zip(*runs, strict=True):
        assert (one.t, one.s) == (other.t, other.s)
        torch.testing.assert_close(one.x_t, other.x_t, rtol=0, atol=1e-4)  # theirs computes at sigma = 157 in float32


def test_a_scheduler_that_does_not_fit_is_refused():
    oracle = gaussian(diffusion_in())

    def begin(scheduler) -> None:
        ours(oracle, spaced(1000, 20), start()[0], sampler=from_diffusers(scheduler))

    with pytest.raises(ValueError, match=r"another noise schedule than the network's \(linear, 1000 steps\)"):
        begin(DDIMScheduler(beta_schedule="squaredcos_cap_v2"))
    with pytest.raises(ValueError, match="visits times between training steps"):
        begin(EulerDiscreteScheduler(timestep_spacing="linspace"))
    with pytest.raises(ValueError, match="prediction_type is 'flow_prediction'"):
        begin(DPMSolverMultistepScheduler(prediction_type="flow_prediction"))
