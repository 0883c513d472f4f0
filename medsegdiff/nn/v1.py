"""The network of MedSegDiff (V1).

    eps_theta(x_t, I, t) = D( (E_t^I + E_t^x, t), t )                                                       V1 eq. 2

Two separate ResNet-style encoders, one for the image I, one for the noisy mask x_t, have three stages each with the block
counts of ResNet34. After each of the first two stages, the mask feature passes the FF-Parser and re-weights the image
feature (dynamic conditional encoding), which is the input of the next image stage. The two embeddings are added and pass
a shared last stage and the decoder, which has the time embedding.

    image  stem -> stage 1 -> A -> stage 2 -> A -> stage 3 -> +
                              |               |               |--> shared stage 4 -> decoder -> head
    x_t    stem -> stage 1 -> P -> stage 2 -> P -> stage 3 -> +           P: FF-Parser, A: eq. 3

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from medsegdiff.config import V1Config
from medsegdiff.nn.blocks import Down, Head, Parts, Stage, Stem
from medsegdiff.nn.embedding import TimeEmbedding
from medsegdiff.nn.fusion import DynamicEncoding
from medsegdiff.nn.spectral import FFParser
from medsegdiff.nn.unet import Decoder
from medsegdiff.records import AffinityTrace, Condition, Prediction, SpectralTrace, Switches, Trace

__all__ = ["MedSegDiffV1"]


class MedSegDiffV1(nn.Module):
    """The denoiser of the first paper. Shapes are those of `records.Denoiser`."""

    def __init__(self, config: V1Config) -> None:
        super().__init__()
        self.config = config
        channels = 1 if config.classes == 1 else config.classes + 1
        *widths, deepest = config.widths
        time = 4 * config.widths[0]
        before = (widths[0], *widths[:-1])

        self.time = TimeEmbedding(time)
        self.image_stem = Stem(config.image_channels, widths[0], config.stem)
        self.mask_stem = Stem(channels, widths[0], config.stem)
        stages = list(zip(before, widths, config.blocks[:3], strict=True))
        self.image_stages = Parts(Stage(*stage) for stage in stages)  # no time embedding: t enters by fusion (F2)
        self.mask_stages = Parts(Stage(*stage, time) for stage in stages)
        self.image_downs = Parts(Down(width) for width in widths[:2])
        self.mask_downs = Parts(Down(width) for width in widths[:2])
        grids = [config.image_size // config.stem // 2**level for level in range(2)]
        fused = widths[:2]
        self.parsers = Parts(
            FFParser(width, (grid, grid), full=config.full_spectrum)
            for width, grid in zip(fused, grids, strict=True)
            if config.switches.ff_parser
        )
        self.fusions = Parts(DynamicEncoding(width) for width in fused if config.switches.dynamic_encoding)
        self.down = Down(widths[-1])
        self.shared = Stage(widths[-1], deepest, config.blocks[3], time)
        self.decoder = Decoder(config.widths, config.decoder_blocks, time)
        self.head = Head(widths[0], channels * (2 if config.learned_variance else 1), config.stem)

    def encode(self, image: Float[Tensor, "i c h w"]) -> Condition:
        """Run the first stage of the image encoder, the only one that depends on the image only."""
        return Condition((self.image_stages[0](self.image_stem(image)),))

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
        spectra: list[SpectralTrace] = []
        affinities: list[AffinityTrace] = []
        skips: list[Tensor] = []
        time = self.time(t)
        (image,) = condition.features
        mask = self.mask_stages[0](self.mask_stem(x_t), time)
        for i in range(2):
            filtered = self.parsers[i](mask, switches.profile) if switches.ff_parser else mask
            if trace and switches.ff_parser:
                spectra.append(self.parsers[i].explain(mask, f"stage {i + 1}", switches.profile))
            if switches.dynamic_encoding:
                if trace:
                    affinities.append(self.fusions[i].explain(image, filtered, f"stage {i + 1}"))
                image = self.fusions[i](image, filtered)
            skips.append(mask + image if self.config.skips == "sum" else mask)
            image = self.image_stages[i + 1](self.image_downs[i](image))
            mask = self.mask_stages[i + 1](self.mask_downs[i](mask), time)
        embedding = image + mask  # E^I + E^x
        skips.append(embedding if self.config.skips == "sum" else mask)
        maps = self.decoder(self.shared(self.down(embedding), time), skips, time)
        return prediction(self.head(maps[-1]), self.config.learned_variance, Trace(tuple(spectra), tuple(affinities)))


def prediction(output: Float[Tensor, "b k h w"], learned_variance: bool, trace: Trace) -> Prediction:
    """Split the output of a head into prediction and learned variance."""
    if not learned_variance:
        return Prediction(output, trace=trace)
    answer, variance = output.chunk(2, 1)
    return Prediction(answer, variance, trace)
