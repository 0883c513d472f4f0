"""Residual blocks, resampling and the time embedding."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from medsegdiff.nn.blocks import Head, ResBlock, Stem, Up, norm
from medsegdiff.nn.embedding import TimeEmbedding


def test_the_time_is_added_after_the_first_convolution(generator):
    block = ResBlock(8, 16, time=6).requires_grad_(False)
    for parameter in block.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x, time = torch.randn(2, 8, 4, 4, generator=generator), torch.randn(2, 6, generator=generator)
    h = block.conv_1(F.silu(block.norm_1(x))) + block.time(F.silu(time))[:, :, None, None]
    assert_close(block(x, time), block.conv_2(F.silu(block.norm_2(h))) + block.shortcut(x))
    assert not torch.allclose(block(x, time), block(x, time + 1))


def test_an_untrained_block_is_its_shortcut_and_an_untrained_head_returns_zero(generator):
    x = torch.randn(2, 8, 4, 4, generator=generator)
    assert torch.equal(ResBlock(8, 8)(x), x)
    assert torch.equal(Head(8, 3, 4)(x), torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_folding_loses_no_pixel_and_unfolding_puts_each_back(generator, factor):
    x = torch.randn(2, 3, 8, 8, generator=generator)
    fold, unfold = Stem(3, 8, factor)[0], Head(8, 3, factor)[-1]
    assert torch.equal(unfold(fold(x)), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_transposed_convolution_enlarges_and_smooths(generator, layout):
    up = Up(5, 3).to(memory_format=layout)
    x = torch.randn(2, 5, 6, 4, generator=generator).contiguous(memory_format=layout).requires_grad_()
    answers = up(x), up.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    assert_close(*answers)
    assert_close(*(torch.autograd.grad(y.square().sum(), (x, up.conv.weight, up.conv.bias)) for y in answers))


def test_a_block_is_the_same_with_and_without_gradients_and_keeps_its_input(generator):
    block = ResBlock(8, 16, time=6)
    x, time = torch.randn(2, 8, 4, 4, generator=generator), torch.randn(1, 6, generator=generator)
    torch.nn.init.normal_(block.conv_2.weight, generator=generator)
    before, taught = x.clone(), block(x, time)
    with torch.inference_mode():
        assert torch.equal(block(x, time), taught)
    assert torch.equal(x, before)
    assert all(g.isfinite().all() for g in torch.autograd.grad(taught.sum(), tuple(block.parameters())))


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (24, 3), (72, 9), (8, 1), (4, 1), (20, 2), (17, 1)])
def test_a_group_is_eight_channels_or_as_near_as_the_width_divides(channels, groups):
    assert norm(channels).num_groups == groups


def test_the_time_embedding_has_geometric_wavelengths():
    embedding = TimeEmbedding(8).requires_grad_(False)
    for layer in (embedding[0], embedding[2]):
        layer.weight.copy_(torch.eye(8))
        layer.bias.zero_()
    angles = [999 * 10_000 ** (-i / 4) for i in range(4)]
    waves = torch.tensor([[*map(math.cos, angles), *map(math.sin, angles)]])
    assert_close(embedding(torch.tensor([999])), F.silu(waves), rtol=0, atol=1e-4)  # 999 radians in float32
