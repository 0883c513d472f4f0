"""Create a network from its config."""

from medsegdiff.config import ModelConfig, UNetConfig, V1Config, V2Config
from medsegdiff.nn.unet import PlainUNet
from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.nn.v2 import MedSegDiffV2

__all__ = ["Network", "build"]

Network = MedSegDiffV1 | MedSegDiffV2 | PlainUNet


def build(config: ModelConfig) -> Network:
    """Return the untrained network that a config describes."""
    match config:
        case V1Config():
            return MedSegDiffV1(config)
        case V2Config():
            return MedSegDiffV2(config)
        case UNetConfig():
            return PlainUNet(config)
