"""SS-Former: cross-attention between diffusion and condition features, with affinities in the frequency domain.

Tokens e of the diffusion network and c of the condition network attend to each other in blocks of two symmetric modules. One
module, with query stream q and key-value stream r:

    M   = ( F(q) W_q ) ( F(r) W_k )^T                  affinity of token frequencies, complex, n x n; no softmax
    M'  = S_t * M                                      NBP-Filter (AAAI), or M' = sin(a n M) / (a n)  (arXiv v1, F18)
    q' = q + Re F^-1( M' ) ( r W_v ),   q'' = q' + MLP(q')                              V2 figure; residuals are ours (F17)

    c~ = module_1( query e, key and value c )          c <- module_2( query c~, key and value e )          N times

The last c replaces e in the diffusion decoder.

References:
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
"""

import math
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from medsegdiff.nn.blocks import Parts
from medsegdiff.nn.spectral import NBPFilter
from medsegdiff.records import AffinityTrace, BandTrace

__all__ = ["SSFormer", "SpectrumSpaceModule", "SpectrumWeight"]


class SpectrumWeight(nn.Module):
    """Multiply tokens in the frequency domain by a learnable complex matrix: F(x) W, transformed along the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, width, width) / math.sqrt(2 * width))  # real, imaginary

    def forward(self, x: Float[Tensor, "b n d"]) -> Complex[Tensor, "b n d"]:
        """Transform and multiply, in float32."""
        return torch.fft.fft(x.float(), dim=1, norm="ortho") @ torch.complex(self.weight[0], self.weight[1])


class SpectrumSpaceModule(nn.Module):
    """One of the two symmetric modules.

    Arguments:
        width: d of the tokens.
        heads: number of channel groups, each with its own affinity.
        time: width of the time embedding.
        band: "nbp", or "sine" with its scale and shift by time before the MLP.
        nbp_blocks, nbp_width, nbp_octaves: of the NBP-Filter.
        sine_scale: a. The entries of M are of order 1 / n, where sin is close to the identity; 0 means sin M.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        time: int,
        *,
        band: str,
        nbp_blocks: int,
        nbp_width: int,
        nbp_octaves: int = 0,
        sine_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.sine_scale = sine_scale
        self.norm_query = nn.LayerNorm(width)
        self.norm_key = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.query = SpectrumWeight(width)
        self.key = SpectrumWeight(width)
        self.value = nn.Linear(width, width)
        self.band = NBPFilter(time, nbp_width, nbp_blocks, nbp_octaves) if band == "nbp" else None
        self.modulate = nn.Linear(time, 2 * width) if band == "sine" else None
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def affinity(self, query: Float[Tensor, "b n d"], key: Float[Tensor, "i n d"]) -> Complex[Tensor, "b g n n"]:
        """Return M per head: rows are frequencies of the query stream, columns of the key stream.

        Division by n replaces the normalisation of a softmax, so the scale does not depend on n.
        """
        n, d = query.shape[1:]
        query = query.float() / (math.sqrt(d / self.heads) * n)  # here, because dividing a complex n x n matrix is slow
        q, k = (z.unflatten(2, (self.heads, -1)).transpose(1, 2) for z in (self.query(query), self.key(key)))
        return q @ k.transpose(-2, -1)

    def filtered(
        self, affinity: Complex[Tensor, "b g n n"], time: Float[Tensor, "u e"], enabled: bool | Literal["flat"]
    ) -> Complex[Tensor, "b g n n"]:
        """Apply the NBP-Filter (flat: its mean over frequency), or the sine."""
        if enabled and self.band is not None:
            surface = self.band(affinity.shape[-1], time)
            return affinity * (surface.mean((-2, -1), keepdim=True) if enabled == "flat" else surface)
        if enabled and self.modulate is not None:
            if not self.sine_scale:
                return torch.sin(affinity)
            scale = self.sine_scale * affinity.shape[-1]  # parts separately, as a complex sine is unbounded
            return torch.complex(torch.sin(scale * affinity.real), torch.sin(scale * affinity.imag)) / scale
        return affinity

    def forward(
        self,
        query: Float[Tensor, "b n d"],
        key: Float[Tensor, "i n d"],
        time: Float[Tensor, "u e"],
        *,
        band: bool | Literal["flat"] = True,
    ) -> Float[Tensor, "b n d"]:
        """Return the values of the key stream, weighted for the query stream."""
        key = self.norm_key(key)
        affinity = self.filtered(self.affinity(self.norm_query(query), key), time, band)
        weights = torch.fft.ifft2(affinity, norm="ortho").real  # back to space along both token axes
        return self.gathered(query, key, weights, time, band)

    def gathered(
        self,
        query: Float[Tensor, "b n d"],
        key: Float[Tensor, "i n d"],
        weights: Float[Tensor, "b g n n"],
        time: Float[Tensor, "u e"],
        band: bool | Literal["flat"],
    ) -> Float[Tensor, "b n d"]:
        """Add the weighted values of the (normalised) key stream to the query stream, then apply the MLP."""
        value = self.value(key).float().unflatten(2, (self.heads, -1)).transpose(1, 2)
        x = query + (weights @ value).transpose(1, 2).flatten(2).to(query)
        y = self.norm_mlp(x)
        if self.modulate is not None and band:
            scale, shift = self.modulate(F.silu(time))[:, None].chunk(2, -1)
            y = y * (1 + scale) + shift
        return x + self.mlp(y)

    def explain(
        self, query: Float[Tensor, "b n d"], key: Float[Tensor, "i n d"], time: Float[Tensor, "u e"], stage: str
    ) -> tuple[AffinityTrace, tuple[BandTrace, ...]]:
        """Return the magnitude of the affinity and the surface of the filter, both centred."""
        affinity = self.affinity(self.norm_query(query), self.norm_key(key)).abs().mean(1)
        bands = ()
        if self.band is not None:
            surface = self.band(affinity.shape[-1], time[:1])[:, 0]
            bands = (BandTrace(stage, torch.fft.fftshift(surface, dim=(-2, -1))),)
        return AffinityTrace(stage, torch.fft.fftshift(affinity, dim=(-2, -1)), "tokens"), bands


