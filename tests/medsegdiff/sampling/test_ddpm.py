"""The variance of DDPM."""

import math

import pytest
import torch

from medsegdiff.sampling import MemberNoise
from medsegdiff.sampling.ddpm import DDPM
from medsegdiff.schedule import NoiseSchedule

T, S = 600, 400
X_T, X_0 = torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64), torch.full((1, 1, 2, 2), -0.2, dtype=torch.float64)


def spread(variance: float | None) -> float:
    """By how much one step scatters, read off the noise it must have drawn."""
    schedule = NoiseSchedule()
    drawn = MemberNoise(0, 1).draw((1, 2, 2), X_T)
    learned = None if variance is None else torch.full_like(X_T, variance)
    x_s = DDPM(schedule, [T, S]).step(X_T, X_0, learned, T, S, MemberNoise(0, 1))
    ratio = (x_s - schedule.posterior_mean(X_T, X_0, T, S)) / drawn
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    return float(ratio.mean()) ** 2


def test_a_learned_variance_runs_from_the_posteriors_to_betas_geometrically():
    smallest, beta = NoiseSchedule().posterior_variance(T, S)
    assert smallest < beta
    assert spread(None) == pytest.approx(smallest, rel=1e-10)
    assert spread(-1.0) == pytest.approx(smallest, rel=1e-10)
    assert spread(1.0) == pytest.approx(beta, rel=1e-10)
    assert spread(0.0) == pytest.approx(math.sqrt(smallest * beta), rel=1e-10)


def test_the_last_step_adds_no_noise():
    noise = MemberNoise(0, 1)
    x_s = DDPM(NoiseSchedule(), [T]).step(X_T, X_0, torch.ones_like(X_T), T, -1, noise)
    assert torch.equal(x_s, X_0)
    assert torch.equal(noise.draw((1, 2, 2), X_T), MemberNoise(0, 1).draw((1, 2, 2), X_T))
