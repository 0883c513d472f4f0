"""Sample masks from noise, yielding every step of the sampling trajectory.

    x_0 = prediction of the network from x_t      x_s = step of the sampler from x_t and x_0      t <- s, until clean

`times` chooses the timesteps and `noise` draws the random numbers; a sampler only implements its update. The caller drives
the loop and can stop at any step. A sampler object belongs to one run: it is created for a schedule and a list of times and may
keep state, so concurrent runs do not affect each other.

References:
    DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    DDIM (Song et al., 2021), https://arxiv.org/abs/2010.02502
    DPM-Solver++ (Lu et al., 2022), https://arxiv.org/abs/2211.01095
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from medsegdiff.records import Condition, Denoiser, Step, Switches
from medsegdiff.sampling.ddim import DDIM
from medsegdiff.sampling.ddpm import DDPM
from medsegdiff.sampling.dpm_solver import DPMSolver
from medsegdiff.sampling.interop import from_diffusers
from medsegdiff.sampling.noise import MemberNoise, stratified
from medsegdiff.sampling.times import SPACINGS, spaced
from medsegdiff.schedule import Diffusion, NoiseSchedule

__all__ = [
    "SAMPLERS",
    "SPACINGS",
    "MemberNoise",
    "Sampler",
    "SamplingSettings",
    "denoise",
    "faded_anchor",
    "from_diffusers",
    "spaced",
    "stratified",
]


class Sampler(Protocol):
    """A sampler for one run."""

    @property
    def times(self) -> list[int]:
        """The timesteps, descending; the clean mask follows the last."""
        ...

    def step(
        self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, variance: Tensor | None, t: int, s: int, noise: MemberNoise
    ) -> Float[Tensor, "b k h w"]:
        """Return x_s, given x_t and the predicted clean mask."""
        ...


# (schedule, times, eta) -> sampler; eta is used by DDIM only.
SAMPLERS: dict[str, Callable[[NoiseSchedule, list[int], float], Sampler]] = {
    "ddim": DDIM,
    "ddpm": lambda schedule, times, eta: DDPM(schedule, times),
    "dpm-solver++": lambda schedule, times, eta: DPMSolver(schedule, times),
}


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Settings of `denoise`.

    Arguments:
        sampler: a key of SAMPLERS, or a callable like its values (see `interop.from_diffusers`).
        eta: fresh noise in DDIM, 0 to 1; the other samplers ignore it.
        anchor_weight: w, 0 to 1: x_0 is replaced by (1 - w) x_0 + w a at every step, a the anchor's mask (F31). 0 as in the
            paper; V1 has no anchor.
        by_overlap: fade the anchor, class by class, to the extent that a member does not contain it (F39, `faded_anchor`).
        stratified: spread the members' noise evenly along the anchor (F42, `stratified`); not for an x_T that is given.
        trace: record what the components of the network computed.
        switches: components of the network to bypass.
    """

    sampler: str | Callable[[NoiseSchedule, list[int], float], Sampler] = "ddim"
    eta: float = 0.0
    anchor_weight: float = 0.0
    by_overlap: bool = False
    stratified: bool = False
    trace: bool = False
    switches: Switches = Switches()


