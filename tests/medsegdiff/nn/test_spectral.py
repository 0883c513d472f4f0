"""Filters in the frequency domain, against properties of the discrete Fourier transform."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from medsegdiff.nn.spectral import FFParser, NBPFilter, mirror

SIZES = [(8, 8), (16, 16), (7, 7), (6, 10), (9, 5), (5, 8), (1, 1)]
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64
ROUNDING = {"rtol": 1e-6, "atol": 1e-6}  # a few times float32's


def hermitian_gain(generator: torch.Generator, channels: int, height: int, width: int) -> Tensor:
    """A random spectrum on the whole plane that keeps real maps real: the transform of a real kernel."""
    return torch.fft.fft2(torch.randn(channels, height, width, generator=generator) / (height * width) ** 0.5)


def parser(gain: Tensor, full: bool) -> FFParser:
    """An FF-Parser that holds a given full-plane gain."""
    channels, height, width = gain.shape
    module = FFParser(channels, (height, width), full=full)
    kept = gain if full else gain[..., : width // 2 + 1]
    module.gain.data.copy_(torch.stack([kept.real, kept.imag]))
    return module.requires_grad_(False)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("trained", [(8, 8), (7, 9)])
def test_an_untrained_ff_parser_is_the_identity_at_every_size(generator, trained, size, full):
    m = torch.randn(2, 3, *size, generator=generator)
    assert_close(FFParser(3, trained, full=full)(m), m, **ROUNDING)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_multiplying_spectra_is_circular_convolution(generator, size, full):
    kernel = torch.zeros(1, *size)
    kernel[0, 1, 2] = 1.0  # moves a map one row down and two columns right
    kernel[0, 0, 0] = 0.5
    m = torch.randn(2, 1, *size, generator=generator)
    expected = m.roll((1, 2), (-2, -1)) + 0.5 * m
    assert_close(parser(torch.fft.fft2(kernel), full)(m), expected, **ROUNDING)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5), (5, 6)])
def test_the_one_sided_filter_equals_the_two_sided_one(generator, size):
    gain = hermitian_gain(generator, 3, *size)
    m = torch.randn(2, 3, *size, generator=generator)
    assert_close(parser(gain, full=False)(m), parser(gain, full=True)(m), **ROUNDING)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_gain_of_magnitude_one_keeps_the_energy(generator, size, full):
    gain = hermitian_gain(generator, 3, *size)
    m = torch.randn(2, 3, *size, generator=generator)
    turned = parser(gain / gain.abs(), full)(m)
    assert_close(turned.square().sum((-2, -1)), m.square().sum((-2, -1)), rtol=1e-5, atol=0)  # Parseval


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_mirror_completes_the_spectrum_of_a_real_map(height, width, seed):
    m = torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert_close(mirror(torch.fft.rfft2(m), width), torch.fft.fft2(m), **EXACT)


def smooth_response(height: int, width: int) -> Tensor:
    """A gain that is a function of frequency alone (cycles per cell): a soft low-pass that moves the map diagonally."""
    u, v = (2 * torch.pi * torch.fft.fftfreq(n) for n in (height, width))
    low = torch.exp(0.5 * (u.cos()[:, None] + v.cos()[None, :] - 2))
    return torch.polar(low, 0.5 * (u.sin()[:, None] + v.sin()[None, :]))[None]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(24, 48), (64, 64), (33, 25), (16, 16)])
def test_a_smooth_filter_is_the_same_filter_at_another_size(size, full):
    trained = 32
    found, expected = parser(smooth_response(trained, trained), full).filter(size), smooth_response(*size)
    error = (found - expected[..., : found.shape[-1]]).abs().max()
    # Linear interpolation errs by h^2 / 8 times the curvature, here below (2 pi)^2 along either axis.
    assert float(error) < 2 * (2 * torch.pi) ** 2 / 8 / trained**2


@pytest.mark.parametrize("size", [(16, 16), (20, 12), (7, 9)])
def test_the_one_sided_filter_equals_the_two_sided_one_at_other_sizes(generator, size):
    gain = hermitian_gain(generator, 2, 8, 8)
    m = torch.randn(1, 2, *size, generator=generator)
    assert_close(parser(gain, full=False)(m), parser(gain, full=True)(m), **ROUNDING)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (12, 10)])
def test_the_parsers_trace_matches_its_output(generator, size, full):
    module = parser(hermitian_gain(generator, 3, 8, 8), full)
    m = torch.randn(2, 3, *size, generator=generator)
    told = module.explain(m, "here")
    gain = torch.fft.ifftshift(torch.polar(told.gain, told.phase), dim=(-2, -1))
    assert_close(torch.fft.ifft2(gain * torch.fft.fft2(m)).real, module(m), rtol=1e-5, atol=1e-5)
    before, after = (torch.fft.ifftshift(power, dim=(-2, -1)) for power in (told.before, told.after))
    for power, x in ((before, m), (after, module(m))):
        assert_close(
            power[:, 0, 0], x.sum((-2, -1)).square().mean(1).div(x[0, 0].numel()).log10(), rtol=1e-4, atol=1e-4
        )
        assert_close((10**power).sum((-2, -1)), x.square().sum((-2, -1)).mean(1), rtol=1e-4, atol=0)  # Parseval
    assert told.stage == "here"


@pytest.fixture
def band(generator: torch.Generator) -> NBPFilter:
    """A band-pass filter whose surface is far from flat."""
    module = NBPFilter(time=8, width=4, blocks=3).requires_grad_(False)
    for parameter in module.parameters():
        parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return module


def test_the_band_is_a_surface_between_zero_and_one_that_moves_with_time(band, generator):
    early, late = band(16, torch.randn(2, 8, generator=generator))
    assert early.shape == (1, 16, 16)
    assert 0 < float(min(early.min(), late.min())) < float(max(early.max(), late.max())) < 1
    assert float(early.std()) > 0.01
    assert float((early - late).abs().max()) > 0.05


@pytest.mark.parametrize(("coarse", "fine"), [(16, 64), (8, 16), (5, 15)])
def test_the_band_is_the_same_function_at_every_size(band, generator, coarse, fine):
    time = torch.randn(1, 8, generator=generator)
    index = torch.fft.fftfreq(coarse, d=1 / coarse).long() * (fine // coarse)  # the same frequencies in the finer grid
    assert_close(band(coarse, time)[0, 0], band(fine, time)[0, 0][index][:, index], **ROUNDING)


def test_an_untrained_band_is_nearly_all_pass(generator):
    surface = NBPFilter(time=8, width=16, blocks=6).requires_grad_(False)(32, torch.randn(3, 8, generator=generator))
    assert float(surface.min()) > 0.7


def test_a_band_of_octaves_begins_as_a_band_and_moves_with_time_once_trained(generator):
    module = NBPFilter(time=8, width=4, blocks=3, octaves=4).requires_grad_(False)
    time = torch.randn(2, 8, generator=generator)
    surface = torch.fft.fftshift(module(32, time)[:, 0], dim=(-2, -1))
    assert_close(surface[0], surface[1])  # the network adds nothing at first
    middle, quarter = 16, 20  # frequency 0 and a quarter of Nyquist
    assert surface[0, quarter, quarter] == pytest.approx(torch.tensor(4.0).sigmoid().item(), rel=1e-6)
    assert surface[0, middle, middle] < surface[0, quarter, quarter]
    assert surface[0, 0, 0] < 0.05  # both at Nyquist: closed
    for parameter in module.blocks.parameters():
        parameter.normal_(generator=generator)
    trained = module(32, time)
    assert (trained[0] - trained[1]).abs().max() > 0.1
    steps = (trained[0, 0] - trained[0, 0].roll(1, 0)).abs().max()
    assert steps > 0.1  # from one frequency to the next it can turn, which raw coordinates cannot
    coarse = module(8, time)
    assert_close(trained[:, :, :4:4, :4:4], coarse[:, :, :1, :1])  # of any size
