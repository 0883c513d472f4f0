"""Filters in the frequency domain: FF-Parser (V1) and NBP-Filter (V2).

Diffusion noise is spread evenly over the spectrum, while anatomy is concentrated at low frequencies, so a learned gain per
frequency can attenuate noise.

    M = F(m)        M' = A * M        m' = F^-1(M')                    V1 section 2.4, A complex, per channel and frequency

The FF-Parser stores A on the one-sided spectrum of a real map (F6) at the size trained at, starts as the identity (F7) and
is interpolated for other sizes. The NBP-Filter of V2 is a function of two coordinates and time,

    S_t(u, v) = sigmoid( [conv -> scale & shift by t -> conv] x R (u, v) )                        V2 figure, NBP-Filter

so it applies at any size. Two raw coordinates through SiLU cannot form a band. With `octaves` L > 0 they enter as
Fourier features sin(2^l pi u), cos(2^l pi u), l = 0 ... L-1 (F19), and the surface begins as a band with a learned centre and
width on either axis, to which the network adds nothing at first:

    logit S = 4 - (|u| - c_u)^2 / 2 w_u^2 - (|v| - c_v)^2 / 2 w_v^2 + network(u, v, t)

References:
    MedSegDiff (Wu et al., 2022), https://arxiv.org/abs/2211.00611
    MedSegDiff-V2 (Wu et al., 2023), https://arxiv.org/abs/2301.11798
    Fourier features (Tancik et al., 2020), https://arxiv.org/abs/2006.10739; SIREN (Sitzmann et al., 2020), 2006.09661
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from medsegdiff.nn.blocks import Parts, from_zero
from medsegdiff.records import SpectralTrace

__all__ = ["FFParser", "NBPFilter", "log_power", "mirror", "radial_gain"]


def mirror(half: Complex[Tensor, "*n h w2"], width: int) -> Complex[Tensor, "*n h w"]:
    """Return the two-sided spectrum, by Hermitian symmetry: M(-u, -v) = conj M(u, v)."""
    missing = half[..., 1 : (width + 1) // 2].flip(-1)  # v = W/2 + 1 ... W - 1, read backwards
    missing = torch.cat([missing[..., :1, :], missing[..., 1:, :].flip(-2)], -2).conj()
    return torch.cat([half, missing], -1)


def log_power(spectrum: Complex[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Return log10 of the channel-mean power of a two-sided spectrum, centred, with a floor of 1e-12."""
    power = torch.fft.fftshift(spectrum.abs().square().mean(1), dim=(-2, -1))
    return power.clamp_min(1e-12).log10()


def radial_gain(
    profile: tuple[float, ...], size: tuple[int, int], *, full: bool, device: torch.device
) -> Float[Tensor, "1 h w2"]:
    """Interpolate a radial profile of gains over a spectrum in FFT order, one-sided unless `full`."""
    rows = torch.fft.fftfreq(size[0], device=device)
    columns = (torch.fft.fftfreq if full else torch.fft.rfftfreq)(size[1], device=device)
    place = torch.hypot(rows[:, None], columns[None]) / math.sqrt(0.5) * (len(profile) - 1)
    left = place.long().clamp(max=len(profile) - 2)
    gains = torch.tensor(profile, device=device)
    return torch.lerp(gains[left], gains[left + 1], place - left)[None]


