"""The forward process, and the conversions between x_0, epsilon and v.

    q(x_t | x_0) = N( sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I )                              V1 eq. 1; DDPM eq. 4

Given x_t, any one of x_0, eps and v determines the other two:

    eps = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar)
    v   = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0

Masks are far more redundant than photographs: at full signal scale the mask is visible in x_t at most timesteps, and a network
learns to ignore the image. `scale` < 1 prevents this. With parametrisation `x_0` the network predicts logits, and

    x_0 = scale * tanh(logit / 2)            one class;       x_0 = scale * (2 softmax(logits) - 1)    several

is trained by cross-entropy, a proper scoring rule. Its minimiser is the posterior mean E[x_0 | x_t], as for the squared
error, so all samplers apply unchanged; only the weighting over t differs.

No other module of the package multiplies by sqrt(alpha_bar).

References:
    DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    Progressive distillation (Salimans & Ho, 2022), https://arxiv.org/abs/2202.00512
"""

import math

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from medsegdiff.config import DiffusionConfig
from medsegdiff.noise_levels import alpha_bar

__all__ = ["Diffusion", "NoiseSchedule"]


class NoiseSchedule:
    """Cumulative signal power alpha_bar_t for t = 0 ... T-1, with alpha_bar_{-1} = 1 for the clean mask.

    Arguments:
        kind: "linear" or "cosine", see `medsegdiff.noise_levels`.
        timesteps: T; linear needs more than 20, below which its last beta reaches 1.
    """

    def __init__(self, kind: str = "linear", timesteps: int = 1000) -> None:
        self.kind = kind
        self.timesteps = timesteps
        self.alpha_bar: Float[Tensor, " T"] = torch.from_numpy(alpha_bar(kind, timesteps))  # float64, on the CPU

    def alpha_bar_at(self, t: Int[Tensor, " u"] | int) -> Float[Tensor, " u"]:
        """Return alpha_bar in float64 on the CPU; 1 for t = -1."""
        index = torch.as_tensor(t).cpu().reshape(-1) + 1
        return torch.cat([self.alpha_bar.new_ones(1), self.alpha_bar])[index]

    def signal_and_noise(self, t: Int[Tensor, " u"] | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), shaped (u, 1, 1, 1), in the dtype and on the device of `like`."""
        alpha_bar = self.alpha_bar_at(t).reshape(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)

    def noised(
        self, x_0: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int, eps: Float[Tensor, "b k h w"]
    ) -> Tensor:
        """Return the sample x_t of q(x_t | x_0) for a given noise."""
        signal, noise = self.signal_and_noise(t, x_0)
        return signal * x_0 + noise * eps

    def x_0_from_eps(self, x_t: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int, eps: Tensor) -> Tensor:
        """Return the clean mask, given x_t and the noise."""
        signal, noise = self.signal_and_noise(t, x_t)
        return (x_t - noise * eps) / signal

    def eps_from_x_0(self, x_t: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int, x_0: Tensor) -> Tensor:
        """Return the noise, given x_t and the clean mask."""
        signal, noise = self.signal_and_noise(t, x_t)
        return (x_t - signal * x_0) / noise

    def v_from_x_0(self, x_t: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int, x_0: Tensor) -> Tensor:
        """Return the velocity, given x_t and the clean mask."""
        signal, noise = self.signal_and_noise(t, x_t)
        return (signal * x_t - x_0) / noise

    def x_0_from_v(self, x_t: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int, v: Tensor) -> Tensor:
        """Return the clean mask, given x_t and the velocity."""
        signal, noise = self.signal_and_noise(t, x_t)
        return signal * x_t - noise * v

    def posterior_variance(self, t: int, s: int) -> tuple[float, float]:
        """Return the lower and upper bound of the variance of x_s given x_t: that of the posterior with known x_0, and beta."""
        a_t, a_s = (float(self.alpha_bar_at(u)) for u in (t, s))
        beta = 1 - a_t / a_s
        return (1 - a_s) / (1 - a_t) * beta, beta

    def posterior_mean(self, x_t: Float[Tensor, "b k h w"], x_0: Tensor, t: int, s: int) -> Tensor:
        """Mean of q(x_s | x_t, x_0) for any s < t (DDPM eq. 7 on a respaced schedule)."""
        a_t, a_s = (float(self.alpha_bar_at(u)) for u in (t, s))
        alpha = a_t / a_s
        return (math.sqrt(a_s) * (1 - alpha) * x_0 + math.sqrt(alpha) * (1 - a_s) * x_t) / (1 - a_t)


class Diffusion:
    """A schedule, a signal scale and a parametrisation; converts labels and network outputs to x_0.

    Arguments:
        config: schedule, scale and parametrisation.
        classes: K foreground classes; masks have one channel for K = 1, else K + 1 with background first.
    """

    def __init__(self, config: DiffusionConfig, classes: int = 1) -> None:
        self.config = config
        self.classes = classes
        self.channels = 1 if classes == 1 else classes + 1
        self.schedule = NoiseSchedule(config.schedule, config.timesteps)

    def from_labels(self, labels: Integer[Tensor, "b h w"]) -> Float[Tensor, "b k h w"]:
        """Convert label images (0 background, 1..K) to clean masks in {-scale, scale}."""
        if self.classes == 1:
            share = (labels > 0)[:, None].float()
        else:
            share = F.one_hot(labels.long(), self.channels).movedim(-1, 1).float()
        return self.config.scale * (2 * share - 1)

    def probability(self, x_0: Float[Tensor, "b k h w"], temperature: float = 1.0) -> Float[Tensor, "b _ h w"]:
        """Return the class probabilities of a mask: (b, K + 1, h, w), background first, in [0, 1], summing to one.

        With a temperature T they are p_c^(1/T) / sum_k p_k^(1/T), as if logits had been divided by T: less certain above 1, with
        the same most probable class. Where x_0 is -scale for every class, as epsilon and v can have it, the pixel is background.
        """
        share = (x_0 / self.config.scale + 1).div(2).clamp(0, 1)
        if self.classes == 1:
            share = torch.cat([1 - share, share], 1)
            if temperature == 1:
                return share
        if temperature != 1:
            share = share.pow(1 / temperature)
        share[:, 0] += share.sum(1) == 0
        return share / share.sum(1, keepdim=True)

    def probability_of_logits(self, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b _ h w"]:
        """Return the class probabilities of logits (such as the anchor's), in the layout of `probability`."""
        if self.classes == 1:
            share = logits.sigmoid()
            return torch.cat([1 - share, share], 1)
        return logits.softmax(1)

    def x_0(
        self, output: Float[Tensor, "b k h w"], x_t: Float[Tensor, "b k h w"], t: Int[Tensor, " u"] | int
    ) -> Tensor:
        """Convert a network's output to the predicted clean mask, clipped to [-scale, scale]."""
        scale = self.config.scale
        match self.config.parametrization:
            case "epsilon":
                return self.schedule.x_0_from_eps(x_t, t, output).clamp(-scale, scale)
            case "v":
                return self.schedule.x_0_from_v(x_t, t, output).clamp(-scale, scale)
            case _:
                return self.x_0_of_logits(output)

    def x_0_of_logits(self, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Convert logits (a network's or the anchor's) to a clean mask in [-scale, scale]."""
        scale = self.config.scale
        return scale * torch.tanh(logits / 2) if self.classes == 1 else scale * (2 * logits.softmax(1) - 1)
