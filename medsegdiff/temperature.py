"""Fit a temperature, with which a probability comes closer to a frequency.

For the probabilities p_jc of m members and c classes, the temperature T minimises the negative log-likelihood of the ground
truth y under their mean,

    P_c(T) = 1/m sum_j p_jc^(1/T) / sum_k p_jk^(1/T),        NLL(T) = -mean over pixels of sum_c y_c log P_c(T),

over the pixels of images that neither trained the network nor score it. y_c is 0 or 1, or the share of several readers. Masks
hardly change, since a member's most probable class stays the same.

References:
    On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from medsegdiff.metrics import mean, reliability
from medsegdiff.schedule import Diffusion

__all__ = ["TemperatureFit", "fit_temperature"]

_GRID = tuple(round(2 ** (i / 8), 3) for i in range(-8, 17))  # 0.5 to 4
_LEAST = 1e-7  # a probability of exactly 0 would make the likelihood 0


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """The temperature, and what it does to the images it was fitted on: (before, after)."""

    temperature: float
    nll: tuple[float, float]
    ece: tuple[float, float]
    images: int


def fit_temperature(
    images: Iterable[tuple[Float[Tensor, "m k h w"], UInt8[np.ndarray, "r h w"]]], diffusion: Diffusion
) -> TemperatureFit:
    """Fit the temperature on images, of each the members' predicted masks x_0 and the label images of r readers.

    Raises:
        ValueError: there are no images.
    """
    nll, count, classes = np.zeros(len(_GRID)), 0, diffusion.classes + 1
    totals = [reliability(np.zeros((classes, 0)), np.zeros(0, np.uint8)) for _ in _GRID]
    for x_0, readers in images:
        count += 1
        shares = F.one_hot(torch.from_numpy(readers).long(), classes).float().mean(0).movedim(-1, 0)
        for i, temperature in enumerate(_GRID):
            probability = diffusion.probability(x_0.float(), temperature).mean(0).cpu()
            nll[i] -= float((shares * probability.clamp_min(_LEAST).log()).sum(0).mean())
            totals[i] += reliability(probability.numpy(), readers)
    if not count:
        raise ValueError("there are no images to fit a temperature on; give some that training held out")
    best, one = int(nll.argmin()), _GRID.index(1.0)
    before, after = (mean(totals[i].ece) for i in (one, best))
    return TemperatureFit(
        _GRID[best], (float(nll[one]) / count, float(nll[best]) / count), (float(before), float(after)), count
    )
