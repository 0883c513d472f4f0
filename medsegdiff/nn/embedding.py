"""Time embedding: sinusoids of geometrically spaced wavelengths, then an MLP.

    e_t = W_2 SiLU( W_1 [cos(w_i t), sin(w_i t)] ),   w_i = 10000^(-i / (d/2))

V1's text calls this a shared look-up table and refers to Ho et al., who use sinusoids (F1).

References:
    DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239, appendix B
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Sequential):
    """Embed integer timesteps.

    Arguments:
        width: d, the size of the embedding; even.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.frequency: Tensor
        self.register_buffer(
            "frequency", torch.exp(-math.log(1e4) * torch.arange(width // 2) / (width // 2)), persistent=False
        )

    def forward(self, input: Int[Tensor, " u"]) -> Float[Tensor, "u d"]:
        """Return the embeddings of timesteps 0..T-1."""
        angle = input[:, None].float() * self.frequency
        return super().forward(torch.cat([angle.cos(), angle.sin()], 1))
