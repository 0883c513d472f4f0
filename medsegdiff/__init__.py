"""MedSegDiff V1 and V2: diffusion models for medical image segmentation.

    from medsegdiff import RunSettings, Segmenter

    segmenter = Segmenter.from_pretrained("skin-lesion-v2")
    result = segmenter("dermoscopy.png", RunSettings(members=5, steps=10, seed=0))
    result.labels, result.probability, result.disagreement      # at the size of the image

Import training and evaluation by their module names (`medsegdiff.training`, `medsegdiff.evaluation`); they need more packages.
Names are imported at first use (PEP 562): `import medsegdiff` alone loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsegdiff.checkpoint import Checkpoint as Checkpoint
    from medsegdiff.checkpoint import load as load
    from medsegdiff.checkpoint import save as save
    from medsegdiff.config import PRESETS as PRESETS
    from medsegdiff.config import DiffusionConfig as DiffusionConfig
    from medsegdiff.config import RunSettings as RunSettings
    from medsegdiff.config import UNetConfig as UNetConfig
    from medsegdiff.config import V1Config as V1Config
    from medsegdiff.config import V2Config as V2Config
    from medsegdiff.ensemble import fuse as fuse
    from medsegdiff.imaging import Picture as Picture
    from medsegdiff.imaging import read as read
    from medsegdiff.nn.build import build as build
    from medsegdiff.nn.unet import PlainUNet as PlainUNet
    from medsegdiff.nn.v1 import MedSegDiffV1 as MedSegDiffV1
    from medsegdiff.nn.v2 import MedSegDiffV2 as MedSegDiffV2
    from medsegdiff.pipeline import Segmentation as Segmentation
    from medsegdiff.pipeline import Segmenter as Segmenter
    from medsegdiff.records import Step as Step
    from medsegdiff.records import Switches as Switches
    from medsegdiff.records import Trace as Trace
    from medsegdiff.sampling import SAMPLERS as SAMPLERS
    from medsegdiff.sampling import denoise as denoise
    from medsegdiff.schedule import Diffusion as Diffusion
    from medsegdiff.schedule import NoiseSchedule as NoiseSchedule

__all__ = [
    "PRESETS",
    "SAMPLERS",
    "Checkpoint",
    "Diffusion",
    "DiffusionConfig",
    "MedSegDiffV1",
    "MedSegDiffV2",
    "NoiseSchedule",
    "Picture",
    "PlainUNet",
    "RunSettings",
    "Segmentation",
    "Segmenter",
    "Step",
    "Switches",
    "Trace",
    "UNetConfig",
    "V1Config",
    "V2Config",
    "build",
    "denoise",
    "fuse",
    "load",
    "read",
    "save",
]

_HOMES = {
    "medsegdiff.checkpoint": (
        "Checkpoint",
        "load",
        "save",
    ),
    "medsegdiff.config": (
        "PRESETS",
        "DiffusionConfig",
        "RunSettings",
        "UNetConfig",
        "V1Config",
        "V2Config",
    ),
    "medsegdiff.ensemble": ("fuse",),
    "medsegdiff.imaging": (
        "Picture",
        "read",
    ),
    "medsegdiff.nn.build": ("build",),
    "medsegdiff.nn.unet": ("PlainUNet",),
    "medsegdiff.nn.v1": ("MedSegDiffV1",),
    "medsegdiff.nn.v2": ("MedSegDiffV2",),
    "medsegdiff.pipeline": (
        "Segmentation",
        "Segmenter",
    ),
    "medsegdiff.records": (
        "Step",
        "Switches",
        "Trace",
    ),
    "medsegdiff.sampling": (
        "SAMPLERS",
        "denoise",
    ),
    "medsegdiff.schedule": (
        "Diffusion",
        "NoiseSchedule",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