class FFParser(nn.Module):
    """Learnable complex gain per channel and frequency, on the path from the mask encoder to the fusion.

    Arguments:
        channels: of the feature map.
        size: height and width of the feature map in training.
        full: store A two-sided (the paper's text) instead of one-sided (equivalent for real maps).
    """

    def __init__(self, channels: int, size: tuple[int, int], *, full: bool = False) -> None:
        super().__init__()
        self.full = full
        self.size = size
        height, width = size
        gain = torch.zeros(2, channels, height, width if full else width // 2 + 1)
        gain[0] = 1  # the identity
        self.gain = nn.Parameter(gain)  # real and imaginary part of A

    def filter(self, size: tuple[int, int], profile: tuple[float, ...] = ()) -> Complex[Tensor, "c h w2"]:
        """Return A for a map of this size, interpolated over normalised frequency (cycles per cell) if necessary.

        A `profile` replaces it (see `records.Interventions`).
        """
        gain = self.gain.float()
        if profile:
            substitute = radial_gain(profile, size, full=self.full, device=gain.device)
            return torch.complex(substitute, torch.zeros_like(substitute)).expand(gain.shape[1], -1, -1)
        if size != self.size:
            gain = self._interpolated(gain, size)
        return torch.complex(gain[0], gain[1])

    def _interpolated(self, gain: Float[Tensor, "2 c h w2"], size: tuple[int, int]) -> Float[Tensor, "2 c h3 w3"]:
        rows = torch.fft.fftshift(torch.fft.fftfreq(size[0], device=gain.device))
        if self.full:
            columns = torch.fft.fftshift(torch.fft.fftfreq(size[1], device=gain.device))
            shifted, first = torch.fft.fftshift(gain, dim=(-2, -1)), self.size[1] // 2
        else:
            columns = torch.fft.rfftfreq(size[1], device=gain.device)
            shifted, first = torch.fft.fftshift(gain, dim=-2), 0
        shifted = F.pad(shifted, (0, int(self.full), 0, 1), mode="circular")  # a spectrum is periodic
        y = (rows * self.size[0] + self.size[0] // 2) / (shifted.shape[-2] - 1) * 2 - 1
        x = (columns * self.size[1] + first) / (shifted.shape[-1] - 1) * 2 - 1
        grid = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), -1)[None].expand(2, -1, -1, -1)
        result = F.grid_sample(shifted, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return torch.fft.ifftshift(result, dim=(-2, -1) if self.full else -2)

    def forward(self, m: Float[Tensor, "b c h w"], profile: tuple[float, ...] = ()) -> Float[Tensor, "b c h w"]:
        """Filter a feature map, in float32."""
        size = (m.shape[-2], m.shape[-1])
        if self.full:
            return torch.fft.ifft2(self.filter(size, profile) * torch.fft.fft2(m.float())).real.to(m)
        return torch.fft.irfft2(self.filter(size, profile) * torch.fft.rfft2(m.float()), s=size).to(m)

    def explain(self, m: Float[Tensor, "b c h w"], stage: str, profile: tuple[float, ...] = ()) -> SpectralTrace:
        """Return the spectra of a map before and after the filter, and the filter."""
        gain = self.filter((m.shape[-2], m.shape[-1]), profile)
        gain = torch.fft.fftshift(gain if self.full else mirror(gain, m.shape[-1]), dim=(-2, -1))
        return SpectralTrace(
            stage=stage,
            before=log_power(torch.fft.fft2(m.float(), norm="ortho")),
            after=log_power(torch.fft.fft2(self(m, profile).float(), norm="ortho")),
            gain=gain.abs(),
            phase=gain.angle(),
        )


class _BandBlock(nn.Module):
    """1 x 1 conv, scale and shift by time, SiLU, 1 x 1 conv: one block of an implicit function of two frequencies."""

    def __init__(self, channels: int, width: int, out: int, time: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, width, 1)
        self.time = nn.Linear(time, 2 * width)
        self.conv_2 = nn.Conv2d(width, out, 1)

    def forward(self, x: Float[Tensor, "u c n n"], time: Float[Tensor, "u d"]) -> Float[Tensor, "u o n n"]:
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, 1)
        return self.conv_2(F.silu(self.conv_1(x) * (1 + scale) + shift))


class NBPFilter(nn.Module):
    """Neural band-pass filter: a surface in (0, 1) over two frequency axes that depends on time only.

    Arguments:
        time: width of the time embedding.
        width: hidden channels.
        blocks: R.
        octaves: L, of the Fourier features; 0: the two raw coordinates, initially nearly all-pass.
    """

    def __init__(self, time: int, width: int, blocks: int, octaves: int = 0) -> None:
        super().__init__()
        last = blocks - 1
        self.octaves = octaves
        coordinates = 4 * octaves or 2
        self.blocks = Parts(
            _BandBlock(coordinates if i == 0 else width, width, 1 if i == last else width, time) for i in range(blocks)
        )
        if octaves:
            from_zero(self.blocks[last].conv_2)
            self.centre = nn.Parameter(torch.full((2,), 0.25))  # c_u, c_v in units of the Nyquist frequency
            self.log_width = nn.Parameter(torch.full((2,), math.log(0.25)))  # of w_u, w_v
        else:
            bias = dict(self.blocks[last].conv_2.named_parameters())["bias"]
            nn.init.constant_(bias, 2.0)  # initially nearly all-pass: sigmoid(2) = 0.88

    def frequencies(self, n: int, like: Tensor) -> Float[Tensor, " n"]:
        """Return the n token frequencies in FFT order, signed, in [-1, 1) (F19)."""
        return 2 * torch.fft.fftfreq(n, device=like.device)

    def forward(self, n: int, time: Float[Tensor, "u d"]) -> Float[Tensor, "u 1 n n"]:
        """Return the surface over n token frequencies in FFT order, for each time."""
        frequency = self.frequencies(n, time)
        grid = torch.stack(torch.meshgrid(frequency, frequency, indexing="ij"))[None]
        surface = self._features(grid).expand(time.shape[0], -1, -1, -1)
        for block in self.blocks:
            surface = block(surface, time)
        if self.octaves:
            away = (grid[0].abs() - self.centre[:, None, None]) / self.log_width.exp()[:, None, None]
            surface = surface.float() + 4 - away.square().sum(0) / 2
        return surface.float().sigmoid()

    def _features(self, grid: Float[Tensor, "1 2 n n"]) -> Float[Tensor, "1 c n n"]:
        if not self.octaves:
            return grid
        angle = torch.cat([math.pi * 2**octave * grid for octave in range(self.octaves)], 1)
        return torch.cat([angle.sin(), angle.cos()], 1)
