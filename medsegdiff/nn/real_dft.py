"""Real-valued versions of the Fourier modules, for runtimes without complex numbers (ONNX).

A discrete Fourier transform of length n is a product with the matrix W = C - iS,

    C_jk = cos(2 pi j k / n),    S_jk = sin(2 pi j k / n),    W^-1 = (C + iS) / n

so a complex value is a pair of real ones, and every transform in `spectral` and `transformer` becomes real matrix
products. `real_valued` copies a network and replaces only the modules with transforms; parameters, names and results stay
the same (up to the order of summation).
"""

import copy
import math
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medsegdiff.nn.spectral import FFParser, NBPFilter
from medsegdiff.nn.transformer import SpectrumSpaceModule, SpectrumWeight
from medsegdiff.records import AffinityTrace, BandTrace, SpectralTrace

__all__ = ["real_valued"]

N = TypeVar("N", bound=nn.Module)
Pair = tuple[Tensor, Tensor]  # real and imaginary part


def real_valued(network: N) -> N:
    """Return a copy of a network with real-valued transforms."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if (real := _REAL.get(type(module))) is not None:
            module.__class__ = real  # the same parameters and buffers, other methods
    return network


def _cosines_and_sines(n: int, like: Tensor, scale: float = 1.0) -> Pair:
    """Return C and S (n x n), times `scale`; NumPy makes constants of them where a network is traced."""
    index = np.arange(n)
    angle = np.outer(index, index) % n * (2 * math.pi / n)
    return torch.tensor(np.cos(angle) * scale).to(like), torch.tensor(np.sin(angle) * scale).to(like)


def _times(a: Pair, b: Pair) -> Pair:
    """Multiply element by element."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _matmul(a: Pair, b: Pair) -> Pair:
    """Multiply as matrices."""
    return a[0] @ b[0] - a[1] @ b[1], a[0] @ b[1] + a[1] @ b[0]


def _dft2(m: Float[Tensor, "*n h w"], columns: int) -> Pair:
    """Transform a real map, unnormalised; the first `columns` frequencies of the last axis."""
    height, width = int(m.shape[-2]), int(m.shape[-1])
    c, s = (part[:, :columns] for part in _cosines_and_sines(width, m))
    rows_c, rows_s = _cosines_and_sines(height, m)
    real, imaginary = m @ c, -(m @ s)
    return rows_c @ real + rows_s @ imaginary, rows_c @ imaginary - rows_s @ real


def _inverse_dft2(spectrum: Pair, width: int) -> Float[Tensor, "*n h w"]:
    """Return the real part of the inverse; a one-sided spectrum stands for its Hermitian completion."""
    height, columns = int(spectrum[0].shape[-2]), int(spectrum[0].shape[-1])
    c, s = (part[:columns] for part in _cosines_and_sines(width, spectrum[0]))
    if columns < width:  # every column stands for its mirror image too, but for the first and an even width's last
        twice = torch.tensor([[1.0 if v in (0, width / 2) else 2.0] for v in range(columns)]).to(c)
        c, s = c * twice, s * twice
    rows_c, rows_s = _cosines_and_sines(height, spectrum[0])
    real = rows_c @ spectrum[0] - rows_s @ spectrum[1]
    imaginary = rows_c @ spectrum[1] + rows_s @ spectrum[0]
    return (real @ c - imaginary @ s) / (height * width)


