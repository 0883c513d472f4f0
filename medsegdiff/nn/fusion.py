"""Dynamic conditional encoding: the mask of this step tells the image features where to look.

    A(m_I, m_x) = ( LN(m_I) * LN(m_x) ) * m_I                                                             V1 eq. 3

All products are element by element. The product of the normalised maps is the affinity; it re-weights the image feature,
and what comes out feeds the next stage of the image encoder.

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
"""

from jaxtyping import Float
from torch import Tensor, nn

from medsegdiff.records import AffinityTrace

__all__ = ["ChannelNorm", "DynamicEncoding"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over channels at each place (F5), with learned scale and shift."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each cell's channels."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DynamicEncoding(nn.Module):
    """Fuse an image feature with the (filtered) mask feature of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_image = ChannelNorm(channels)
        self.norm_mask = ChannelNorm(channels)

    def affinity(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """LN(m_I) * LN(m_x)."""
        return self.norm_image(image) * self.norm_mask(mask)

    def forward(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Re-weight the image feature; one image serves every sample."""
        return self.affinity(image, mask) * image

    def explain(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"], stage: str) -> AffinityTrace:
        """Tell where image and mask agree."""
        return AffinityTrace(stage, self.affinity(image, mask).float().mean(1))