class SSFormer(nn.Module):
    """Spectrum-space transformer on the two deepest embeddings.

    Arguments:
        channels: of the diffusion embedding e and of the result.
        condition_channels: of the condition embedding c.
        blocks: N.
        patch: cells per token side.
        width: d of the tokens.
        The others are those of `SpectrumSpaceModule`.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        *,
        blocks: int,
        patch: int,
        width: int,
        heads: int,
        time: int,
        band: str,
        nbp_blocks: int,
        nbp_width: int,
        nbp_octaves: int = 0,
        sine_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_noise = nn.Conv2d(channels, width, patch, stride=patch)
        self.embed_semantics = nn.Conv2d(condition_channels, width, patch, stride=patch)
        self.modules_1, self.modules_2 = (
            Parts(
                SpectrumSpaceModule(
                    width,
                    heads,
                    time,
                    band=band,
                    nbp_blocks=nbp_blocks,
                    nbp_width=nbp_width,
                    nbp_octaves=nbp_octaves,
                    sine_scale=sine_scale,
                )
                for _ in range(blocks)
            )
            for _ in range(2)
        )
        self.project = nn.ConvTranspose2d(width, channels, patch, stride=patch)

    def forward(
        self,
        e: Float[Tensor, "b c h w"],
        c: Float[Tensor, "i k h w"],
        time: Float[Tensor, "u e"],
        *,
        band: bool | Literal["flat"] = True,
        trace: bool = False,
    ) -> tuple[Float[Tensor, "b c h w"], tuple[AffinityTrace, ...], tuple[BandTrace, ...]]:
        """Return the replacement of e and, on request, the affinity and surface of every module."""
        affinities: list[AffinityTrace] = []
        bands: list[BandTrace] = []

        def attend(module: SpectrumSpaceModule, query: Tensor, key: Tensor, stage: str) -> Tensor:
            if trace:
                affinity, surfaces = module.explain(query, key, time, stage)
                affinities.append(affinity)
                bands.extend(surfaces)
            return module(query, key, time, band=band)

        noise = self.embed_noise(e)
        grid = (noise.shape[-2], noise.shape[-1])
        noise = noise.flatten(2).transpose(1, 2)
        semantics = self.embed_semantics(c).flatten(2).transpose(1, 2)
        for i, (first, second) in enumerate(zip(self.modules_1, self.modules_2, strict=True), 1):
            semantics = attend(first, noise, semantics, f"block {i}, query noise")
            semantics = attend(second, semantics, noise, f"block {i}, query semantics")
        cells = semantics.transpose(1, 2).unflatten(2, grid)
        return self.project(cells), tuple(affinities), tuple(bands)
