"""Config to network."""

from medsegdiff.config import ModelConfig, UNetConfig, V1Config, V2Config
from medsegdiff.nn.unet import PlainUNet
from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.nn.v2 import MedSegDiffV2

__all__ = ["Network", "build"]

Network = MedSegDiffV1 | MedSegDiffV2 | PlainUNet


def build(config: ModelConfig) -> Network:
    """Build the (untrained) network a config describes."""
    match config:
        case V1Config():
            return MedSegDiffV1(config)
        case V2Config():
            return MedSegDiffV2(config)
        case UNetConfig():
            return PlainUNet(config)
