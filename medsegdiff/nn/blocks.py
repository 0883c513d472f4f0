"""What both versions are built of: residual blocks told the time and nothing else, and the ways between resolutions.

    h = conv( SiLU( GroupNorm(x) ) ) + linear( SiLU(e_t) )
    y = conv( SiLU( GroupNorm(h) ) ) + x                          V1 section 2.2: the time is added after the first conv

A stem folds s x s pixels into channels and a head unfolds them, exactly (F3): the network's finest map has one cell per
s x s pixels, and no pixel is thrown away.

Doubling a map by nearest neighbour and then smoothing it by a 3 x 3 convolution w reads every value four times. Along one
axis, cell p becomes cells 2p and 2p + 1, so the two together are one transposed convolution of stride two, with

    w' = (w_2, w_1 + w_2, w_0 + w_1, w_0)

and on the plane 4 x 4 values for 3 x 3: the same map, for 16 instead of 36 multiplications a cell.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Down", "Head", "Parts", "ResBlock", "Stage", "Stem", "Up", "norm"]

M = TypeVar("M", bound=nn.Module)


class Parts(nn.ModuleList, Generic[M]):
    """A list of modules of one kind, which type checkers then know."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M] = ()) -> None: ...
        def __getitem__(self, i: int) -> M: ...  # pyright: ignore[reportIncompatibleMethodOverride]  no slices here
        def __iter__(self) -> Iterator[M]: ...


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of eight channels a group, or fewer groups where the width is no multiple of eight."""
    groups = max(channels // 8, 1)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def activated(normalise: nn.GroupNorm, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """SiLU( GroupNorm(x) ), in place on the normalised map unless a gradient will ask for it: memory is what costs here."""
    return F.silu(normalise(x), inplace=not torch.is_grad_enabled())


def from_zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution begin as the zero map."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class ResBlock(nn.Module):
    """Two times GroupNorm, SiLU, 3 x 3 convolution, and a shortcut.

    Arguments:
        channels: of the input.
        out: of the output.
        time: width of the time embedding; 0 for a block that is not told the time (a condition network).
    """

    def __init__(self, channels: int, out: int, time: int = 0) -> None:
        super().__init__()
        self.norm_1 = norm(channels)
        self.conv_1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out) if time else None
        self.norm_2 = norm(out)
        self.conv_2 = from_zero(nn.Conv2d(out, out, 3, padding=1))  # every block begins as its shortcut
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "u d"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        """Apply the block; `time` holds one vector for all samples or one for each."""
        h = self.conv_1(activated(self.norm_1, x))
        if self.time is not None:
            h += self.time(F.silu(time))[:, :, None, None]  # pyright: ignore[reportArgumentType]  a told block is told
        return self.conv_2(activated(self.norm_2, h)) + self.shortcut(x)


class Stage(Parts[ResBlock]):
    """A run of residual blocks at one resolution; the first changes the width."""

    def __init__(self, channels: int, out: int, blocks: int, time: int = 0) -> None:
        super().__init__(ResBlock(channels if i == 0 else out, out, time) for i in range(blocks))

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "u d"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        """Apply the blocks in turn."""
        for block in self:
            x = block(x, time)
        return x


class Down(nn.Conv2d):
    """Halve the resolution by a 3 x 3 convolution of stride two."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Up(nn.Module):
    """Double the resolution: nearest neighbour, then a 3 x 3 convolution; computed as one transposed convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        line = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # w to w'
        self.spread: Tensor
        self.register_buffer("spread", torch.kron(line, line), persistent=False)

    def kernel(self) -> Float[Tensor, "c o 4 4"]:
        """Spread the 3 x 3 weights over the four cells that each value becomes."""
        rows = self.conv.weight.permute(0, 2, 3, 1).flatten(1, 2)  # o 9 c, which is how channels-last weights lie
        return (self.spread @ rows).unflatten(1, (4, 4)).permute(3, 0, 1, 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Enlarge and smooth."""
        return F.conv_transpose2d(x, self.kernel(), self.conv.bias, stride=2, padding=1)


class Stem(nn.Sequential):
    """Fold `factor` x `factor` pixels into channels, then a 3 x 3 convolution."""

    def __init__(self, channels: int, out: int, factor: int) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(channels * factor**2, out, 3, padding=1))


class Head(nn.Sequential):
    """GroupNorm, SiLU, 3 x 3 convolution, then unfold channels into `factor` x `factor` pixels; begins at zero."""

    def __init__(self, channels: int, out: int, factor: int) -> None:
        conv = from_zero(nn.Conv2d(channels, out * factor**2, 3, padding=1))
        super().__init__(norm(channels), nn.SiLU(), conv, nn.PixelShuffle(factor))

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Answer in float32, whatever the precision inside, and class by class in memory: what comes after is faster so."""
        return super().forward(input).float().contiguous()
