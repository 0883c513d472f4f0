"""The sampling loop: yielded steps, independence of runs, no gradients."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import Gaussian, OneTruth, Oracle, TwoRaters
from torch import Tensor
from torch.nn import functional as F

from medsegdiff.config import DiffusionConfig
from medsegdiff.records import Condition, Prediction, SpectralTrace, Switches, Trace
from medsegdiff.sampling import SAMPLERS, MemberNoise, SamplingSettings, denoise, faded_anchor, spaced, stratified
from medsegdiff.schedule import Diffusion

SHAPE = (1, 4, 4)
DIFFUSION = Diffusion(DiffusionConfig())
TIMES = spaced(1000, 10)
IMAGE = torch.zeros(1, 3, 4, 4)
RATERS = TwoRaters(DIFFUSION, torch.stack([-torch.ones(SHAPE), torch.ones(SHAPE)]), share=0.5)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def walk(oracle: Oracle, seed: int = 0, members: int = 5, x_T=None, **options):
    noise, settings = MemberNoise(seed, members), SamplingSettings(**options)
    return denoise(oracle, oracle.encode(IMAGE), DIFFUSION, TIMES, noise, SHAPE, settings, x_T=x_T)


@dataclass
class Learned(Gaussian):
    """A Gaussian's oracle with a parameter, a variance, and a trace of what it was told."""

    def __call__(
        self, x_t: Tensor, t: Tensor, condition: Condition, *, trace: bool = False, switches: Switches = Switches()
    ) -> Prediction:
        assert t.shape == (1,)
        assert t.dtype == torch.int64
        output = super().__call__(x_t, t, condition).output * torch.ones(1, requires_grad=True)
        assert output.requires_grad == torch.is_grad_enabled()
        plane = torch.full((1, 4, 4), float(switches.ff_parser))
        spectra = (SpectralTrace("only", plane, plane, plane, plane),) if trace else ()
        return Prediction(output, torch.zeros_like(x_t), Trace(spectra))


LEARNED = Learned(DIFFUSION, torch.zeros(1, *SHAPE), std=0.1)


@every_sampler
def test_each_step_begins_where_the_last_one_ended(sampler):
    steps = list(walk(RATERS, sampler=sampler))
    assert [step.t for step in steps] == TIMES
    assert [step.index for step in steps] == list(range(10))
    assert {step.total for step in steps} == {10}
    for before, after in pairwise(steps):
        assert before.s == after.t
        assert before.x_s is after.x_t
    assert steps[-1].s == -1
    assert torch.equal(steps[-1].x_s, steps[-1].x_0)
    assert all(step.x_0.abs().max() <= 1 for step in steps)
    assert {step.x_s.dtype for step in steps} == {torch.float32}


@every_sampler
def test_a_member_is_the_same_among_five_or_fifty(sampler):
    *_, few = walk(RATERS, members=5, sampler=sampler, eta=0.5)
    *_, many = walk(RATERS, members=50, sampler=sampler, eta=0.5)
    torch.testing.assert_close(few.x_s, many.x_s[:5], rtol=1e-5, atol=1e-5)


@every_sampler
def test_interleaved_runs_do_not_disturb_each_other(sampler):
    alone = [list(walk(RATERS, seed, sampler=sampler, eta=0.5)) for seed in (1, 2)]
    together = list(zip(*(walk(RATERS, seed, sampler=sampler, eta=0.5) for seed in (1, 2)), strict=True))
    for run, steps in zip(alone, zip(*together, strict=True), strict=True):
        assert all(torch.equal(one.x_s, other.x_s) for one, other in zip(run, steps, strict=True))


@every_sampler
def test_no_graph_grows_on_alternating_threads_and_the_caller_keeps_its_gradients(sampler):
    steps = walk(LEARNED, sampler=sampler)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for index in range(10):
            step, grad_enabled = (one, other)[index % 2].submit(lambda: (next(steps), torch.is_grad_enabled())).result()
            assert grad_enabled
            assert torch.is_grad_enabled()
            assert not any(tensor.requires_grad for tensor in (step.x_s, step.x_0))


