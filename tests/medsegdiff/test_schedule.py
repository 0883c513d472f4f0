"""Identities of the forward process, and conversions between labels and masks."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from medsegdiff.config import DiffusionConfig
from medsegdiff.schedule import Diffusion, NoiseSchedule

KINDS = ("linear", "cosine")
EXACT = {"rtol": 1e-10, "atol": 1e-10}
SHAPE = (3, 2, 4, 4)


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0, eps = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    return x_0.clamp(-1, 1), eps


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(21, 1500), st.data())
def test_x_0_eps_and_v_convert_into_each_other(kind, timesteps, data):
    schedule = NoiseSchedule(kind, timesteps)
    t = torch.tensor(data.draw(st.lists(st.integers(0, timesteps - 1), min_size=3, max_size=3)))
    x_0, eps = drawn()
    x_t = schedule.noised(x_0, t, eps)
    signal, noise = (a.reshape(-1, 1, 1, 1) ** 0.5 for a in (schedule.alpha_bar[t], 1 - schedule.alpha_bar[t]))
    v = signal * eps - noise * x_0
    # Solving for x_0 from eps divides the last digit of x_t by the signal, which cosine lets sink to 1e-7 and below.
    torch.testing.assert_close(signal * schedule.x_0_from_eps(x_t, t, eps), signal * x_0, **EXACT)
    torch.testing.assert_close(schedule.eps_from_x_0(x_t, t, x_0), eps, **EXACT)
    torch.testing.assert_close(schedule.v_from_x_0(x_t, t, x_0), v, **EXACT)
    torch.testing.assert_close(schedule.x_0_from_v(x_t, t, v), x_0, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_signal_falls_with_t_from_the_clean_mask_to_noise(kind):
    schedule = NoiseSchedule(kind)
    assert schedule.alpha_bar_at(-1) == 1
    assert (schedule.alpha_bar_at(torch.arange(-1, 1000)).diff() < 0).all()
    assert 0 < schedule.alpha_bar[-1] < 1e-4
    signal, noise = schedule.signal_and_noise(torch.arange(-1, 1000), torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones_like(signal), **EXACT)


@pytest.mark.parametrize(("kind", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
@pytest.mark.parametrize("timesteps", [50, 1000])
def test_the_schedule_is_that_of_diffusers(kind, theirs, timesteps):
    stretch = 1000 / timesteps  # they leave the rescaling of linear betas to the caller
    scheduler = DDPMScheduler(timesteps, beta_start=1e-4 * stretch, beta_end=0.02 * stretch, beta_schedule=theirs)
    ours = NoiseSchedule(kind, timesteps).alpha_bar
    assert (ours - scheduler.alphas_cumprod).abs().max() <= 1e-6 * ours.max()


@pytest.mark.parametrize("kind", KINDS)
def test_one_posterior_step_matches_ddpm(kind):
    schedule = NoiseSchedule(kind)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar])
    alpha = alpha_bar[1:] / alpha_bar[:-1]
    x_0, x_t = drawn()
    for t in (1, 2, 500, 998):
        a, a_bar, a_bar_before = alpha[t], alpha_bar[t + 1], alpha_bar[t]
        beta = 1 - a
        to_x_0 = a_bar_before.sqrt() * beta / (1 - a_bar)  # DDPM eq. 7
        to_x_t = a.sqrt() * (1 - a_bar_before) / (1 - a_bar)
        mean = to_x_0 * x_0 + to_x_t * x_t
        torch.testing.assert_close(schedule.posterior_mean(x_t, x_0, t, t - 1), mean, **EXACT)
        smallest, largest = schedule.posterior_variance(t, t - 1)
        assert smallest == pytest.approx(float((1 - a_bar_before) / (1 - a_bar) * beta), rel=1e-10)
        assert largest == pytest.approx(float(beta), rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(-1, 998), st.data())
def test_two_posterior_steps_compose_to_one(kind, s, data):
    # q(x_s | x_t, x_0) must be what q(x_s | x_u, x_0) makes of q(x_u | x_t, x_0), for any u between.
    schedule = NoiseSchedule(kind)
    t = data.draw(st.integers(s + 1, 999))
    u = data.draw(st.integers(s, t))
    if u in (s, t):
        return
    x_0, x_t = drawn()
    mean_u, (variance_u, _) = schedule.posterior_mean(x_t, x_0, t, u), schedule.posterior_variance(t, u)
    mean_s, (variance_s, _) = schedule.posterior_mean(mean_u, x_0, u, s), schedule.posterior_variance(u, s)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    pull = float(schedule.posterior_mean(one, 0 * one, u, s))  # how far x_s follows x_u
    torch.testing.assert_close(mean_s, schedule.posterior_mean(x_t, x_0, t, s), **EXACT)
    assert variance_s + pull**2 * variance_u == pytest.approx(schedule.posterior_variance(t, s)[0], rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("timesteps", [1, 20])
def test_a_linear_schedule_too_short_for_its_betas_is_refused(timesteps):
    with pytest.raises(ValueError, match=f"a linear schedule of {timesteps} steps would reach beta >= 1"):
        NoiseSchedule("linear", timesteps)
    assert (NoiseSchedule("linear", 21).alpha_bar > 0).all()
    assert (NoiseSchedule("cosine", timesteps).alpha_bar > 0).all()


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="choose linear or cosine"):
        NoiseSchedule("sigmoid")


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_labels_masks_and_probabilities_are_consistent(classes, scale):
    diffusion = Diffusion(DiffusionConfig(scale=scale), classes)
    labels = torch.arange(48).reshape(3, 4, 4) % (classes + 1)
    x_0 = diffusion.from_labels(labels)
    assert x_0.shape == (3, diffusion.channels, 4, 4)
    assert set(x_0.unique().tolist()) == {torch.tensor(-scale).item(), torch.tensor(scale).item()}
    probability = diffusion.probability(x_0)
    assert probability.shape == (3, classes + 1, 4, 4)
    assert torch.equal(probability.argmax(1), labels)
    assert set(probability.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_pixel_of_no_class_is_background(temperature):
    x_0 = -torch.ones(1, 4, 1, 2)
    x_0[0, 2, 0, 1] = -0.9
    probability = Diffusion(DiffusionConfig(parametrization="epsilon"), 3).probability(x_0, temperature)
    assert probability[0, :, 0].T.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("classes", [1, 4])
def test_logits_give_the_same_probabilities_as_mask_and_as_anchor(classes):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.3), classes)
    logits = 3 * drawn()[1].repeat(1, 3, 1, 1)[:, : diffusion.channels]
    x_0 = diffusion.x_0(logits, torch.zeros_like(logits), 0)
    assert x_0.abs().max() <= 0.3
    torch.testing.assert_close(diffusion.probability(x_0), diffusion.probability_of_logits(logits), **EXACT)
    torch.testing.assert_close(diffusion.probability(x_0, 2.0), diffusion.probability_of_logits(logits / 2), **EXACT)


@pytest.mark.parametrize("parametrization", ["epsilon", "v"])
def test_predictions_are_clipped_to_the_scale(parametrization):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization, scale=0.3))
    x_t = torch.full((1, 1, 2, 2), 5.0)
    assert torch.equal(diffusion.x_0(-x_t, x_t, 500), torch.full_like(x_t, 0.3))
