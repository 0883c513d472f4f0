"""Properties of both networks in every configuration."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from medsegdiff.config import PRESETS, UNetConfig, V1Config, V2Config
from medsegdiff.nn.build import build
from medsegdiff.records import Condition, Prediction, Switches, Trace

VARIANTS = {
    "v1": ("v1", {}),
    "v1 of four classes": ("v1", {"classes": 4}),
    "v1 with a learned variance": ("v1", {"learned_variance": True}),
    "v1 with a full spectrum": ("v1", {"full_spectrum": True}),
    "v1 with mask skips": ("v1", {"skips": "mask"}),
    "v2": ("v2", {}),
    "v2 of four classes": ("v2", {"classes": 4}),
    "v2 with a learned variance": ("v2", {"learned_variance": True}),
    "v2 with a sine": ("v2", {"band": "sine"}),
    "v2 with two anchors": ("v2", {"anchors": 2}),
    "v2 with a pretrained encoder": ("v2", {"encoder": "efficientnet-lite0"}),
    "v2 with patches": ("v2", {"stem": 1, "patch": 2, "ss_blocks": 2}),
}
PARTS = [
    ("v1", "dynamic_encoding"),
    ("v1", "ff_parser"),
    ("v1 with a full spectrum", "ff_parser"),
    ("v2", "anchor"),
    ("v2 with two anchors", "anchor"),
    ("v2", "ss_former"),
    ("v2", "nbp"),
    ("v2 with a sine", "nbp"),
]
T = torch.tensor([500])


def config_of(variant: str, request: pytest.FixtureRequest) -> V1Config | V2Config:
    version, changes = VARIANTS[variant]
    return replace(request.getfixturevalue(f"{version}_config"), **changes)


@pytest.fixture(params=VARIANTS)
def config(request: pytest.FixtureRequest) -> V1Config | V2Config:
    return config_of(request.param, request)


def network(config: V1Config | V2Config) -> nn.Module:
    """A network in which no weight keeps the zero or one it begins with, as if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(
    config: V1Config | V2Config, generator: torch.Generator, members: int = 5, images: int = 1, size: tuple = (32, 32)
) -> tuple[Tensor, Tensor]:
    """Noisy masks and pictures."""
    channels = 1 if config.classes == 1 else config.classes + 1
    x_t = torch.randn(members, channels, *size, generator=generator)
    return x_t, torch.rand(images, config.image_channels, *size, generator=generator) * 2 - 1


