"""Fit a temperature that calibrates the predicted probabilities.

For the probabilities p_jc of m members and c classes, the temperature T minimises the negative log-likelihood of the ground
truth y under their mean,

    P_c(T) = 1/m sum_j p_jc^(1/T) / sum_k p_jk^(1/T),        NLL(T) = -mean over pixels of sum_c y_c log P_c(T),

over the pixels of images that neither trained the network nor score it. y_c is 0 or 1, or the share of several readers. Masks
hardly change, since a member's most probable class stays the same.

References:
    On Calibration of Modern Neural Networks (Guo et al., 2017), https://arxiv.org/abs/1706.04599
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from medsegdiff.metrics import mean, reliability
from medsegdiff.schedule import Diffusion

__all__ = ["TemperatureFit", "TemperatureFitter"]

_GRID = tuple(round(2 ** (i / 8), 3) for i in range(-8, 17))  # 0.5 to 4
_LEAST = 1e-7  # a probability of exactly 0 would make the likelihood 0


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """The temperature, and what it does to the images it was fitted on: (before, after)."""

    temperature: float
    nll: tuple[float, float]
    ece: tuple[float, float]
    images: int


class TemperatureFitter:
    """Collects the likelihood of images one by one, for every temperature of a grid."""

    def __init__(self, diffusion: Diffusion) -> None:
        self.diffusion, self.images = diffusion, 0
        self._nll = np.zeros(len(_GRID))
        self._reliability = [reliability(np.zeros((diffusion.classes + 1, 0)), np.zeros(0, np.uint8)) for _ in _GRID]

    def add(
        self,
        x_0: Float[Tensor, "m k h w"],
        readers: UInt8[np.ndarray, "r h w"],
        anchor: Float[Tensor, "_ h w"] | None = None,
    ) -> None:
        """Add an image.

        Arguments:
            x_0: the members' predicted masks.
            readers: label images of one or several readers.
            anchor: the anchor's class probabilities, where members are fused with them: P is then the mean of both.
        """
        self.images += 1
        shares = F.one_hot(torch.from_numpy(readers).long(), self.diffusion.classes + 1).float().mean(0).movedim(-1, 0)
        for i, temperature in enumerate(_GRID):
            probability = self.diffusion.probability(x_0.float(), temperature).mean(0).cpu()
            probability = probability if anchor is None else (probability + anchor.cpu()) / 2
            self._nll[i] -= float((shares * probability.clamp_min(_LEAST).log()).sum(0).mean())
            self._reliability[i] += reliability(probability.numpy(), readers)

    def fit(self) -> TemperatureFit:
        """Return the temperature with the highest likelihood.

        Raises:
            ValueError: no image was added.
        """
        if not self.images:
            raise ValueError("there are no images to fit a temperature on; give some that training held out")
        best, one = int(self._nll.argmin()), _GRID.index(1.0)
        nll, ece = (
            [float(v) for v in values]
            for values in zip(
                *((self._nll[i] / self.images, mean(self._reliability[i].ece)) for i in (one, best)), strict=True
            )
        )
        return TemperatureFit(_GRID[best], (nll[0], nll[1]), (ece[0], ece[1]), self.images)