def test_a_run_can_be_stopped_early():
    steps = walk(RATERS)
    next(steps)
    steps.close()
    assert list(steps) == []
    assert torch.is_grad_enabled()


def test_trace_and_switches_reach_the_network_and_its_answer_comes_back():
    assert next(walk(LEARNED)).trace == Trace()
    assert next(walk(LEARNED, trace=True)).trace.spectra[0].before.mean() == 1
    assert next(walk(LEARNED, trace=True, switches=Switches(ff_parser=False))).trace.spectra[0].before.mean() == 0


@every_sampler
@pytest.mark.parametrize("classes", [1, 3])
def test_conflicting_anchor_and_prediction_are_averaged_by_weight(sampler, classes):
    diffusion = Diffusion(DiffusionConfig(scale=0.5), classes)
    network, anchor = (diffusion.from_labels(torch.full((1, 4, 4), label)) for label in (0, 1))
    oracle = OneTruth(diffusion, network)
    condition = Condition((IMAGE,), (100 * anchor,))
    noise, shape = MemberNoise(0, 5), (diffusion.channels, 4, 4)
    for weight in (0.0, 0.25, 1.0):
        *_, last = denoise(
            oracle, condition, diffusion, TIMES, noise, shape, SamplingSettings(sampler, anchor_weight=weight)
        )
        foreground = diffusion.probability(last.x_s)[:, 1]
        torch.testing.assert_close(foreground, torch.full_like(foreground, weight), rtol=0, atol=1e-6)  # float32


def test_an_anchor_shifts_samples_towards_its_mode():
    def sides(weight: float) -> float:
        condition = Condition((IMAGE,), (100 * RATERS.masks[:1],))
        noise = MemberNoise(0, 400)
        *_, last = denoise(RATERS, condition, DIFFUSION, TIMES, noise, SHAPE, SamplingSettings(anchor_weight=weight))
        return float((last.x_s.mean((1, 2, 3)) < 0).float().mean())

    shares = [sides(weight) for weight in (0.0, 0.1, 0.2, 0.4)]
    assert shares[0] == pytest.approx(0.5, abs=0.075)  # three standard deviations of 400 draws
    assert np.all(np.diff(shares) > 0.05)


@pytest.mark.parametrize("classes", [1, 3])
def test_an_anchor_averaged_by_overlap_leaves_members_without_the_target_empty(classes):
    diffusion = Diffusion(DiffusionConfig(scale=0.5), classes)
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[:, :2] = 1
    anchor = torch.where(diffusion.from_labels(target) > 0, 5.0, -5.0)
    half = target.clone()
    half[:, 1] = 0
    for mask, contained in ((torch.zeros_like(target), 0.0), (half, 0.5), (target, 1.0)):
        x_0 = diffusion.from_labels(mask)
        faded = diffusion.probability(faded_anchor(diffusion, x_0, anchor))[:, 1]
        # The anchor's probability is 0.99 inside, so the coefficient of a full member is 1.007 and is cut to 1.
        torch.testing.assert_close(faded[target > 0].mean(), torch.tensor(contained), rtol=0, atol=0.02)
        *_, last = denoise(
            OneTruth(diffusion, x_0),
            Condition((IMAGE,), (anchor,)),
            diffusion,
            TIMES,
            MemberNoise(0, 2),
            (diffusion.channels, 4, 4),
            SamplingSettings(anchor_weight=0.5, by_overlap=True),
        )
        expected = 0.5 * (mask > 0).float() + 0.5 * contained * (target > 0).float()
        foreground = diffusion.probability(last.x_s)[:, 1]
        torch.testing.assert_close(foreground, expected.expand_as(foreground), rtol=0, atol=0.02)


