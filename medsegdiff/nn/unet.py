"""The decoder of both versions, V2's condition network, and a plain U-Net.

The condition network depends on the image only, not on the timestep or the noisy mask. It runs once per image, and on its
own it is an ordinary segmentation network; its mask is the anchor.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medsegdiff.config import Encoder, UNetConfig
from medsegdiff.nn.blocks import Down, Head, Parts, Stage, Stem, Up, norm
from medsegdiff.nn.efficientnet import EfficientNetLite0
from medsegdiff.records import Condition

__all__ = ["ConditionUNet", "Decoder", "PlainUNet"]


class Decoder(nn.Module):
    """Decode from the deepest map to the finest, with skip connections from the encoder.

    Arguments:
        widths: of the levels, fine to coarse.
        blocks: residual blocks per level.
        time: width of the time embedding; 0 for none.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int, time: int = 0) -> None:
        super().__init__()
        levels = list(reversed(widths))
        self.ups = Parts(Up(deep, fine) for deep, fine in pairwise(levels))
        self.stages = Parts(Stage(2 * fine, fine, blocks, time) for fine in levels[1:])

    def forward(
        self, x: Float[Tensor, "b c h w"], skips: list[Tensor], time: Float[Tensor, "u d"] | None = None
    ) -> list[Tensor]:
        """Return the map of every level, coarse to fine; `skips` are fine to coarse, without the deepest."""
        maps = []
        for up, stage, skip in zip(self.ups, self.stages, reversed(skips), strict=True):
            x = stage(concatenate(up(x), skip), time)
            maps.append(x)
        return maps


def concatenate(x: Float[Tensor, "b c h w"], skip: Float[Tensor, "i c h w"]) -> Float[Tensor, "b c2 h w"]:
    """Concatenate along channels; the map of a single image is broadcast over all samples."""
    if x.shape[0] != skip.shape[0]:  # conditional, so that the batch size of a traced network stays dynamic
        skip = skip.expand(x.shape[0], -1, -1, -1)
    return torch.cat([x, skip], 1)


class PretrainedEncoder(nn.Module):
    """EfficientNet-Lite0 in place of residual blocks (F38): its maps, projected to the widths of the levels.

    Arguments:
        widths: of the levels, fine to coarse.
        stem: pixels per cell of the finest level: 2, 4, 8 or 16.
    """

    def __init__(self, widths: tuple[int, ...], stem: int) -> None:
        super().__init__()
        first = stem.bit_length() - 2
        self.used = slice(first, first + len(widths))
        self.backbone = EfficientNetLite0(self.used.stop)
        self.projections = Parts(
            nn.Sequential(nn.Conv2d(channels, width, 1), norm(width))
            for channels, width in zip(EfficientNetLite0.channels[self.used], widths, strict=True)
        )

    def forward(self, image: Float[Tensor, "i 3 h w"]) -> list[Tensor]:
        """Return the map of every level, fine to coarse, of an image in [-1, 1]."""
        maps = self.backbone((image + 1) * 127.5)[self.used]
        return [project(x) for project, x in zip(self.projections, maps, strict=True)]


class ConditionUNet(nn.Module):
    """V2's condition network: a U-Net on the image.

    Arguments:
        image_channels: of the image.
        mask_channels: of the anchor's logits.
        widths: of the levels, fine to coarse.
        blocks: residual blocks per level, encoder and decoder.
        stem: pixels per cell of the finest level, on each side.
        encoder: residual blocks, or a pretrained one.
    """

    def __init__(
        self,
        image_channels: int,
        mask_channels: int,
        widths: tuple[int, ...],
        blocks: int,
        stem: int,
        encoder: Encoder = "residual",
    ) -> None:
        super().__init__()
        self.encoder: PretrainedEncoder | None = None
        if encoder != "residual":
            self.encoder = PretrainedEncoder(widths, stem)
        else:
            self.stem = Stem(image_channels, widths[0], stem)
            self.stages = Parts(
                Stage(before, width, blocks) for before, width in zip((widths[0], *widths), widths, strict=False)
            )
            self.downs = Parts(Down(width) for width in widths[:-1])
        self.middle = Stage(widths[-1], widths[-1], blocks)
        self.decoder = Decoder(widths, blocks)
        self.head = Head(widths[0], mask_channels, stem)

    def forward(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Return c^0 and the decoded maps, coarse to fine (the last is f_c^-1), and the anchor's logits."""
        *skips, x = self._encoded(image) if self.encoder is None else self.encoder(image)
        deepest = self.middle(x)
        maps = self.decoder(deepest, skips)
        return Condition((deepest, *maps), (self.head(maps[-1]),))

    def _encoded(self, image: Float[Tensor, "i c h w"]) -> list[Tensor]:
        """Return the map of every level, fine to coarse."""
        maps, x = [], self.stem(image)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            maps.append(x)
            if i < len(self.downs):
                x = self.downs[i](x)
        return maps


class PlainUNet(nn.Module):
    """A plain segmentation U-Net, without diffusion; its output is `anchor_logits`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = 1 if config.classes == 1 else config.classes + 1
        self.condition = ConditionUNet(
            config.image_channels, channels, config.widths, config.blocks, config.stem, config.encoder
        )

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Run the network."""
        return self.condition(image)