def same(found: Prediction, expected: Prediction) -> None:
    """Compare to float32's rounding: the largest error against the largest value."""
    for a, b in ((found.output, expected.output), (found.variance, expected.variance)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("name", [name for name in PRESETS if not isinstance(PRESETS[name].model, UNetConfig)])
def test_every_preset_returns_a_mask_of_the_input_size(name):
    config = replace(PRESETS[name].model, classes=3, learned_variance=True)
    size = config.image_size
    with torch.device("meta"):
        model = build(config)
        condition = model.encode(torch.empty(1, config.image_channels, size, size))
        answer = model(torch.empty(2, 4, size, size), torch.empty(2, dtype=torch.long), condition)
    assert answer.output.shape == answer.variance.shape == (2, 4, size, size)
    assert all(logits.shape == (1, 4, size, size) for logits in condition.anchor_logits)


@torch.no_grad()
def test_v1_is_wired_as_its_figure(v1_config, generator):
    net = network(v1_config)
    x_t, picture = inputs(v1_config, generator)
    time = net.time(T)
    x_1 = net.mask_stages[0](net.mask_stem(x_t), time)
    x_2 = net.mask_stages[1](net.mask_downs[0](x_1), time)
    x_3 = net.mask_stages[2](net.mask_downs[1](x_2), time)
    i_1 = net.fusions[0](net.image_stages[0](net.image_stem(picture)), net.parsers[0](x_1))  # A(m_I, P(m_x))
    i_2 = net.fusions[1](net.image_stages[1](net.image_downs[0](i_1)), net.parsers[1](x_2))
    i_3 = net.image_stages[2](net.image_downs[1](i_2))
    *_, decoded = net.decoder(net.shared(net.down(i_3 + x_3), time), [x_1 + i_1, x_2 + i_2, x_3 + i_3], time)
    same(net(x_t, T, net.encode(picture)), Prediction(net.head(decoded)))


@torch.no_grad()
def test_v2_is_wired_as_its_figure(v2_config, generator):
    net = network(v2_config)
    x_t, picture = inputs(v2_config, generator)
    time, condition = net.time(T), net.condition(picture)
    semantics, finest = condition.features[0], condition.features[-1]  # c^0 and f_c^-1
    assert torch.equal(net.condition.head(finest), condition.anchor_logits[0])
    x_1 = net.attentions[0](finest, net.stages[0](net.stem(x_t), time))  # f_d'^0
    x_2 = net.stages[1](net.downs[0](x_1), time)
    x_3 = net.stages[2](net.downs[1](x_2), time)
    e = net.stages[3](net.downs[2](x_3), time)
    c, _, _ = net.ss_former(e, semantics, time)  # takes the place of e
    *_, decoded = net.decoder(net.middle(c, time), [x_1, x_2, x_3], time)
    same(net(x_t, T, net.encode(picture)), Prediction(net.head(decoded)))


@torch.no_grad()
def test_the_output_depends_on_mask_time_and_image(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    answers = [
        model(x_t, T, model.encode(image)).output,
        model(x_t.flip(0), T, model.encode(image)).output,
        model(x_t, T - 400, model.encode(image)).output,
        model(x_t, T, model.encode(-image)).output,
    ]
    size = answers[0].abs().max()
    assert size.isfinite()
    assert all((other - answers[0]).abs().max() > 0.01 * size for other in answers[1:])


@torch.no_grad()
def test_one_input_twice_gives_the_same_bits(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    first, second = (model(x_t, T, model.encode(image)) for _ in range(2))
    assert torch.equal(first.output, second.output)


@torch.no_grad()
def test_five_members_are_the_five_one_by_one(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    condition, t = model.encode(image), torch.tensor([0, 10, 200, 500, 999])
    together = model(x_t, t, condition)
    alone = [model(x_t[i : i + 1], t[i : i + 1], condition) for i in range(5)]
    for name in ("output", "variance"):
        if getattr(together, name) is not None:
            parts = Prediction(torch.cat([getattr(one, name) for one in alone]))
            same(Prediction(getattr(together, name)), parts)


@torch.no_grad()
def test_one_condition_serves_any_number_of_members(config, generator):
    model = network(config)
    x_t, images = inputs(config, generator, members=6, images=2)
    condition = model.encode(images)
    both = model(x_t, T, condition.repeat(3))  # three members of the first image, then three of the second
    for i in range(2):
        one = Condition(
            *(tuple(f[i : i + 1] for f in field) for field in (condition.features, condition.anchor_logits))
        )
        own = x_t[3 * i : 3 * i + 3]
        same(model(own, T, one), model(own, T, one.repeat(3)))
        same(Prediction(both.output[3 * i : 3 * i + 3]), Prediction(model(own, T, one).output))


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_a_network_runs_at_other_sizes_and_shapes(config, generator, size):
    model = network(config)
    x_t, image = inputs(config, generator, members=2, size=size)
    answer = model(x_t, T, model.encode(image), trace=True)
    assert answer.output.shape == x_t.shape
    assert answer.output.isfinite().all()


@torch.no_grad()
def test_a_trace_does_not_change_the_output_and_is_empty_by_default(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    condition = model.encode(image)
    silent, told = model(x_t, T, condition), model(x_t, T, condition, trace=True)
    assert torch.equal(silent.output, told.output)
    assert silent.trace == Trace()
    counts = [len(part) for part in (told.trace.spectra, told.trace.affinities, told.trace.bands, told.trace.anchors)]
    if isinstance(config, V1Config):
        assert counts == [2, 2, 0, 0]
    else:
        modules = 2 * config.ss_blocks
        assert counts == [0, modules, modules if config.band == "nbp" else 0, config.anchors]


@torch.no_grad()
@pytest.mark.parametrize(("variant", "part"), PARTS)
def test_bypassing_a_component_equals_a_network_without_it(variant, part, request, generator):
    config = config_of(variant, request)
    model, off = network(config), Switches(**{part: False})
    x_t, image = inputs(config, generator)
    whole, without = (model(x_t, T, model.encode(image), trace=True, switches=s) for s in (Switches(), off))
    assert (whole.output - without.output).abs().max() > 1e-3 * whole.output.abs().max()

    never = build(replace(config, switches=off)).eval()
    weights = model.state_dict()
    assert never.state_dict().keys() < weights.keys()
    never.load_state_dict({name: weights[name] for name in never.state_dict()})
    answer = never(x_t, T, never.encode(image), trace=True)
    assert torch.equal(answer.output, without.output)
    told = {name: len(getattr(answer.trace, name)) for name in ("spectra", "affinities", "bands", "anchors")}
    gone = {"dynamic_encoding": "affinities", "ff_parser": "spectra", "anchor": "anchors", "ss_former": "affinities"}
    assert told[gone.get(part, "bands")] == 0


@torch.no_grad()
def test_switches_of_the_other_version_change_nothing(tiny_config, generator):
    model = network(tiny_config)
    x_t, image = inputs(tiny_config, generator)
    foreign = {"anchor", "ss_former", "nbp"} if isinstance(tiny_config, V1Config) else {"dynamic_encoding", "ff_parser"}
    off = Switches(**dict.fromkeys(foreign, False))
    condition = model.encode(image)
    assert torch.equal(model(x_t, T, condition, switches=off).output, model(x_t, T, condition).output)


def test_a_gradient_reaches_every_parameter(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    condition = model.encode(image)
    answer = model(x_t, torch.arange(5) * 200, condition)
    told = [x for x in (answer.output, answer.variance, *condition.anchor_logits) if x is not None]
    sum((x * torch.randn(x.shape, generator=generator)).sum() for x in told).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_the_layout_of_memory_does_not_matter(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    expected = model(x_t, T, model.encode(image))
    model.to(memory_format=torch.channels_last)
    x_t, image = (x.contiguous(memory_format=torch.channels_last) for x in (x_t, image))
    same(model(x_t, T, model.encode(image)), expected)


@torch.no_grad()
def test_in_bfloat16_the_output_is_close_and_in_float32(config, generator):
    model = network(config)
    x_t, image = inputs(config, generator)
    expected = model(x_t, T, model.encode(image)).output
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x_t, T, model.encode(image)).output
    assert found.dtype == torch.float32
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99
