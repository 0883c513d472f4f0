"""Segment a volume slice by slice along one axis.

The network treats slices as independent images, so several share one forward pass. Each slice gets the noise it would get alone,
and therefore the same mask (up to rounding, which depends on the batch size). All slices share the volume's window, so
grey values have the same meaning in each.

`segment_volume` is an iterator: it yields a `Progress` for every step of every batch, and finally the result.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from medsegdiff.confidence import overlaps, summary
from medsegdiff.config import Domain, RunSettings
from medsegdiff.data.tasks import intensity_of
from medsegdiff.device import Arithmetic
from medsegdiff.ensemble import Fusion, fuse_resized
from medsegdiff.image_ref import Intensity, Picture, Volume, Windowing
from medsegdiff.pipeline import Reproducible, Segmenter
from medsegdiff.progress import Progress
from medsegdiff.resize import to_network

__all__ = ["VolumeSegmentation", "segment_volume"]

_SAMPLES = 32  # members x slices in one forward pass


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSegmentation(Reproducible):
    """The result of one run on a volume, on the volume's voxels."""

    labels: UInt8[np.ndarray, "z y x"]  # 0 background, 1..K
    probability: Float32[np.ndarray, "z y x"]  # of any foreground, the members' mean
    disagreement: Float32[np.ndarray, "z y x"]
    axis: int  # along which it was sliced
    windows: tuple[tuple[float, float] | None, ...]  # of each slice; None: frames in colour
    intensity: Intensity | None  # that they follow, as the checkpoint's training images did; None: one was given
    settings: RunSettings
    domain: Domain
    digest: str  # sha256 of the weights
    dtype: str
    arithmetic: Arithmetic
    overlaps: Int64[np.ndarray, "classes m m"]  # of the members (see `confidence`)
    voxel_mm3: float | None  # None where the file gives no spacing
    source_sha256: str  # of the volume's values, as read
    seconds: float

    @property
    def window(self) -> tuple[float, float] | None:
        """The window of every slice; None for colour, and where slices differ."""
        return self.windows[0] if len(set(self.windows)) == 1 else None

    def volumes(self) -> dict[str, dict[str, float]]:
        """Return the size of each class in voxels and, if the spacing is known, in mm^3."""
        counts = {name: int(np.count_nonzero(self.labels == i)) for i, name in enumerate(self.domain.labels, 1)}
        voxel = self.voxel_mm3
        return {name: {"voxels": n} | ({} if voxel is None else {"mm3": n * voxel}) for name, n in counts.items()}

    def confidence(self) -> dict[str, dict[str, Any]]:
        """Return the members' pairwise Dice and the interval of their volumes, per class; empty for a single member.

        Member i of every slice starts from the same noise.
        """
        return summary(self.overlaps, self.domain.labels, "voxels", self.voxel_mm3, "mm3")

    def extent(self) -> dict[str, Any]:
        """Describe the volume and the size of every class, for the report."""
        return {
            "volumes": self.volumes(),
            "confidence": self.confidence(),
            "volume": {
                "axis": self.axis,
                "slices": self.labels.shape[2 - self.axis],
                "window": self.window,
                "intensity": None if self.intensity is None else asdict(self.intensity),
                "sha256": self.source_sha256,
            },
        }


def segment_volume(
    segmenter: Segmenter,
    volume: Volume,
    settings: RunSettings | None = None,
    *,
    axis: int = 2,
    window: Windowing = None,
) -> Generator[Progress | VolumeSegmentation, None, None]:
    """Segment every slice along an axis, yielding after every step of every batch.

    Arguments:
        segmenter: a checkpoint ready to run.
        volume: what `read_volume` returns.
        settings: as for one image; every slice uses the same seed and takes all steps, `tolerance` is ignored.
        axis: 0 sagittal, 1 coronal, 2 axial or frames.
        window: grey values shown as 0 and 255; by default as the checkpoint was trained.

    Raises:
        ValueError: the settings or the axis are invalid.
    """
    settings = replace(segmenter.resolve_settings(settings or RunSettings()), tolerance=0.0, trace=False)
    window = intensity_of(segmenter.domain) if window is None else window
    began, count, step = time.perf_counter(), volume.count(axis), max(1, _SAMPLES // settings.members)
    fused: list[Fusion] = []
    counts = overlaps(np.zeros((settings.members, 1, 1), np.uint8), len(segmenter.domain.labels))
    for first in range(0, count, step):
        pictures = [volume.slice(axis, index, window) for index in range(first, min(first + step, count))]
        for event in _together(segmenter, pictures, settings):
            if isinstance(event, tuple):
                fused.append(event[0])
                counts += event[1]
            else:
                yield Progress(first + event * len(pictures), count)
    yield VolumeSegmentation(
        labels=volume.stack(axis, [one.labels for one in fused]),
        probability=1 - volume.stack(axis, [one.probability[0] for one in fused]),
        disagreement=volume.stack(axis, [one.disagreement for one in fused]),
        axis=axis,
        windows=tuple(volume.window_of(axis, index, window) for index in range(count)),
        intensity=window if isinstance(window, Intensity) and volume.follows(window) else None,
        settings=settings,
        domain=segmenter.domain,
        digest=segmenter.checkpoint.digest,
        dtype=str(segmenter.model.dtype).removeprefix("torch."),
        arithmetic=segmenter.arithmetic,
        overlaps=counts,
        voxel_mm3=volume.voxel_mm3,
        source_sha256=volume.digest,
        seconds=time.perf_counter() - began,
    )


def _together(
    segmenter: Segmenter, pictures: list[Picture], settings: RunSettings
) -> Iterator[float | tuple[Fusion, Int64[np.ndarray, "classes m m"]]]:
    """Yield the share of steps done after each step, then the fused mask of every image with its members' overlaps."""
    channels = segmenter.checkpoint.model_config.image_channels
    field = segmenter.domain.field
    images, geometries = zip(*(to_network(one, settings.size, channels, field) for one in pictures), strict=True)
    batch = torch.cat(images).to(segmenter.device, memory_format=torch.channels_last)
    condition = segmenter.encode(batch, settings)
    if settings.steps:
        x_0 = batch.new_zeros(0)
        for step in segmenter.denoise(condition, settings):
            x_0 = step.x_0
            yield (step.index + 1) / step.total
        probability = segmenter.probability(x_0)
    else:
        (logits,) = condition.anchor_logits
        probability = segmenter.diffusion.probability_of_logits(logits.float())
        yield 1.0
    anchors: list[torch.Tensor | None] = [None] * len(pictures)
    if settings.fuse == "anchored":
        (logits,) = condition.anchor_logits
        anchors = list(segmenter.diffusion.probability_of_logits(logits.float()).cpu().split(1))
    for mine, geometry, anchor in zip(probability.split(settings.members), geometries, anchors, strict=True):
        one, members = fuse_resized(mine.cpu(), geometry, settings.fuse, anchor=anchor)
        # Only background probabilities are kept: those of all classes, slices and members would not fit into memory.
        fusion = Fusion(one.labels, one.probability[0][None], one.disagreement)
        yield fusion, overlaps(members, len(segmenter.domain.labels))
