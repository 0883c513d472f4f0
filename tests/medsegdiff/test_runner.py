"""Dividing batches among cores changes neither results nor the state of threads."""

import pytest
import torch
from torch import Tensor

from medsegdiff.nn.build import build
from medsegdiff.records import Condition
from medsegdiff.runner import Runner, workers

CPU = torch.device("cpu")
T = torch.tensor([500])


@pytest.fixture
def network(tiny_config, generator):
    model = build(tiny_config).eval()
    for parameter in model.parameters():  # heads begin at zero, and would always answer alike
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def masks(members: int, generator: torch.Generator) -> Tensor:
    return torch.randn(members, 1, 32, 32, generator=generator)


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("images", ["one for all", "one each"])
def test_dividing_a_batch_among_cores_does_not_change_the_result(network, generator, members, images):
    alone, together = (Runner(network, CPU, torch.float32, cores) for cores in (1, 3))
    x_t = masks(members, generator)
    image = torch.rand(1 if images == "one for all" else members, 3, 32, 32, generator=generator)
    condition = alone.encode(image)
    expected, found = (runner(x_t, T, condition).output for runner in (alone, together))
    assert not found.requires_grad
    # float32: convolutions of other batch sizes add in another order.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("mirror", "flips"), [("horizontal", [(), (-1,)]), ("both", [(), (-1,), (-2,), (-2, -1)])])
def test_members_take_turns_among_the_mirror_images(network, generator, mirror, flips, images, cores):
    members, runner = 5, Runner(network, CPU, torch.float32, cores)
    image, x_t = torch.rand(images, 3, 32, 32, generator=generator), masks(images * members, generator)
    condition = runner.encode(image, mirror)
    found = runner(x_t, T, condition.for_members(members)).output
    with torch.no_grad():
        seen = [network.encode(image.flip(flip)) for flip in flips]
        views = [seen[member % len(flips)].repeat(members) for member in range(members)]
        for row in range(images * members):
            flip, one = flips[row % members % len(flips)], torch.arange(images * members) == row
            expected = network(x_t[one].flip(flip), T, views[row % members].select(one)).output.flip(flip)
            # float32: convolutions of other batch sizes add in another order.
            torch.testing.assert_close(found[one], expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    for i, logits in enumerate(condition.anchor_logits):
        mean = torch.stack([c.anchor_logits[i].flip(flip) for c, flip in zip(seen, flips, strict=True)]).mean(0)
        torch.testing.assert_close(logits, mean)
        mirrored = runner.encode(image.flip(-1), mirror).anchor_logits[i]
        torch.testing.assert_close(mirrored.flip(-1), logits, rtol=0, atol=1e-5)  # added up in another order


@pytest.mark.parametrize("images", [1, 4])
def test_a_trace_covers_every_sample_and_does_not_change_the_result(network, generator, images):
    alone, together = (Runner(network, CPU, torch.float32, cores) for cores in (1, 2))
    x_t, condition = masks(4, generator), alone.encode(torch.rand(images, 3, 32, 32, generator=generator))
    expected, found = (runner(x_t, T, condition, trace=True) for runner in (alone, together))
    assert torch.equal(found.output, together(x_t, T, condition).output)
    for kind in ("spectra", "affinities", "bands", "anchors"):
        for one, other in zip(getattr(found.trace, kind), getattr(expected.trace, kind), strict=True):
            assert one.stage == other.stage
            for name in set(one.__slots__) - {"stage", "kind"}:  # tolerances: the logarithm of a weak frequency
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-3)


def test_worker_threads_use_one_core_and_other_threads_are_unaffected():
    before = torch.get_num_threads()
    inside = list(workers(2).map(lambda _: torch.get_num_threads(), range(8)))
    assert set(inside) == {1}
    assert torch.get_num_threads() == before
    assert workers(2) is workers(2)


def test_errors_in_worker_threads_reach_the_caller(generator):
    class Broken:
        def encode(self, image: Tensor) -> Condition:
            return Condition((image,))

        def __call__(self, x_t, t, condition, **asked):
            raise ValueError("broken")

    runner = Runner(Broken(), CPU, torch.float32, 2)
    with pytest.raises(ValueError, match="broken"):
        runner(masks(2, generator), T, Condition((masks(1, generator),)))


def test_a_lower_precision_does_not_touch_the_condition(network, generator):
    image = torch.rand(1, 3, 32, 32, generator=generator)
    exact, lower = (Runner(network, CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    expected, condition = exact.encode(image), lower.encode(image)
    for found, value in zip(
        (*condition.features, *condition.anchor_logits), (*expected.features, *expected.anchor_logits), strict=True
    ):
        assert torch.equal(found, value)
    x_t = masks(2, generator)
    assert not torch.equal(lower(x_t, T, condition).output, exact(x_t, T, condition).output)
