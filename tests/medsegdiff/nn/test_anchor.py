"""Gaussian spatial attention against its two equations, written out in numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from medsegdiff.nn.anchor import GaussianSpatialAttention

CHANNELS, WINDOW = 3, 5
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32


@pytest.fixture
def attention(generator: torch.Generator) -> GaussianSpatialAttention:
    """Three Gaussians, none centred, none round."""
    module = GaussianSpatialAttention(CHANNELS, WINDOW)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


def gaussians(module: GaussianSpatialAttention) -> np.ndarray:
    """exp( -(u - mu_x)^2 / 2 sigma_x^2 - (v - mu_y)^2 / 2 sigma_y^2 ), normalised; rows v, columns u."""
    v, u = np.mgrid[-2:3, -2:3]
    mean, sigma = (x.detach().double().numpy() for x in (module.mean, module.log_sigma.exp()))
    k = np.stack(
        [
            np.exp(-((u - mx) ** 2) / (2 * sx**2) - (v - my) ** 2 / (2 * sy**2))
            for (mx, my), (sx, sy) in zip(mean, sigma, strict=True)
        ]
    )
    return k / k.sum((1, 2), keepdims=True)


def smoothed(module: GaussianSpatialAttention, anchor: Tensor) -> np.ndarray:
    """Each cell the weighted mean of the window around it; edges repeat outwards."""
    padded = np.pad(anchor.double().numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW), axis=(2, 3))
    return np.einsum("ichwvu,cvu->ichw", windows, gaussians(module))


def test_the_kernel_is_the_normalised_gaussian_of_its_mean_and_sigma(attention):
    assert_close(attention.kernel()[:, 0], torch.from_numpy(gaussians(attention)).float(), **ROUNDING)
    assert_close(attention.kernel().sum((2, 3)), torch.ones(CHANNELS, 1), **ROUNDING)


def test_it_is_still_a_gaussian_after_a_step_of_training(attention, generator):
    before = attention.kernel().detach()
    anchor = torch.randn(2, CHANNELS, 6, 6, generator=generator)
    optimizer = torch.optim.AdamW(attention.parameters(), lr=0.1)
    (attention(anchor, anchor) - 1).square().mean().backward()
    assert all(p.grad.abs().min() > 0 for p in attention.parameters())
    optimizer.step()
    assert (attention.kernel() - before).abs().max().item() > 0.01
    assert_close(attention.kernel()[:, 0], torch.from_numpy(gaussians(attention)).float(), **ROUNDING)


@pytest.mark.parametrize(("mean", "peak"), [((1.0, 0.0), (4, 3)), ((0.0, 1.0), (3, 4)), ((-1.0, 1.0), (3, 5))])
def test_the_mean_shifts_the_kernel(mean, peak):
    module = GaussianSpatialAttention(1, WINDOW).requires_grad_(False)
    module.mean.copy_(torch.tensor([mean]))
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1.0
    assert divmod(int(module.smooth(point).argmax()), 9) == peak  # (row, column) of the cell that sees the point


def test_each_channel_can_have_a_gate_of_its_own(attention, generator):
    each = GaussianSpatialAttention(CHANNELS, WINDOW, gates=4).requires_grad_(False)
    each.load_state_dict(
        attention.state_dict() | {f"reduce.{n}": x.clone() for n, x in each.reduce.state_dict().items()}
    )
    anchor, feature = (torch.randn(2, c, 6, 7, generator=generator) for c in (CHANNELS, 4))
    maximum = np.maximum(smoothed(each, anchor), anchor.numpy())
    weight, bias = (x.double().numpy() for x in (each.reduce.weight[:, :, 0, 0], each.reduce.bias))
    gates = 1 / (1 + np.exp(-np.einsum("ichw,gc->ighw", maximum, weight) - bias[:, None, None]))
    assert_close(each(anchor, feature), torch.from_numpy((gates + 1) * feature.numpy()).float(), **ROUNDING)
    assert_close(each.explain(anchor, "level 1").gate, torch.from_numpy(gates.mean(1)).float(), **ROUNDING)


def test_gate_and_maximum_are_the_two_equations(attention, generator):
    attention.requires_grad_(False)
    anchor = torch.randn(2, CHANNELS, 6, 7, generator=generator)
    feature = torch.randn(2, 4, 6, 7, generator=generator)
    blurred = smoothed(attention, anchor)
    maximum = np.maximum(blurred, anchor.numpy())
    logits = np.einsum("ichw,c->ihw", maximum, attention.reduce.weight[0, :, 0, 0].numpy())
    gate = 1 / (1 + np.exp(-logits - attention.reduce.bias.item()))
    expected = gate[:, None] * feature.numpy() + feature.numpy()
    assert_close(attention(anchor, feature), torch.from_numpy(expected).float(), **ROUNDING)

    told = attention.explain(anchor, "level 1")
    for found, wanted in (
        (told.raw, anchor.numpy().mean(1)),
        (told.smoothed, blurred.mean(1)),
        (told.maximum, maximum.mean(1)),
        (told.gate, gate),
    ):
        assert_close(found, torch.from_numpy(wanted).float(), **ROUNDING)


def test_a_flat_anchor_stays_flat_up_to_the_edges(attention):
    flat = torch.full((1, CHANNELS, 4, 4), 0.7)
    assert_close(attention.smooth(flat), flat, **ROUNDING)


def test_one_images_anchor_serves_every_sample(attention, generator):
    anchor = torch.randn(1, CHANNELS, 6, 6, generator=generator)
    features = torch.randn(5, 4, 6, 6, generator=generator)
    assert_close(attention(anchor, features), attention(anchor.repeat(5, 1, 1, 1), features), **ROUNDING)
