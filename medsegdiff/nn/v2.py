"""The network of MedSegDiff-V2.

A condition U-Net runs once per image. It conditions the diffusion U-Net in two places: its last decoded feature f_c^-1 gates the
first encoder feature f_d^0 (anchor condition), and its deepest embedding c^0 and the diffusion embedding e enter the
SS-Former, whose output c replaces e in the decoder (semantic condition).

    image  condition U-Net ---- c^0 ----+        f_c^-1
                                        |          |  U-SA
    x_t    stem -> f_d^0 ---------------|--------- * -> ... -> e -> SS-Former -> decoder -> head

References:
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from medsegdiff.config import V2Config
from medsegdiff.nn.anchor import GaussianSpatialAttention
from medsegdiff.nn.blocks import Down, Head, Parts, Stage, Stem
from medsegdiff.nn.embedding import TimeEmbedding
from medsegdiff.nn.transformer import SSFormer
from medsegdiff.nn.unet import ConditionUNet, Decoder
from medsegdiff.nn.v1 import prediction
from medsegdiff.records import AnchorTrace, Condition, Prediction, Switches, Trace

__all__ = ["MedSegDiffV2"]


class MedSegDiffV2(nn.Module):
    """The denoiser of the second paper. Shapes are those of `records.Denoiser`."""

    def __init__(self, config: V2Config) -> None:
        super().__init__()
        self.config = config
        channels = 1 if config.classes == 1 else config.classes + 1
        widths, condition_widths = config.widths, config.condition_widths
        levels = list(zip(condition_widths, widths, strict=True))
        time = 4 * widths[0]

        self.condition = ConditionUNet(
            config.image_channels, channels, condition_widths, config.blocks, config.stem, config.encoder
        )
        self.time = TimeEmbedding(time)
        self.stem = Stem(channels, widths[0], config.stem)
        self.stages = Parts(
            Stage(before, width, config.blocks, time)
            for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        self.downs = Parts(Down(width) for width in widths[:-1])
        self.attentions = Parts(
            GaussianSpatialAttention(before, config.gaussian_size, width if config.gate == "channel" else 1)
            for before, width in levels[: config.anchors if config.switches.anchor else 0]
        )
        self.ss_former: SSFormer | None = None
        if config.switches.ss_former:
            self.ss_former = SSFormer(
                widths[-1],
                condition_widths[-1],
                blocks=config.ss_blocks,
                patch=config.patch,
                width=config.token_width,
                heads=config.heads,
                time=time,
                band=config.band if config.switches.nbp else "none",
                nbp_blocks=config.nbp_blocks,
                nbp_width=config.nbp_width,
                nbp_octaves=config.nbp_octaves,
                sine_scale=config.sine_scale,
            )
        self.middle = Stage(widths[-1], widths[-1], config.blocks, time)
        self.decoder = Decoder(widths, config.blocks, time)
        self.head = Head(widths[0], channels * (2 if config.learned_variance else 1), config.stem)

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Run the condition network; return c^0, the decoded features coarse to fine, and the anchor's logits."""
        return self.condition(image)

    def forward(
        self,
        x_t: Float[Tensor, "b k h w"],
        t: Int[Tensor, " u"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = Switches(),
    ) -> Prediction:
        """Predict from a noisy mask."""
        switches = switches & self.config.switches
        anchors: list[AnchorTrace] = []
        skips: list[Tensor] = []
        time = self.time(t)
        semantics, *decoded = condition.features
        decoded.reverse()  # f_c^-1 first
        x = self.stem(x_t)
        for i, stage in enumerate(self.stages):
            x = stage(x, time)
            if switches.anchor and i < len(self.attentions):
                if trace:
                    anchors.append(self.attentions[i].explain(decoded[i], f"level {i + 1}", switches.sigma))
                x = self.attentions[i](decoded[i], x, switches.sigma)
            if i < len(self.downs):
                skips.append(x)
                x = self.downs[i](x)
        affinities, bands = (), ()
        if self.ss_former is not None and switches.ss_former:
            band = "flat" if switches.nbp and switches.flatten_nbp else switches.nbp
            x, affinities, bands = self.ss_former(x, semantics, time, band=band, trace=trace)
        maps = self.decoder(self.middle(x, time), skips, time)
        told = Trace(affinities=affinities, bands=bands, anchors=tuple(anchors))
        return prediction(self.head(maps[-1]), self.config.learned_variance, told)
