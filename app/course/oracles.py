"""Provide a denoiser with a closed-form answer: two experts, two masks, nothing learned.

If an image has two correct masks m_1 and m_2 with probabilities s and 1 - s, the optimal denoiser is known:

    b_i(x_t)     ~  share_i exp( -|x_t - sqrt(alpha_bar) m_i|^2 / 2 (1 - alpha_bar) )        posterior probability of m_i
    E[x_0|x_t]   =  b_1 m_1 + b_2 m_2

At t = T-1 the posterior equals the prior and the prediction is the average of the masks, which is all that a deterministic
network can give. As the noise decreases, the posterior approaches 0 or 1, and the sample becomes one of the masks.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medsegdiff.records import Condition, Prediction, Switches
from medsegdiff.schedule import Diffusion

__all__ = ["TwoRaters"]


@dataclass(frozen=True, slots=True)
class TwoRaters:
    """The optimal denoiser for an image with two expert masks. Shapes are those of `records.Denoiser`."""

    diffusion: Diffusion  # with parametrisation x_0
    masks: Float[Tensor, "2 1 h w"]  # in {-scale, scale}
    share: float  # of the first

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Return a condition that contains the image only, which is not used."""
        return Condition((image,))

    def belief(self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " u"]) -> Float[Tensor, "b 2"]:
        """Compute the posterior probability of each mask given x_t."""
        signal, noise = self.diffusion.schedule.signal_and_noise(t, x_t)
        distance = (x_t[:, None] - signal[:, None] * self.masks).square().sum((2, 3, 4))
        prior = x_t.new_tensor([self.share, 1 - self.share]).log()
        return (prior - distance / (2 * noise.reshape(-1, 1) ** 2)).softmax(1)

    def __call__(
        self,
        x_t: Float[Tensor, "b 1 h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = Switches(),
    ) -> Prediction:
        """Predict E[x_0 | x_t], as logits."""
        x_0 = torch.einsum("bm,mkhw->bkhw", self.belief(x_t, t), self.masks)
        return Prediction((x_0 / self.diffusion.config.scale + 1).div(2).clamp(0, 1).logit())
