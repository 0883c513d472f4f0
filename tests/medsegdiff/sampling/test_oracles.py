"""Every sampler with an exact denoiser, on three distributions with known solutions."""

import numpy as np
import pytest
import torch
from oracles import Gaussian, OneTruth, Oracle, TwoRaters

from medsegdiff.config import DiffusionConfig
from medsegdiff.records import Step
from medsegdiff.sampling import SAMPLERS, MemberNoise, SamplingSettings, denoise, spaced
from medsegdiff.schedule import Diffusion


def last_step(oracle: Oracle, times: list[int], sampler: str, eta: float = 0.0, members: int = 8, k: int = 1) -> Step:
    """Run in float64 on masks of 4 x 4 pixels."""
    noise, shape = MemberNoise(0, members), (k, 4, 4)
    x_T = noise.draw(shape, torch.empty(0, dtype=torch.float64))
    condition = oracle.encode(x_T)
    *_, step = denoise(
        oracle, condition, oracle.diffusion, times, noise, shape, SamplingSettings(sampler, eta), x_T=x_T
    )
    return step


@pytest.mark.parametrize("parametrization", ["epsilon", "v", "x_0"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 1.0), ("ddpm", 0.0), ("dpm-solver++", 0.0)])
def test_a_single_mask_is_reached_in_any_number_of_steps(parametrization, classes, sampler, eta):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization, scale=0.5), classes)
    labels = torch.arange(16).reshape(1, 4, 4) % (classes + 1)
    truth = diffusion.from_labels(labels).double()
    for steps in (1, 2, 5, 50):
        step = last_step(OneTruth(diffusion, truth), spaced(1000, steps), sampler, eta, k=diffusion.channels)
        torch.testing.assert_close(step.x_s, truth.expand_as(step.x_s), rtol=0, atol=1e-9)
        assert torch.equal(diffusion.probability(step.x_s).argmax(1), labels.expand(8, 4, 4))


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpm-solver++", 2)])
def test_the_flow_of_a_gaussian_is_followed_at_the_order_of_the_method(sampler, order):
    # Orders are stated for even steps in lambda: those are taken, from pure noise to t = 0, on a lattice fine enough.
    diffusion = Diffusion(DiffusionConfig(timesteps=20_000, scale=100))
    alpha_bar = diffusion.schedule.alpha_bar
    half_log_snr = 0.5 * torch.log(alpha_bar / (1 - alpha_bar))
    oracle = Gaussian(diffusion, torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 4, 4), std=0.5)
    start = MemberNoise(0, 8).draw((1, 4, 4), oracle.mean)

    counts, errors = (32, 64, 128), []
    for steps in counts:
        even = torch.linspace(half_log_snr[-1], half_log_snr[0], steps, dtype=torch.float64)
        times = sorted({int((half_log_snr - value).abs().argmin()) for value in even}, reverse=True)
        arrived = last_step(oracle, times, sampler).x_t
        errors.append(float((arrived - oracle.flow(start, times[0], times[-1])).abs().max()))

    slope, _ = np.polyfit(np.log(counts), np.log(errors), 1)
    assert slope == pytest.approx(-order, abs=0.1)


@pytest.mark.parametrize(
    ("sampler", "eta", "parametrization"),
    [
        ("ddim", 0.0, "epsilon"),
        ("ddim", 0.0, "x_0"),
        ("ddim", 0.5, "v"),
        ("ddpm", 0.0, "epsilon"),
        ("dpm-solver++", 0.0, "epsilon"),
    ],
)
def test_samples_follow_the_proportions_of_two_raters(sampler, eta, parametrization):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization))
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, 1:3, 1:3] = labels[1, 1:, 1:] = 1  # a careful and a generous outline
    oracle = TwoRaters(diffusion, diffusion.from_labels(labels).double(), share=0.7)
    rater, distance = oracle.nearest(last_step(oracle, spaced(1000, 30), sampler, eta, members=2000).x_s)
    assert distance.max() < 1e-9  # each sample is one expert's mask, not a blend
    assert float((rater == 0).double().mean()) == pytest.approx(0.7, abs=0.03)  # three standard errors


def test_ddim_with_all_its_noise_renewed_is_ddpm():
    diffusion = Diffusion(DiffusionConfig())
    oracle = Gaussian(diffusion, torch.zeros(1, 1, 4, 4, dtype=torch.float64), std=0.1)
    times = spaced(1000, 37)
    torch.testing.assert_close(
        last_step(oracle, times, "ddim", eta=1.0).x_s, last_step(oracle, times, "ddpm").x_s, rtol=1e-10, atol=1e-12
    )


def test_every_sampler_is_tried_here():
    assert set(SAMPLERS) == {"ddim", "ddpm", "dpm-solver++"}
