"""Anchor condition: the condition network's last feature, smoothed by a learned Gaussian, gates the diffusion feature.

    f_anc  = Max( f_c^-1 * k_Gauss, f_c^-1 )                                                  V2, Gaussian spatial attention
    f_d'^0 = Sigmoid( f_anc * k_1x1 ) . f_d^0 + f_d^0                                         ("uncertain" in AAAI's naming)

The Gaussian's mean and variance are learned, and the kernel is computed from them in every forward pass (F14):

    k(u, v) ~ exp( -(u - mu_x)^2 / 2 sigma_x^2 - (v - mu_y)^2 / 2 sigma_y^2 ),    sum k = 1

References:
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medsegdiff.records import AnchorTrace

__all__ = ["GaussianSpatialAttention"]


class GaussianSpatialAttention(nn.Module):
    """Gate every channel of the diffusion feature by an anchor feature.

    Arguments:
        channels: of the anchor; each has its own Gaussian.
        window: side of the kernel in cells, odd.
        gates: number of gates: 1 for all channels of the diffusion feature, as in the paper, or one for each of them (F44).
    """

    def __init__(self, channels: int, window: int, gates: int = 1) -> None:
        super().__init__()
        self.window = window
        self.mean = nn.Parameter(torch.zeros(channels, 2))  # mu_x, mu_y, in cells
        self.log_sigma = nn.Parameter(torch.zeros(channels, 2))  # of sigma_x, sigma_y, in cells
        self.reduce = nn.Conv2d(channels, gates, 1)  # k_1x1

    def kernel(self, sigma: float = 0.0) -> Float[Tensor, "c 1 w w"]:
        """Return the kernels computed from mean and variance, one normalised window per channel.

        A `sigma` above 0 replaces the learned values in every channel (see `records.Interventions`).
        """
        log_sigma = torch.full_like(self.log_sigma, math.log(sigma)) if sigma else self.log_sigma
        offset = torch.arange(self.window, device=self.mean.device) - self.window // 2
        exponent = (offset - self.mean[:, :, None]).square() / (2 * (2 * log_sigma).exp()[:, :, None])
        line = torch.softmax(-exponent, -1)  # separable, so each axis sums to one
        return (line[:, 1, :, None] * line[:, 0, None, :])[:, None]

    def smooth(self, anchor: Float[Tensor, "i c h w"], sigma: float = 0.0) -> Float[Tensor, "i c h w"]:
        """Smooth each channel by its Gaussian, with replicate padding."""
        padded = F.pad(anchor, (self.window // 2,) * 4, mode="replicate")
        return F.conv2d(padded, self.kernel(sigma).to(anchor.dtype), groups=anchor.shape[1])

    def gate(self, anchor: Float[Tensor, "i c h w"], sigma: float = 0.0) -> Float[Tensor, "i g h w"]:
        """Return the gates Sigmoid(f_anc * k_1x1)."""
        smoothed = self.smooth(anchor, sigma)
        trusted = anchor + F.relu(smoothed - anchor)  # equals the maximum, whose gradient is five times slower
        return torch.sigmoid(self.reduce(trusted))

    def forward(
        self, anchor: Float[Tensor, "i c h w"], feature: Float[Tensor, "b d h w"], sigma: float = 0.0
    ) -> Float[Tensor, "b d h w"]:
        """Gate the diffusion feature; the anchor of a single image is broadcast over all samples."""
        return self.gate(anchor, sigma) * feature + feature

    def explain(self, anchor: Float[Tensor, "i c h w"], stage: str, sigma: float = 0.0) -> AnchorTrace:
        """Return the intermediate maps, from the raw anchor to the gate."""
        smoothed = self.smooth(anchor, sigma)
        return AnchorTrace(
            stage=stage,
            raw=anchor.float().mean(1),
            smoothed=smoothed.float().mean(1),
            maximum=torch.maximum(smoothed, anchor).float().mean(1),
            gate=self.gate(anchor, sigma).float().mean(1),
            mean=self.mean.detach(),
            sigma=torch.full_like(self.log_sigma, sigma) if sigma else self.log_sigma.detach().exp(),
        )
