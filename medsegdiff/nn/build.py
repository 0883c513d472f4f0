"""Config to network: the only place that asks which version a config means."""

from medsegdiff.config import V1Config, V2Config
from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.nn.v2 import MedSegDiffV2

__all__ = ["Network", "build"]

Network = MedSegDiffV1 | MedSegDiffV2


def build(config: V1Config | V2Config) -> Network:
    """Build the (untrained) network a config describes."""
    match config:
        case V1Config():
            return MedSegDiffV1(config)
        case V2Config():
            return MedSegDiffV2(config)