def denoise(
    model: Denoiser,
    condition: Condition,
    diffusion: Diffusion,
    times: list[int],
    noise: MemberNoise,
    shape: tuple[int, int, int],
    settings: SamplingSettings = SamplingSettings(),
    *,
    x_T: Float[Tensor, "members k h w"] | None = None,
) -> Iterator[Step]:
    """Sample masks, yielding every step; the last one's `x_s` are the masks, in [-scale, scale].

    Gradients are disabled within each step; the grad mode of the caller is unchanged. Any thread may advance the iterator.

    Arguments:
        model: network in eval mode.
        condition: `model.encode` of one image; determines the device.
        diffusion: schedule, scale and parametrisation the network was trained with.
        times: timesteps, descending (see `times.spaced`).
        noise: one stream for each sample.
        shape: (k, h, w) of one mask.
        settings: sampler, stochasticity, anchor weight, trace and switches.
        x_T: initial state instead of random float32 noise; its dtype is used for the run.

    Raises, at the first step: ValueError for times that do not descend within the schedule, an unknown sampler, an x_T of the
    wrong shape, or an anchor_weight or stratified noise without an anchor.
    """
    sampler, anchor_weight = settings.sampler, settings.anchor_weight
    if not times or any(t <= s for t, s in pairwise([diffusion.schedule.timesteps, *times, -1])):
        raise ValueError(f"times is {times}; give a list descending within {diffusion.schedule.timesteps - 1} ... 0")
    if isinstance(sampler, str) and sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}")
    if x_T is not None and x_T.shape != (noise.members, *shape):
        raise ValueError(f"x_T is {tuple(x_T.shape)}; {noise.members} members need {(noise.members, *shape)}")
    if anchor_weight and not condition.anchor_logits:
        raise ValueError(f"anchor_weight is {anchor_weight}; this network has no anchor, so leave it at 0")

    if settings.stratified and not condition.anchor_logits:
        raise ValueError("stratified noise needs an anchor, and this network has none; draw it independently")

    begin = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    run = begin(diffusion.schedule, times, settings.eta)
    x_t = noise.draw(shape, torch.empty(0, device=condition.features[0].device)) if x_T is None else x_T
    if settings.stratified and x_T is None:
        logits = condition.anchor_logits[0].float()
        each = len(logits) // noise.images  # a condition of several images is repeated for every member
        x_t = stratified(x_t, diffusion.probability_of_logits(logits[::each]), noise.images)

    # Grad mode is per thread, and a generator may be advanced from several threads, so it is set within each step. A `with`
    # around the `yield` would leak into the caller.
    @torch.no_grad()
    def step(index: int, x_t: Tensor, t: int, s: int) -> Step:
        at = torch.tensor([t], device=x_t.device)
        prediction = model(x_t, at, condition, trace=settings.trace, switches=settings.switches)
        x_0 = diffusion.x_0(prediction.output.to(x_t), x_t, t)
        if anchor_weight:
            logits = condition.anchor_logits[0].to(x_t)
            anchor = faded_anchor(diffusion, x_0, logits) if settings.by_overlap else diffusion.x_0_of_logits(logits)
            x_0 = x_0.lerp(anchor, anchor_weight)
        variance = None if prediction.variance is None else prediction.variance.to(x_t)
        x_s = run.step(x_t, x_0, variance, t, s, noise)
        return Step(index, len(run.times), t, s, x_t, x_s, x_0, prediction.trace)

    for index, (t, s) in enumerate(pairwise([*run.times, -1])):
        reached = step(index, x_t, t, s)
        yield reached
        x_t = reached.x_s


def faded_anchor(
    diffusion: Diffusion, x_0: Float[Tensor, "m k h w"], logits: Float[Tensor, "_ k h w"]
) -> Float[Tensor, "m k h w"]:
    """Return the anchor's mask, faded for each member and class to the extent that the member does not contain it (F39).

    The foreground probabilities a_c of the anchor become r_c a_c with

        r_c = min(1, <p_c, a_c> / <a_c, a_c>),

    the coefficient of the projection of the member's probabilities p_c on a_c. A member whose mask is empty is therefore not
    pulled towards the anchor, as it would be by averaging with the anchor itself: where readers may mark nothing, an empty
    mask is a valid answer.

    Arguments:
        diffusion: whose scale and classes the masks have.
        x_0: predicted masks, in [-scale, scale].
        logits: of the anchor; one image, or one for each member.
    """
    p, a = diffusion.probability(x_0)[:, 1:], diffusion.probability_of_logits(logits)[:, 1:]
    r = (p * a).sum((2, 3), keepdim=True) / a.square().sum((2, 3), keepdim=True).clamp_min(1e-6)
    faded = r.clamp_max(1) * a
    if diffusion.classes > 1:
        faded = torch.cat([1 - faded.sum(1, keepdim=True), faded], 1)
    return diffusion.config.scale * (2 * faded - 1)