@pytest.mark.parametrize("classes", [1, 2])
def test_stratified_members_are_one_in_each_stratum_and_each_still_standard_normal(classes):
    members, images, size = 4, 2, 16
    diffusion = Diffusion(DiffusionConfig(), classes)
    anchor = diffusion.probability_of_logits(
        torch.randn(images, diffusion.channels, size, size, generator=torch.Generator().manual_seed(0))
    )
    mean = F.avg_pool2d(anchor[:, 1:].double(), 3, stride=1, padding=1)  # 16 / 7 is nearest to 3 of the odd numbers
    u = mean / mean.square().sum((2, 3), keepdim=True).sqrt()
    projections = []
    for seed in range(500):
        x_T = MemberNoise(seed, members, images=images).draw((diffusion.channels, size, size), torch.empty(0))
        spread = stratified(x_T, anchor, images).unflatten(0, (images, members))[:, :, -classes:].double()
        p = (spread * u[:, None]).sum((3, 4))
        rest = spread - p[..., None, None] * u[:, None]
        before = x_T.unflatten(0, (images, members))[:, :, -classes:].double()
        was = (before * u[:, None]).sum((3, 4))
        torch.testing.assert_close(rest, before - was[..., None, None] * u[:, None], rtol=0, atol=1e-5)  # float32
        assert (p.argsort(1) == was.argsort(1)).all()
        strata = (torch.special.ndtr(p) * members).floor().sort(1).values
        assert (strata == torch.arange(members).view(1, -1, 1)).all()
        projections.append(p[0, 0, 0].item())
    # The first member's projection over runs: Kolmogorov-Smirnov at 0.1 %.
    assert scipy.stats.kstest(projections, "norm").pvalue > 0.001


def test_stratified_noise_is_that_of_the_member_for_one_and_needs_an_anchor():
    x_T = MemberNoise(3, 1).draw((1, 16, 16), torch.empty(0))
    torch.testing.assert_close(stratified(x_T, torch.rand(1, 2, 16, 16)), x_T, rtol=0, atol=1e-6)
    assert torch.equal(stratified(x_T, torch.zeros(1, 2, 16, 16)), x_T)  # no anchor anywhere, no direction
    with pytest.raises(ValueError, match="this network has none; draw it independently"):
        next(walk(RATERS, stratified=True))


def test_stratified_noise_brings_the_share_of_members_nearer_to_the_probability():
    condition = Condition((IMAGE,), (100 * RATERS.masks[1:],))

    def shares(spread: bool) -> list[float]:
        found = []
        for seed in range(60):
            settings, noise = SamplingSettings(stratified=spread), MemberNoise(seed, 6)
            *_, last = denoise(RATERS, condition, DIFFUSION, TIMES, noise, SHAPE, settings)
            found.append(float((last.x_s.mean((1, 2, 3)) < 0).float().mean()))
        return found

    alone, spread = shares(False), shares(True)
    assert np.mean(spread) == pytest.approx(0.5, abs=0.08)  # three standard errors of 60 runs of 6 members
    assert np.std(spread) < 0.7 * np.std(alone)


def test_a_weight_is_refused_where_there_is_no_anchor():
    with pytest.raises(ValueError, match=r"anchor_weight is 0\.5; this network has no anchor"):
        next(walk(RATERS, anchor_weight=0.5))


@pytest.mark.parametrize("times", [[], [5, 5], [1, 2], [1000, 3], [4, -1]])
def test_times_that_do_not_descend_within_the_schedule_are_refused(times):
    with pytest.raises(ValueError, match=r"give a list descending within 999 \.\.\. 0"):
        next(denoise(RATERS, RATERS.encode(IMAGE), DIFFUSION, times, MemberNoise(0, 1), SHAPE))


def test_an_unknown_sampler_and_a_foreign_x_T_are_refused():
    with pytest.raises(ValueError, match=r"choose one of ddim, ddpm, dpm-solver\+\+"):
        next(walk(RATERS, sampler="plms"))
    with pytest.raises(ValueError, match=r"5 members need \(5, 1, 4, 4\)"):
        next(walk(RATERS, x_T=torch.zeros(1, *SHAPE)))