def _centred(m: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Move frequency zero to the middle, as fftshift does."""
    return m.roll((int(m.shape[-2]) // 2, int(m.shape[-1]) // 2), (-2, -1))


def _log_power(m: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """`spectral.log_power` of a map's orthonormal spectrum."""
    real, imaginary = _dft2(m.float(), int(m.shape[-1]))
    power = (real.square() + imaginary.square()).mean(1) / (m.shape[-2] * m.shape[-1])
    return _centred(power).clamp_min(1e-12).log10()


class _RealFFParser(FFParser):
    def _gain(self, m: Float[Tensor, "b c h w"], profile: tuple[float, ...]) -> Pair:
        size = (int(m.shape[-2]), int(m.shape[-1]))
        if not profile and size == self.size:
            return self.gain[0], self.gain[1]
        gain = self.filter(size, profile)
        return gain.real, gain.imag

    def forward(self, m: Float[Tensor, "b c h w"], profile: tuple[float, ...] = ()) -> Float[Tensor, "b c h w"]:
        gain = self._gain(m, profile)
        spectrum = _dft2(m.float(), int(gain[0].shape[-1]))
        return _inverse_dft2(_times(gain, spectrum), int(m.shape[-1])).to(m)

    def explain(self, m: Float[Tensor, "b c h w"], stage: str, profile: tuple[float, ...] = ()) -> SpectralTrace:
        real, imaginary = self._gain(m, profile)
        if not self.full:  # M(-u, -v) = conj M(u, v)
            last = (int(m.shape[-1]) + 1) // 2
            mirrored = [part[..., 1:last].flip(-1) for part in (real, imaginary)]
            mirrored = [torch.cat([part[..., :1, :], part[..., 1:, :].flip(-2)], -2) for part in mirrored]
            real, imaginary = torch.cat([real, mirrored[0]], -1), torch.cat([imaginary, -mirrored[1]], -1)
        real, imaginary = _centred(real), _centred(imaginary)
        return SpectralTrace(
            stage=stage,
            before=_log_power(m),
            after=_log_power(self(m, profile)),
            gain=(real.square() + imaginary.square()).sqrt(),
            phase=torch.atan2(imaginary, real),
        )


class _RealNBPFilter(NBPFilter):
    def frequencies(self, n: int, like: Tensor) -> Float[Tensor, " n"]:
        return torch.tensor(np.fft.fftfreq(n) * 2).to(like)


class _RealSpectrumSpaceModule(SpectrumSpaceModule):
    def _weighted(self, weight: SpectrumWeight, x: Float[Tensor, "b n d"]) -> Pair:
        """F(x) W per head, each (b, g, n, d / g)."""
        c, s = _cosines_and_sines(int(x.shape[1]), x, 1 / math.sqrt(x.shape[1]))
        spectrum = c @ x, -(s @ x)
        real, imaginary = _matmul(spectrum, (weight.weight[0], weight.weight[1]))
        heads = (self.heads, x.shape[-1] // self.heads)
        return real.unflatten(2, heads).transpose(1, 2), imaginary.unflatten(2, heads).transpose(1, 2)

    def _affinity(self, query: Float[Tensor, "b n d"], key: Float[Tensor, "i n d"]) -> Pair:
        n, d = query.shape[1:]
        q = self._weighted(self.query, query.float() / (math.sqrt(d / self.heads) * n))
        k = self._weighted(self.key, key.float())
        return _matmul(q, (k[0].transpose(-2, -1), k[1].transpose(-2, -1)))

    def _filtered(self, affinity: Pair, time: Float[Tensor, "u e"], enabled: bool | Literal["flat"]) -> Pair:
        real, imaginary = affinity
        if enabled and self.band is not None:
            surface = self.band(int(real.shape[-1]), time)
            surface = surface.mean((-2, -1), keepdim=True) if enabled == "flat" else surface
            return real * surface, imaginary * surface
        if enabled and self.modulate is not None and self.sine_scale:
            scale = self.sine_scale * int(real.shape[-1])
            return (scale * real).sin() / scale, (scale * imaginary).sin() / scale
        if enabled and self.modulate is not None:  # sin(a + ib) = sin a cosh b + i cos a sinh b
            up, down = imaginary.exp() / 2, (-imaginary).exp() / 2  # the exporter has no cosh
            return real.sin() * (up + down), real.cos() * (up - down)
        return affinity

    def forward(
        self,
        query: Float[Tensor, "b n d"],
        key: Float[Tensor, "i n d"],
        time: Float[Tensor, "u e"],
        *,
        band: bool | Literal["flat"] = True,
    ) -> Float[Tensor, "b n d"]:
        key = self.norm_key(key)
        affinity = self._filtered(self._affinity(self.norm_query(query), key), time, band)
        inverse = _cosines_and_sines(int(query.shape[1]), query, 1 / math.sqrt(query.shape[1]))
        real, imaginary = _matmul(inverse, affinity)
        weights = real @ inverse[0] - imaginary @ inverse[1]
        return self.gathered(query, key, weights, time, band)

    def explain(
        self, query: Float[Tensor, "b n d"], key: Float[Tensor, "i n d"], time: Float[Tensor, "u e"], stage: str
    ) -> tuple[AffinityTrace, tuple[BandTrace, ...]]:
        real, imaginary = self._affinity(self.norm_query(query), self.norm_key(key))
        affinity = (real.square() + imaginary.square()).sqrt().mean(1)
        bands = ()
        if self.band is not None:
            bands = (BandTrace(stage, _centred(self.band(int(affinity.shape[-1]), time[:1])[:, 0])),)
        return AffinityTrace(stage, _centred(affinity), "tokens"), bands


_REAL: dict[type[nn.Module], type[nn.Module]] = {
    FFParser: _RealFFParser,
    NBPFilter: _RealNBPFilter,
    SpectrumSpaceModule: _RealSpectrumSpaceModule,
}
