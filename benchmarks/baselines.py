"""The networks whose speed is measured: shipped checkpoints and comparable networks, one evaluation for all members.

Other networks are untrained, since speed does not depend on the weights, and only their forward pass is timed, not their
sampler. A baseline that is not installed is left out and reported.

References:
    med-seg-diff-pytorch (P. Wang), https://github.com/lucidrains/med-seg-diff-pytorch
    MONAI, https://docs.monai.io; its diffusion network has the size of its segmentation tutorial
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from medsegdiff import Picture, RunSettings, Segmenter
from medsegdiff.data.synthetic import draw
from medsegdiff.device import channels_last, precision
from medsegdiff.sampling import spaced

__all__ = ["BASELINES", "Baseline", "Loaded"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A baseline ready to run."""

    step: Callable[[], object]  # one evaluation of the network for all members
    work: Callable[[], object]  # the same on the calling thread, where operations can be counted
    network: nn.Module
    mask: Callable[[], object] | None = None  # one whole run, for our own checkpoints
    first: Callable[[], object] | None = None  # until the first output, if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One row of the table; a finished mask takes `steps` evaluations for `members` members."""

    name: str
    load: Callable[["Baseline", torch.device], Loaded] = field(repr=False)
    packages: tuple[str, ...] = ()  # packages that it needs
    size: int = 256
    members: int = 5
    steps: int = 10
    heavy: bool = False  # slow: measured in one round only


def _in_precision(network: nn.Module, device: torch.device) -> Callable[..., object]:
    """Convert a network to our memory layout and precision."""
    dtype = precision(device)
    network = channels_last(network.to(device)).eval()

    @torch.no_grad()
    def call(*inputs: torch.Tensor) -> object:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(*inputs)

    return call


def _baseline(step: Callable[[], object], network: nn.Module) -> Loaded:
    return Loaded(step, step, network)


def _image(count: int, channels: int, size: int, device: torch.device) -> torch.Tensor:
    noise = torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    return noise.to(device, memory_format=torch.channels_last)


def _ours(checkpoint: str) -> Callable[[Baseline, torch.device], Loaded]:
    def load(baseline: Baseline, device: torch.device) -> Loaded:
        segmenter = Segmenter.from_pretrained(checkpoint, device=str(device))
        picture = Picture(draw("skin-lesion", seed=3).image)
        settings = RunSettings(members=baseline.members, steps=baseline.steps, size=baseline.size)
        condition = segmenter.model.encode(_image(1, 3, baseline.size, device))
        x_t = _image(baseline.members, segmenter.diffusion.channels, baseline.size, device).contiguous()
        t = torch.tensor(spaced(segmenter.diffusion.config.timesteps, 2)[1:], device=device)
        return Loaded(
            step=lambda: segmenter.model(x_t, t, condition),
            work=lambda: replace(segmenter.model, cores=1)(x_t, t, condition),
            network=segmenter.checkpoint.model,
            mask=lambda: segmenter(picture, settings),
            first=lambda: next(segmenter.run(picture, settings)),
        )

    return load


def _lucidrains(dim: int) -> Callable[[Baseline, torch.device], Loaded]:
    def load(baseline: Baseline, device: torch.device) -> Loaded:
        from med_seg_diff_pytorch import Unet  # pyright: ignore[reportMissingImports]  make bench installs it

        network = Unet(dim=dim, image_size=baseline.size, mask_channels=1, input_img_channels=3, dim_mults=(1, 2, 4, 8))
        call = _in_precision(network, device)
        x_t, image = (_image(baseline.members, channels, baseline.size, device) for channels in (1, 3))
        t = torch.full((baseline.members,), 500, device=device)
        return _baseline(lambda: call(x_t, t, image), network)

    return load


def _monai_diffusion(baseline: Baseline, device: torch.device) -> Loaded:
    from monai.networks.nets import DiffusionModelUNet

    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=4,
        out_channels=1,
        channels=(64, 64, 64),
        attention_levels=(False, False, True),
        num_res_blocks=1,
        num_head_channels=64,
    )
    call = _in_precision(network, device)
    x_t = _image(baseline.members, 4, baseline.size, device)
    t = torch.full((baseline.members,), 500, device=device)
    return _baseline(lambda: call(x_t, t), network)


def _monai_unet(baseline: Baseline, device: torch.device) -> Loaded:
    from monai.networks.nets import UNet

    network = UNet(2, 3, 1, channels=(48, 96, 192, 384), strides=(2, 2, 2), num_res_units=2)
    call = _in_precision(network, device)
    image = _image(1, 3, baseline.size, device)
    return _baseline(lambda: call(image), network)


_LUCIDRAINS = ("med_seg_diff_pytorch",)
BASELINES = (
    Baseline(name="MedSegDiff-V2, skin-lesion-v2", load=_ours("skin-lesion-v2")),
    Baseline(name="the same at 128 x 128", load=_ours("skin-lesion-v2"), size=128),
    Baseline(name="MedSegDiff (V1), skin-lesion-v1", load=_ours("skin-lesion-v1")),
    Baseline(name="plain U-Net (MONAI UNet), no diffusion", load=_monai_unet, packages=("monai",), members=1, steps=1),
    Baseline(name="med-seg-diff-pytorch, dim 16", load=_lucidrains(16), packages=_LUCIDRAINS),
    Baseline(name="MONAI DiffusionModelUNet, DDIM", load=_monai_diffusion, packages=("monai",), steps=50, heavy=True),
    Baseline(
        name="med-seg-diff-pytorch, its defaults", load=_lucidrains(64), packages=_LUCIDRAINS, steps=1000, heavy=True
    ),
)
