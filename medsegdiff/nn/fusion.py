"""Dynamic conditional encoding: the mask feature of a step re-weights the image feature.

    A(m_I, m_x) = ( LN(m_I) * LN(m_x) ) * m_I                                                             V1 eq. 3

All products are element-wise. The product of the normalised maps is the affinity; the re-weighted image feature is the
input of the next stage of the image encoder.

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
"""

from jaxtyping import Float
from torch import Tensor, nn

from medsegdiff.records import AffinityTrace

__all__ = ["ChannelNorm", "DynamicEncoding"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over channels at each position (F5), with learned scale and shift."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise the channels of every cell."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DynamicEncoding(nn.Module):
    """Fuse an image feature with the (filtered) mask feature of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_image = ChannelNorm(channels)
        self.norm_mask = ChannelNorm(channels)

    def affinity(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the affinity LN(m_I) * LN(m_x)."""
        return self.norm_image(image) * self.norm_mask(mask)

    def forward(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Re-weight the image feature; a single image is broadcast over all samples."""
        return self.affinity(image, mask) * image

    def explain(self, image: Float[Tensor, "i c h w"], mask: Float[Tensor, "b c h w"], stage: str) -> AffinityTrace:
        """Return the affinity, averaged over channels."""
        return AffinityTrace(stage, self.affinity(image, mask).float().mean(1))
