"""The training objective.

    L_t = L_noise,t + 1[t mod alpha = 0] ( L_dice + beta L_ce )                                V2 loss, per sample

L_noise is the squared error of epsilon or v; with parametrisation x_0 it is the cross-entropy of the logits, whose minimiser
is the posterior mean, as for the squared error (see `schedule`). L_dice and L_ce supervise the anchor, the condition
network's mask; V1 has none and is trained with L_noise only. With a learned variance the variational bound of Improved
DDPM is added, its mean detached (F11). The loss of a plain U-Net is L_dice + beta L_ce on every sample.

If several readers annotated an image, the noise loss of a sample uses the mask of one reader, chosen at random, so the
model learns the distribution of masks; the anchor and a plain U-Net learn the share of readers at each pixel.

A picture's loss is a mean over pixels, most of them easy, so large targets outweigh small ones. With `balance` p it is weighed by

    w = ( (a + 16) / 64 )^-p,      a: pixels marked, mean over readers

which depends on the picture and not on the reader drawn, so the minimiser stays what it is, picture by picture.

References:
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
    Improved DDPM (Nichol & Dhariwal, 2021), https://arxiv.org/abs/2102.09672
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from medsegdiff.nn.build import Network
from medsegdiff.records import Condition, Prediction
from medsegdiff.schedule import Diffusion

__all__ = ["Loss", "Objective", "soft_dice_loss"]


@dataclass(frozen=True, slots=True)
class Loss:
    """The total loss of a batch and its terms, each a mean over samples; terms that do not apply are zero."""

    total: Float[Tensor, ""]
    noise: Float[Tensor, ""]
    anchor_dice: Float[Tensor, ""]
    anchor_ce: Float[Tensor, ""]
    variance: Float[Tensor, ""]


def drawn_readers(
    labels: Integer[Tensor, "i h w"] | Integer[Tensor, "i r h w"], draws: int
) -> Integer[Tensor, "b h w"]:
    """Lay out the mask of every draw, (i * draws, h, w): of several readers, draw j has that of reader j mod r."""
    if labels.ndim == 3:
        return labels.repeat_interleave(draws, 0)
    return labels[:, [j % labels.shape[1] for j in range(draws)]].flatten(0, 1)


class Objective(nn.Module):
    """A network with its loss; `forward` maps a batch to the loss.

    Arguments:
        model: the denoiser, or a plain U-Net.
        diffusion: schedule, scale and parametrisation.
        alpha: the anchor is supervised on samples whose t is a multiple of it.
        beta: weight of the anchor's cross-entropy.
        dice: weight of soft Dice on x_0 beside the noise loss (F29); 0 as in the papers.
        anchor_dice: weight of L_dice; 0 trains the anchor with cross-entropy only (F34).
        balance: p, of a picture's weight; 0 weighs all alike (F36).
    """

    def __init__(
        self,
        model: Network,
        diffusion: Diffusion,
        *,
        alpha: int,
        beta: float,
        dice: float = 0.0,
        anchor_dice: float = 1.0,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.diffusion = diffusion
        self.alpha, self.beta, self.dice, self.anchor_dice = alpha, beta, dice, anchor_dice
        self.balance = balance

    def forward(
        self,
        image: Float[Tensor, "i c h w"],
        labels: Integer[Tensor, "i h w"] | Integer[Tensor, "i r h w"],
        t: Int[Tensor, " b"] | None = None,
        eps: Float[Tensor, "b k h w"] | None = None,
        trajectory: Int[Tensor, "b n"] | None = None,
    ) -> Loss:
        """Noise the masks, run the network and compute the loss.

        Each of the i images may have several samples of noise, b = i * draws, consecutively; the condition network runs once per
        image. A sample with a row of descending times above its t is unrolled (F28): its x_t is reached by DDIM from eps with the
        network itself, and the ground truth is used in the loss only. A row of -1 means no unrolling.

        With several readers, labels (i, r, h, w), draw j of a picture is of reader j mod r: batches bring the readers of each
        picture in an order drawn at random. The anchor learns their share.

        Without t and eps only the anchor is trained: for a plain U-Net, and for V2 while the anchor is trained first (F30).
        """
        condition = self.model.encode(image)
        if t is None or eps is None:
            zero = image.new_zeros(())
            dice, ce = self._anchor(condition, labels, self._weight(labels))
            return Loss(self.anchor_dice * dice + self.beta * ce, zero, dice, ce, zero)
        draws = len(t) // len(image)
        drawn = drawn_readers(labels, draws)
        x_0 = self.diffusion.from_labels(drawn)
        condition_of_draws = condition.repeat(draws)
        x_t = self.diffusion.schedule.noised(x_0, t, eps)
        if trajectory is not None and (own := trajectory[:, 0] >= 0).any():
            x_t[own] = self._unrolled(eps[own], [*trajectory[own].T, t[own]], condition_of_draws.select(own))
        answer: Prediction = self.model(x_t, t, condition_of_draws)
        weight = self._weight(labels)
        noise = (weight.repeat_interleave(draws) * self._noise(answer.output, x_0, x_t, t, drawn)).mean()
        zero = noise.new_zeros(())
        variance = zero if answer.variance is None else self._bound(answer.output, answer.variance, x_0, x_t, t)
        dice = ce = zero
        if condition.anchor_logits:
            due = (t % self.alpha == 0).float().unflatten(0, (-1, draws)).mean(1)
            dice, ce = self._anchor(condition, labels, due * weight)
        return Loss(noise + variance + self.anchor_dice * dice + self.beta * ce, noise, dice, ce, variance)

    def _anchor(self, condition: Condition, labels: Tensor, due: Float[Tensor, " i"]) -> tuple[Tensor, Tensor]:
        """Dice loss and cross-entropy of the condition network's own mask, weighted per sample."""
        (logits,) = condition.anchor_logits
        readers = labels.unsqueeze(1) if labels.ndim == 3 else labels
        each = [(soft_dice_loss(logits, one), self._cross_entropy(logits, one)) for one in readers.unbind(1)]
        dice, ce = (torch.stack(parts).mean(0) for parts in zip(*each, strict=True))
        return (due * dice).mean(), (due * ce).mean()

    @torch.no_grad()
    def _unrolled(self, x: Tensor, times: list[Tensor], condition: Condition) -> Tensor:
        """Sample from x, noise at times[0], to x_t at times[-1]."""
        schedule = self.diffusion.schedule
        for t, s in pairwise(times):
            believed = self.diffusion.x_0(self.model(x, t, condition).output, x, t)
            x = schedule.noised(believed, s, schedule.eps_from_x_0(x, t, believed))
        return x

    def _weight(self, labels: Integer[Tensor, "i h w"] | Integer[Tensor, "i r h w"]) -> Float[Tensor, " i"]:
        """Weigh each picture by the area that its readers marked."""
        area = (labels > 0).float().flatten(1).sum(1) / (labels.shape[1] if labels.ndim == 4 else 1)
        return ((area + 16) / 64) ** -self.balance

    def _noise(self, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, labels: Tensor) -> Float[Tensor, " b"]:
        match self.diffusion.config.parametrization:
            case "epsilon":
                return (output - self.diffusion.schedule.eps_from_x_0(x_t, t, x_0)).square().flatten(1).mean(1)
            case "v":
                return (output - self.diffusion.schedule.v_from_x_0(x_t, t, x_0)).square().flatten(1).mean(1)
            case _:
                loss = self._cross_entropy(output, labels)
                return loss + self.dice * soft_dice_loss(output, labels) if self.dice else loss

    def _cross_entropy(self, logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, " b"]:
        if self.diffusion.classes == 1:
            pixels = F.binary_cross_entropy_with_logits(logits[:, 0], (labels > 0).float(), reduction="none")
        else:
            pixels = F.cross_entropy(logits, labels.long(), reduction="none")
        return pixels.flatten(1).mean(1)

    def _bound(self, output: Tensor, fraction: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Float[Tensor, ""]:
        """Mean of the bound's terms in bits per dimension: KL of the posteriors, at t = 0 the likelihood of the mask."""
        schedule, scale = self.diffusion.schedule, self.diffusion.config.scale
        a_t, a_s = (schedule.alpha_bar_at(u).to(x_t)[:, None, None, None] for u in (t, t - 1))
        beta = 1 - a_t / a_s
        posterior = ((1 - a_s) / (1 - a_t) * beta).clamp_min(1e-20).log()
        log_variance = (fraction + 1) / 2 * beta.log() + (1 - fraction) / 2 * torch.where(
            t[:, None, None, None] > 0, posterior, beta.log()
        )
        believed = self.diffusion.x_0(output, x_t, t).detach()
        gap = (a_s.sqrt() * beta / (1 - a_t)) * (x_0 - believed)  # difference of the two posterior means
        kl = 0.5 * (log_variance - posterior + (posterior - log_variance).exp() - 1 + gap.square() / log_variance.exp())
        likelihood = 0.5 * (
            log_variance + (x_0 - believed).square() / log_variance.exp() + math.log(2 * math.pi / scale**2)
        )
        bound = torch.where(t[:, None, None, None] > 0, kl, likelihood)
        return bound.mean() / math.log(2) * schedule.timesteps / 1000


def soft_dice_loss(logits: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Compute 1 - (2 sum p y + s) / (sum p + sum y + s), s = 1e-5, of each sample, averaged over the foreground classes.

    Arguments:
        logits: of the foreground (k = 1, through a sigmoid) or of the background and classes 1..k - 1 (a softmax).
        labels: 0 background, 1.. classes.
    """
    if logits.shape[1] == 1:
        p, y = logits.float().sigmoid(), (labels > 0)[:, None].float()
    else:
        p = logits.float().softmax(1)[:, 1:]
        y = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    overlap, sizes = (p * y).sum((2, 3)), (p + y).sum((2, 3))
    return (1 - (2 * overlap + 1e-5) / (sizes + 1e-5)).mean(1)
