"""Replacements of learned quantities affect only what they replace."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from medsegdiff.config import V1Config, V2Config
from medsegdiff.nn.anchor import GaussianSpatialAttention
from medsegdiff.nn.build import build
from medsegdiff.nn.spectral import FFParser, radial_gain
from medsegdiff.records import Interventions, Switches

T = torch.tensor([500])


def forward(config, image, x_t, switches):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build(config).eval()
        for parameter in model.parameters():  # a head begins at zero, a filter as the identity
            parameter.add_(0.1 * torch.randn_like(parameter))
        return model(x_t, T, model.encode(image), trace=True, switches=switches)


@pytest.fixture
def pair(generator):
    return torch.randn(1, 3, 32, 32, generator=generator), torch.randn(2, 1, 32, 32, generator=generator)


def test_a_config_still_stores_five_switches():
    assert len(asdict(V1Config().switches)) == len(asdict(V2Config().switches)) == 5
    off = Interventions(anchor=False, sigma=2.0) & Switches(nbp=False)
    assert off == Interventions(anchor=False, nbp=False, sigma=2.0)


def test_a_profile_rises_with_the_radius_and_ends_at_the_corner():
    gain = radial_gain((0.0, 1.0), (8, 8), full=True, device=torch.device("cpu"))[0]
    assert gain[0, 0] == 0
    assert gain[4, 4] == pytest.approx(1)
    assert gain[0, 2] == pytest.approx(0.25 / math.sqrt(0.5))
    half = radial_gain((0.0, 1.0), (8, 8), full=False, device=torch.device("cpu"))[0]
    torch.testing.assert_close(half, gain[:, :5])


@pytest.mark.parametrize("full", [False, True])
def test_a_profile_of_ones_passes_everything_and_one_at_zero_leaves_the_mean(full, generator):
    parser = FFParser(3, (8, 8), full=full)
    torch.nn.init.normal_(parser.gain, generator=generator)
    m = torch.randn(2, 3, 8, 6, generator=generator)
    torch.testing.assert_close(parser(m, (1.0, 1.0)), m, atol=1e-5, rtol=0)  # one FFT there and back in float32
    low = parser(m, (1.0, *[0.0] * 32))
    torch.testing.assert_close(low, m.mean((2, 3), keepdim=True).expand_as(m), atol=1e-5, rtol=0)


def test_the_learned_sigma_given_by_hand_changes_nothing_and_a_tiny_one_blurs_nothing(generator):
    gate = GaussianSpatialAttention(4, 5)
    torch.nn.init.constant_(gate.log_sigma, math.log(1.5))
    anchor = torch.randn(1, 4, 8, 8, generator=generator)
    torch.testing.assert_close(gate.smooth(anchor, 1.5), gate.smooth(anchor))
    torch.testing.assert_close(gate.smooth(anchor, 0.05), anchor)
    assert gate.explain(anchor, "here", 3.0).sigma.unique().tolist() == [3.0]


def test_the_trace_tells_of_the_substitute_and_an_identity_is_the_parser_switched_off(v1_config, pair):
    off = forward(v1_config, *pair, Switches(ff_parser=False))
    flat = forward(v1_config, *pair, Interventions(profile=(1.0, 1.0)))
    torch.testing.assert_close(flat.output, off.output, atol=1e-4, rtol=1e-4)
    assert flat.trace.spectra[0].gain.unique().tolist() == pytest.approx([1.0])
    assert (forward(v1_config, *pair, Switches()).output - off.output).abs().max() > 1e-3


def test_a_replacement_for_a_missing_component_is_ignored(v1_config, v2_config, pair):
    for config, foreign in ((v1_config, {"sigma": 3.0}), (v2_config, {"profile": (0.0, 0.0)})):
        plain = forward(config, *pair, Switches()).output
        assert torch.equal(forward(config, *pair, Interventions(**foreign)).output, plain)


def test_a_substitute_out_of_range_is_refused_in_one_sentence():
    for wrong in ({"profile": (1.0,)}, {"profile": (1.0, -1.0)}, {"profile": (math.nan, 1.0)}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(Interventions(), **wrong)
