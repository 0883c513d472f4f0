"""Building blocks of both versions: residual blocks with a time embedding, down- and upsampling, stem and head.

    h = conv( SiLU( GroupNorm(x) ) ) + linear( SiLU(e_t) )
    y = conv( SiLU( GroupNorm(h) ) ) + x                          V1 section 2.2: the time embedding is added after the first conv

A stem folds s x s pixels into channels and a head unfolds them without loss (F3): the network's finest map has one cell per s x s
pixels.

Nearest-neighbour upsampling followed by a 3 x 3 convolution w reads every value four times. Along one axis, cell p
becomes cells 2p and 2p + 1, so the two operations equal one transposed convolution of stride two, with

    w' = (w_2, w_1 + w_2, w_0 + w_1, w_0)

and in two dimensions a 4 x 4 kernel: the same map with 16 instead of 36 multiplications per cell.
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
    """A ModuleList with a type parameter for its elements."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M] = ()) -> None: ...
        def __getitem__(self, i: int) -> M: ...  # pyright: ignore[reportIncompatibleMethodOverride]  no slices here
        def __iter__(self) -> Iterator[M]: ...


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with eight channels per group, or fewer groups if the width is not a multiple of eight."""
    groups = max(channels // 8, 1)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def activated(normalise: nn.GroupNorm, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """SiLU( GroupNorm(x) ), in place on the normalised map unless a gradient is needed; memory traffic dominates the cost."""
    return F.silu(normalise(x), inplace=not torch.is_grad_enabled())


def from_zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Initialise a convolution to zero and return it."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class ResBlock(nn.Module):
    """Residual block: two times GroupNorm, SiLU and 3 x 3 convolution, and a shortcut.

    Arguments:
        channels: of the input.
        out: of the output.
        time: width of the time embedding; 0 for a block without one (condition network).
    """

    def __init__(self, channels: int, out: int, time: int = 0) -> None:
        super().__init__()
        self.norm_1 = norm(channels)
        self.conv_1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time, out) if time else None
        self.norm_2 = norm(out)
        self.conv_2 = from_zero(nn.Conv2d(out, out, 3, padding=1))  # initially every block equals its shortcut
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "u d"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        """Apply the block; `time` holds one vector for all samples or one for each."""
        h = self.conv_1(activated(self.norm_1, x))
        if self.time is not None:
            h += self.time(F.silu(time))[:, :, None, None]  # pyright: ignore[reportArgumentType]  such a block always gets a time
        return self.conv_2(activated(self.norm_2, h)) + self.shortcut(x)


class Stage(Parts[ResBlock]):
    """A sequence of residual blocks at one resolution; the first changes the width."""

    def __init__(self, channels: int, out: int, blocks: int, time: int = 0) -> None:
        super().__init__(ResBlock(channels if i == 0 else out, out, time) for i in range(blocks))

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "u d"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        """Apply the blocks in order."""
        for block in self:
            x = block(x, time)
        return x


class Down(nn.Conv2d):
    """Halve the resolution by a 3 x 3 convolution of stride two."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Up(nn.Module):
    """Double the resolution: nearest-neighbour upsampling and a 3 x 3 convolution, computed as one transposed convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        line = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # w to w'
        self.spread: Tensor
        self.register_buffer("spread", torch.kron(line, line), persistent=False)

    def kernel(self) -> Float[Tensor, "c o 4 4"]:
        """Return the 4 x 4 kernel of the transposed convolution, computed from the 3 x 3 weights."""
        rows = self.conv.weight.permute(0, 2, 3, 1).flatten(1, 2)  # o 9 c, the memory layout of channels-last weights
        return (self.spread @ rows).unflatten(1, (4, 4)).permute(3, 0, 1, 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Upsample and convolve."""
        return F.conv_transpose2d(x, self.kernel(), self.conv.bias, stride=2, padding=1)


class Stem(nn.Sequential):
    """Fold `factor` x `factor` pixels into channels, then a 3 x 3 convolution."""

    def __init__(self, channels: int, out: int, factor: int) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(channels * factor**2, out, 3, padding=1))


class Head(nn.Sequential):
    """GroupNorm, SiLU, 3 x 3 convolution, then unfold channels into `factor` x `factor` pixels; initialised to zero."""

    def __init__(self, channels: int, out: int, factor: int) -> None:
        conv = from_zero(nn.Conv2d(channels, out * factor**2, 3, padding=1))
        super().__init__(norm(channels), nn.SiLU(), conv, nn.PixelShuffle(factor))

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """Return float32 whatever the precision inside, contiguous per class, which makes the operations that follow faster."""
        return super().forward(input).float().contiguous()
