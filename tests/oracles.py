"""Denoisers with a known answer: for simple distributions of masks the optimal denoiser has a closed form.

Squared error and cross-entropy both have the posterior mean E[x_0 | x_t] for their minimiser, so that is what an oracle
answers, in the parametrisation of its `diffusion`. From it a sampler must reach:

    OneTruth     x_0 is certain                       that mask, from any noise, in any number of steps
    Gaussian     x_0 ~ N(mean, std^2), pixelwise      a closed form (`flow`), at the order of the method
    TwoRaters    x_0 is one of two masks              one of the two, in the proportion share : 1 - share

The last is what a diffusion segmenter promises: an ensemble that carries its experts' disagreement.

References:
    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), appendix B.3,
    https://arxiv.org/abs/2206.00364
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medsegdiff.records import Condition, Prediction, Switches
from medsegdiff.schedule import Diffusion

__all__ = ["Gaussian", "OneTruth", "Oracle", "TwoRaters"]


@dataclass
class Oracle:
    """Predict the posterior mean defined by a subclass, in the dtype of x_t; use float64 for exact results."""

    diffusion: Diffusion

    def posterior_mean(self, x_t: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, image: Tensor) -> Condition:
        return Condition((image,))

    def __call__(
        self, x_t: Tensor, t: Tensor, condition: Condition, *, trace: bool = False, switches: Switches = Switches()
    ) -> Prediction:
        x_0 = self.posterior_mean(x_t, t).expand_as(x_t)
        match self.diffusion.config.parametrization:
            case "epsilon":
                return Prediction(self.diffusion.schedule.eps_from_x_0(x_t, t, x_0))
            case "v":
                return Prediction(self.diffusion.schedule.v_from_x_0(x_t, t, x_0))
            case _:  # logits, infinite where certain
                share = (x_0 / self.diffusion.config.scale + 1).div(2).clamp(0, 1)
                return Prediction(share.logit() if self.diffusion.classes == 1 else share.log())


@dataclass
class OneTruth(Oracle):
    """A single possible mask."""

    mask: Tensor  # (1, k, h, w) in {-scale, scale}

    def posterior_mean(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.mask


@dataclass
class Gaussian(Oracle):
    """Independent normal pixels; mean and std must be well inside the scale, or clipping invalidates the closed form."""

    mean: Tensor  # (1, k, h, w)
    std: float

    def _moments(self, t: Tensor | int) -> tuple[Tensor, Tensor]:
        signal, noise = self.diffusion.schedule.signal_and_noise(t, self.mean)
        return signal, (signal**2 * self.std**2 + noise**2).sqrt()

    def posterior_mean(self, x_t: Tensor, t: Tensor) -> Tensor:
        signal, std_t = self._moments(t)
        return self.mean + signal * self.std**2 / std_t**2 * (x_t - signal * self.mean)

    def flow(self, x_t: Tensor, t: int, s: int) -> Tensor:
        """Solve the probability flow from t to s: (x_t - E x_t) / std(x_t) is constant along each path."""
        (signal_t, std_t), (signal_s, std_s) = self._moments(t), self._moments(s)
        return signal_s * self.mean + std_s / std_t * (x_t - signal_t * self.mean)


@dataclass
class TwoRaters(Oracle):
    """Two experts with different masks; the posterior of each becomes certain as noise decreases."""

    masks: Tensor  # (2, k, h, w) in {-scale, scale}
    share: float  # of the first

    def posterior_mean(self, x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = self.diffusion.schedule.signal_and_noise(t, x_t)
        distance = (x_t[:, None] - signal[:, None] * self.masks).square().sum((2, 3, 4))
        prior = x_t.new_tensor([self.share, 1 - self.share]).log()
        belief = (prior - distance / (2 * noise.reshape(-1, 1) ** 2)).softmax(1)
        return torch.einsum("bm,mkhw->bkhw", belief, self.masks)

    def nearest(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """Return each sample's rater (0 or 1) and its largest distance at any pixel from that rater's mask."""
        distance, rater = (x_0[:, None] - self.masks).abs().amax((2, 3, 4)).min(1)
        return rater, distance
