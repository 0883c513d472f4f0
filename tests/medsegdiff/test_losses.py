"""Losses against their formulas, and against networks with a known minimum."""

import math

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from oracles import Gaussian, OneTruth, Oracle, TwoRaters
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from medsegdiff.config import DiffusionConfig, V1Config
from medsegdiff.losses import Loss, Objective, soft_dice_loss
from medsegdiff.nn.build import build
from medsegdiff.records import Condition, Prediction
from medsegdiff.sampling import MemberNoise, denoise
from medsegdiff.schedule import Diffusion

IMAGE = torch.zeros(1, 3, 4, 4)
LABELS = torch.arange(16).reshape(1, 4, 4)
PLACEHOLDER = build(V1Config(image_size=32, stem=2, widths=(1, 1, 1, 1)))  # an oracle takes its place
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32


class Says(nn.Module):
    """Gives the answer, and the opinion, that it was given."""

    def __init__(self, output: Tensor, variance: Tensor | None = None, anchor: Tensor | None = None) -> None:
        super().__init__()
        self.output, self.variance, self.anchor = output, variance, anchor

    def encode(self, image: Tensor) -> Condition:
        return Condition((image,), () if self.anchor is None else (self.anchor,))

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        return Prediction(self.output, self.variance)


class Knows(nn.Module):
    """Answers as an oracle does, within what a cross-entropy can judge: an infinite logit is more than it can."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def encode(self, image: Tensor) -> Condition:
        return self.oracle.encode(image)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Prediction:
        return Prediction(self.oracle(x_t, t, condition).output.clamp(-50, 50))


def judged(model: nn.Module, diffusion: Diffusion, labels: Tensor, t: list[int], eps: Tensor, **weights: float) -> Loss:
    objective = Objective(PLACEHOLDER, diffusion, **({"alpha": 1, "beta": 1.0} | weights))
    objective.model = model
    return objective(IMAGE.expand(len(t), -1, -1, -1), labels, torch.tensor(t), eps)


def shares(logits: np.ndarray) -> np.ndarray:
    """Class probabilities, foreground only for one class."""
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_soft_dice_loss_is_that_of_monai(generator, classes):
    binary = classes == 1
    labels = torch.randint(classes + 1, (4, 9, 7), generator=generator)
    labels[0] = 0  # no class is there
    logits = 3 * torch.randn(4, 1 if binary else classes + 1, 9, 7, generator=generator)
    oracle = DiceLoss(
        sigmoid=binary, softmax=not binary, to_onehot_y=not binary, include_background=binary, reduction="none"
    )
    expected = oracle(logits, labels[:, None].float()).flatten(1).mean(1)
    assert_close(soft_dice_loss(logits, labels), expected, **ROUNDING)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_anchor_loss_applies_where_t_is_a_multiple_of_alpha(generator, classes):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0"), classes)
    shape = (4, diffusion.channels, 4, 4)
    output, anchor, eps = torch.randn(3, *shape, generator=generator)
    labels = torch.randint(classes + 1, (4, 4, 4), generator=generator)
    loss = judged(Says(output, anchor=anchor), diffusion, labels, [0, 3, 5, 7], eps, alpha=5, beta=10.0, dice=0.5)

    truth = np.eye(classes + 1)[labels].transpose(0, 3, 1, 2)
    truth = truth[:, 1:] if classes == 1 else truth

    def cross_entropy(logits: Tensor) -> np.ndarray:
        p = shares(logits.double().numpy())
        terms = truth * np.log(p) + (1 - truth) * np.log(1 - p) if classes == 1 else truth * np.log(p)
        return -terms.sum(1).mean((1, 2))

    def dice(logits: Tensor) -> np.ndarray:  # of the foreground classes; 1e-5 keeps an absent class finite
        p = shares(logits.double().numpy())
        overlap, sizes = (p * truth).sum((2, 3)), p.sum((2, 3)) + truth.sum((2, 3))
        each = 1 - (2 * overlap + 1e-5) / (sizes + 1e-5)
        return (each if classes == 1 else each[:, 1:]).mean(1)

    due = np.array([1, 0, 1, 0])
    noise = (cross_entropy(output) + 0.5 * dice(output)).mean()
    anchor_dice, anchor_ce = (due * dice(anchor)).mean(), (due * cross_entropy(anchor)).mean()
    found = torch.stack([loss.noise, loss.anchor_dice, loss.anchor_ce, loss.total])
    expected = torch.tensor([noise, anchor_dice, anchor_ce, noise + anchor_dice + 10 * anchor_ce])
    assert_close(found, expected.float(), **ROUNDING)
    assert loss.variance == 0


@pytest.mark.parametrize("parametrization", ["epsilon", "v", "x_0"])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_network_that_returns_the_true_mask_has_no_loss(generator, parametrization, classes):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization, scale=0.5), classes)
    labels = LABELS % (classes + 1)
    eps = torch.randn(5, diffusion.channels, 4, 4, generator=generator)
    model = Knows(OneTruth(diffusion, diffusion.from_labels(labels)))
    loss = judged(model, diffusion, labels.expand(5, -1, -1), [0, 10, 250, 500, 999], eps)
    assert loss.total == loss.noise < 1e-6  # float32, squared; at t = 0 divided by the noise, 0.01


@pytest.mark.parametrize("parametrization", ["epsilon", "v", "x_0"])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_minimiser_for_two_raters_is_the_posterior_mean(generator, parametrization, classes):
    # Whoever sees x_t cannot tell whose mask lies underneath; the loss, weighted by the odds, must be stationary (it is
    # convex) exactly at the mean of what may lie there, for cross-entropy of logits no less than for squared error.
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization, scale=0.2), classes)
    labels = torch.randint(classes + 1, (2, 4, 4), generator=generator)
    masks = diffusion.from_labels(labels).double()
    oracle, t = TwoRaters(diffusion, masks, share=0.7), torch.tensor([400])
    signal, noise = diffusion.schedule.signal_and_noise(t, masks)
    x_t = (0.4 * signal * masks[:1] + 0.6 * signal * masks[1:]) + 0.3 * noise * torch.randn(
        masks[:1].shape, generator=generator, dtype=torch.float64
    )
    odds = (oracle.posterior_mean(x_t, t) - masks[1]) / (masks[0] - masks[1])
    odds = odds[odds.isfinite()].mean()
    assert 0.05 < odds < 0.95

    best = oracle(x_t, t, oracle.encode(IMAGE)).output
    if parametrization == "x_0":
        best = best.clamp(-30, 30)  # where the raters agree the best logit is infinite
    best.requires_grad_()
    for rater, weight in ((0, odds), (1, 1 - odds)):
        eps = (x_t - signal * masks[rater]) / noise  # this rater's way to the same x_t
        (weight * judged(Says(best), diffusion, labels[rater : rater + 1], [400], eps).noise).backward()
    # float32 masks and schedule inside; answers that are off by a tenth have gradients of 1e-3
    assert best.grad.abs().max().item() < 1e-6


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("scale", "timesteps"), [(1.0, 1000), (0.2, 250)])
def test_the_variance_loss_is_the_variational_bound(generator, schedule, scale, timesteps):
    diffusion = Diffusion(
        DiffusionConfig(
            parametrization="x_0", schedule=schedule, scale=scale, learned_variance=True, timesteps=timesteps
        )
    )
    times = [0, 1, timesteps // 2, timesteps - 10]
    labels = torch.randint(2, (4, 4, 4), generator=generator)
    x_0 = diffusion.from_labels(labels).double()
    output, eps = torch.randn(2, 4, 1, 4, 4, generator=generator)
    fraction = torch.rand(4, 1, 4, 4, generator=generator) * 2 - 1
    found = judged(Says(output, fraction), diffusion, labels, times, eps).variance

    x_t = diffusion.schedule.noised(x_0, torch.tensor(times), eps.double())
    believed = diffusion.x_0(output.double(), x_t, torch.tensor(times))
    terms = []
    for i, t in enumerate(times):
        sample = slice(i, i + 1)
        smallest, beta = diffusion.schedule.posterior_variance(t, t - 1)
        smallest = smallest if t else beta
        f = (fraction[sample].double() + 1) / 2
        std = (f * math.log(beta) + (1 - f) * math.log(smallest)).mul(0.5).exp()
        wanted, mean = (diffusion.schedule.posterior_mean(x_t[sample], x[sample], t, t - 1) for x in (x_0, believed))
        if t:
            terms.append(kl_divergence(Normal(wanted, math.sqrt(smallest)), Normal(mean, std)).mean())
        else:  # density of the mask in {-1, 1}, whatever the scale
            terms.append(-Normal(mean / scale, std / scale).log_prob(wanted / scale).mean())
    bits = torch.stack(terms).mean() / math.log(2)
    # Improved DDPM adds 0.001 of the bound, a sum over T terms of which each sample is one.
    bits *= timesteps / 1000
    assert_close(found.double(), bits, rtol=1e-3, atol=0)  # betas of 1e-4 are differences of float32 numbers near one


def test_correct_mean_and_variance_have_no_loss(generator):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0"))
    labels = LABELS % 2
    sure = 100 * diffusion.from_labels(labels)
    eps = torch.randn(1, 1, 4, 4, generator=generator)
    for t in (1, 500, 999):
        assert judged(Says(sure, -torch.ones_like(sure)), diffusion, labels, [t], eps).variance.abs() < 1e-6


@pytest.mark.parametrize("parametrization", ["epsilon", "v", "x_0"])
def test_the_variational_bound_has_no_gradient_to_the_mean(generator, parametrization):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization, learned_variance=True))
    output, variance, eps = torch.randn(3, 2, 1, 4, 4, generator=generator)
    output.requires_grad_()
    variance.requires_grad_()
    judged(Says(output, variance), diffusion, LABELS.expand(2, -1, -1) % 2, [1, 500], eps).variance.backward()
    assert output.grad is None
    assert variance.grad.abs().min() > 0


def test_at_t_0_both_variance_bounds_coincide(generator):
    diffusion = Diffusion(DiffusionConfig(learned_variance=True))
    output, eps = torch.randn(2, 1, 1, 4, 4, generator=generator)
    low, high = (
        judged(Says(output, torch.full_like(output, v)), diffusion, LABELS % 2, [0], eps).variance for v in (-1, 1)
    )
    assert_close(low, high)
    assert low.isfinite()


@pytest.mark.parametrize("alpha", [1, 5])
def test_several_noise_samples_share_one_run_of_the_condition_network(tiny_config, generator, alpha):
    diffusion = Diffusion(DiffusionConfig())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(build(tiny_config), diffusion, alpha=alpha, beta=10.0).requires_grad_(False)
    for parameter in objective.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    image = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    labels = torch.randint(2, (2, 32, 32), generator=generator)
    t, eps = torch.tensor([0, 5, 7, 500, 998, 999]), torch.randn(6, 1, 32, 32, generator=generator)
    shared = objective(image, labels, t, eps)
    apart = objective(image.repeat_interleave(3, 0), labels.repeat_interleave(3, 0), t, eps)
    for name in ("total", "noise", "anchor_dice", "anchor_ce"):
        assert_close(getattr(shared, name), getattr(apart, name), **ROUNDING)


def test_each_draw_has_one_readers_mask_and_the_anchor_the_share_of_all(tiny_config, generator):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(build(tiny_config), diffusion, alpha=1, beta=2.0, anchor_dice=0.0).requires_grad_(False)
    for parameter in objective.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    image = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    readers = torch.randint(2, (2, 4, 32, 32), generator=generator)
    t, eps = torch.tensor([0, 5, 7, 500, 998, 999]), torch.randn(6, 1, 32, 32, generator=generator)
    found = objective(image, readers, t, eps)
    apart = objective(image.repeat_interleave(3, 0), readers[:, :3].flatten(0, 1), t, eps)
    assert_close(found.noise, apart.noise, **ROUNDING)
    if condition := objective.model.encode(image).anchor_logits:
        share = nn.functional.binary_cross_entropy_with_logits(condition[0][:, 0], readers.float().mean(1))
        assert_close(found.anchor_ce, share, **ROUNDING)
        assert_close(found.total, found.noise + 2.0 * share, **ROUNDING)


def test_a_picture_is_weighed_by_the_mean_area_that_its_readers_marked(generator):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0"))
    output, anchor, eps = torch.randn(3, 2, 1, 4, 4, generator=generator)
    labels = torch.zeros(2, 2, 4, 4, dtype=torch.long)  # two readers, one of whom marks all of the second picture
    labels[1, 0] = 1
    both = judged(Says(output, anchor=anchor), diffusion, labels, [0, 0], eps, balance=1.0)
    parts = [
        judged(Says(output[one], anchor=anchor[one]), diffusion, labels[one], [0], eps[one])
        for one in (slice(0, 1), slice(1, 2))
    ]
    for name in ("noise", "anchor_dice", "anchor_ce"):
        blank, marked = (getattr(part, name) for part in parts)
        assert_close(getattr(both, name), (64 / 16 * blank + 64 / (8 + 16) * marked) / 2, **ROUNDING)


@pytest.mark.parametrize("parametrization", ["epsilon", "v"])
def test_an_unrolled_sample_is_reached_by_ddim_and_compared_with_the_ground_truth(generator, parametrization):
    diffusion = Diffusion(DiffusionConfig(parametrization=parametrization))
    labels, eps = torch.randint(2, (2, 4, 4), generator=generator), torch.randn(2, 1, 4, 4, generator=generator)
    oracle = Gaussian(diffusion, mean=torch.linspace(-0.1, 0.1, 16).reshape(1, 1, 4, 4), std=0.05)
    objective = Objective(PLACEHOLDER, diffusion, alpha=1, beta=1.0)
    objective.model = Knows(oracle)
    trajectory, t = torch.tensor([[999, 700], [-1, -1]]), torch.tensor([300, 300])
    loss = objective(IMAGE.expand(2, -1, -1, -1), labels, t, eps, trajectory)

    x_0 = diffusion.from_labels(labels)
    *_, last = denoise(
        oracle, oracle.encode(IMAGE), diffusion, [999, 700, 300], MemberNoise(0, 1), (1, 4, 4), x_T=eps[:1]
    )
    x_t = torch.cat([last.x_t, diffusion.schedule.noised(x_0, t, eps)[1:]])
    target = getattr(diffusion.schedule, f"{'eps' if parametrization == 'epsilon' else 'v'}_from_x_0")(x_t, t, x_0)
    answer = oracle(x_t, t, Condition((IMAGE,))).output
    assert_close(loss.noise, (answer - target).square().mean(), **ROUNDING)
