"""Measure the networks for chapters 3, 5 and 7, and run one with wrong timesteps. Imports torch, unlike the chapters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.nn.v2 import MedSegDiffV2
from medsegdiff.pipeline import Segmenter
from medsegdiff.records import Condition, Denoiser, Prediction, Step
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, spaced

__all__ = [
    "Renumbered",
    "energies",
    "energy_after",
    "first_feature",
    "openings",
    "run_of",
    "without_interpolation",
]


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A network that receives wrong timesteps: those of a run, renumbered 0, 1, 2 ... from the last step to the first."""

    model: Denoiser
    times: Sequence[int]  # of the run, descending

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Compute the features of the image."""
        return self.model.encode(image)

    def __call__(self, x_t: Tensor, t: Int[Tensor, " u"], condition: Condition, **options: Any) -> Prediction:
        """Predict from x_t and the wrong t."""
        wrong = [len(self.times) - 1 - self.times.index(int(step)) for step in t]
        return self.model(x_t, torch.tensor(wrong, device=t.device), condition, **options)


def run_of(
    segmenter: Segmenter, condition: Condition, steps: int, sampler: str, seed: int, members: int, *, fault: bool
) -> Iterator[Step]:
    """Sample masks, with right or with renumbered timesteps."""
    diffusion, size = segmenter.diffusion, segmenter.checkpoint.model_config.image_size
    times = spaced(diffusion.schedule.timesteps, steps)
    model = Renumbered(segmenter.model, times) if fault else segmenter.model
    noise, settings = MemberNoise(seed, members), SamplingSettings(sampler=sampler)
    return denoise(model, condition, diffusion, times, noise, (diffusion.channels, size, size), settings)


def energies(feature: Tensor) -> tuple[float, float]:
    """Sum the squares of a feature map and of its spectrum, which are equal by Parseval's theorem."""
    return float(feature.square().sum()), float(torch.fft.fft2(feature, norm="ortho").abs().square().sum())


def without_interpolation(parser: torch.nn.Module, size: tuple[int, int]) -> str:
    """Multiply a filter by a spectrum of another size without interpolation; return the resulting shape or error message."""
    spectrum = torch.fft.rfft2(torch.zeros(size))
    try:
        return str(tuple((torch.complex(*parser.get_parameter("gain").detach()) * spectrum).shape))
    except RuntimeError as error:
        return str(error).partition(" at non-singleton")[0]


@torch.no_grad()
def energy_after(segmenter: Segmenter, feature: Tensor, profile: tuple[float, ...]) -> float:
    """Sum the squares of a feature map after the first FF-Parser."""
    model = segmenter.checkpoint.model
    assert isinstance(model, MedSegDiffV1)
    return float(model.parsers[0](feature, profile).square().sum())


@torch.no_grad()
def first_feature(segmenter: Segmenter) -> Tensor:
    """Compute the input of the first FF-Parser for pure noise."""
    model = segmenter.checkpoint.model
    assert isinstance(model, MedSegDiffV1)
    size, like = segmenter.checkpoint.model_config.image_size, model.parsers[0].gain
    x_t = MemberNoise(0, 1).draw((segmenter.diffusion.channels, size, size), like)
    last = torch.tensor([segmenter.diffusion.schedule.timesteps - 1], device=like.device)
    return model.mask_stages[0](model.mask_stem(x_t), model.time(last)).float()


@torch.no_grad()
def openings(segmenter: Segmenter, times: list[int]) -> dict[str, Float[ndarray, "p n n"]]:
    """Evaluate the surface of every NBP-Filter at these timesteps; it depends on t and two frequencies only."""
    model = segmenter.checkpoint.model
    if not isinstance(model, MedSegDiffV2) or model.ss_former is None:
        return {}
    config = model.config
    side = config.image_size // config.stride
    time = model.time(torch.tensor(times, device=model.stem.get_parameter("1.weight").device))
    found = {}
    for i, pair in enumerate(zip(model.ss_former.modules_1, model.ss_former.modules_2, strict=True), 1):
        for module, who in zip(pair, ("query_noise", "query_semantics"), strict=True):
            if module.band is not None:
                surface = module.band(side * side, time)[:, 0]
                found[f"block {i}, {who}"] = torch.fft.fftshift(surface, dim=(-2, -1)).cpu().numpy()
    return found
