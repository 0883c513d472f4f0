"""Segment an image: from a picture to a mask at the same size.

    picture --resize--> image --encode once--> condition --denoise members x steps--> x_0 --fuse--> labels

`Segmenter.run` is an iterator: it yields a `Start`, which has the anchor, then one `Step` per denoising step, and finally a
`Segmentation`. The caller may stop at any time. With 0 steps the result is the anchor, as the only member; so it is for a plain
U-Net.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from medsegdiff.checkpoint import Checkpoint, load
from medsegdiff.confidence import overlaps, summary
from medsegdiff.config import Domain, Mirror, RunSettings, UNetConfig, V1Config
from medsegdiff.data.tasks import intensity_of
from medsegdiff.device import Arithmetic, best_device, channels_last, compiled, precision
from medsegdiff.ensemble import MemberQuality, change, fuse_resized, labels_in_bands
from medsegdiff.errors import InputError
from medsegdiff.hub import copy, push, resolve
from medsegdiff.image_ref import ImageRef, sha256
from medsegdiff.imaging import Picture, read
from medsegdiff.records import Condition, Step
from medsegdiff.replay import encode_runs
from medsegdiff.resize import Geometry, ResizedMaps, to_network
from medsegdiff.runner import Runner
from medsegdiff.sampling import MemberNoise, SamplingSettings, denoise, spaced
from medsegdiff.schedule import Diffusion

__all__ = ["Reproducible", "Segmentation", "Segmenter", "Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """The state before the first denoising step."""

    image: Float[Tensor, "1 c s s"]  # input of the network, in [-1, 1]
    geometry: Geometry
    condition: Condition
    anchor: tuple[Float[Tensor, "1 _ s s"], ...]  # class probabilities of the condition network; V1 has none
    times: tuple[int, ...]  # timesteps of the trajectory, descending; empty without denoising


class Reproducible:
    """A result that can be obtained again from the same file, settings and weights."""

    __slots__ = ()

    labels: Any
    settings: RunSettings
    domain: Domain
    digest: str
    dtype: str
    arithmetic: Arithmetic
    seconds: float

    def extent(self) -> dict[str, Any]:
        """Describe the source and the size of every class, for the report."""
        raise NotImplementedError

    def sidecar(self) -> dict[str, Any]:
        """Collect everything needed to obtain these labels again from the same source, as plain JSON types."""
        return self.extent() | {
            "settings": asdict(self.settings),
            "checkpoint": {"task": self.domain.task, "sha256": self.digest},
            "temperature": self.domain.temperature,
            "dtype": self.dtype,
            "arithmetic": asdict(self.arithmetic),
            "mask": {"sha256": sha256(self.labels)}
            | ({"runs": encode_runs(self.labels)} if self.labels.ndim == 2 else {}),
            "seconds": round(self.seconds, 4),
            "versions": {name: version(name) for name in ("torch", "numpy", "SimpleITK")},
        }


@dataclass(frozen=True, slots=True)
class Segmentation(Reproducible):
    """The result of one run, at the size of the input."""

    labels: UInt8[np.ndarray, "h w"]  # 0 background, 1..K
    # (K + 1, h, w), the members' mean (with the anchor where `settings.fuse` is "anchored"), background first, in [0, 1]
    probability: Float32[np.ndarray, "_ h w"] | ResizedMaps
    disagreement: Float32[np.ndarray, "h w"]  # >= 0; variation between members, which is not the error
    members: UInt8[np.ndarray, "m h w"]  # each member's own label image
    quality: tuple[MemberQuality, ...]  # STAPLE's estimate for each member, if there is one
    anchor: tuple[UInt8[np.ndarray, "h w"], ...]  # the condition network's label image (V2, plain U-Net), else empty
    settings: RunSettings
    domain: Domain
    digest: str  # sha256 of the weights
    dtype: str  # of convolutions and matrix products: "float32" or "bfloat16"
    arithmetic: Arithmetic
    spacing_mm: tuple[float, float] | None  # (row, column)
    ref: ImageRef  # identifies the input
    seconds: float

    @property
    def mask(self) -> np.ndarray:
        """The union of all foreground classes: (h, w) bool."""
        return self.labels > 0

    def areas(self) -> dict[str, dict[str, float]]:
        """Return the area of each class in pixels, as a share of the image and, if the spacing is known, in mm^2."""
        row, column = self.spacing_mm or (0.0, 0.0)
        return {
            name: {"pixels": int(n), "share": n / self.labels.size}
            | ({"mm2": n * row * column} if self.spacing_mm else {})
            for i, name in enumerate(self.domain.labels, 1)
            for n in [int(np.count_nonzero(self.labels == i))]
        }

    def extent(self) -> dict[str, Any]:
        """Describe the image and the size of every class, for the report."""
        return {
            "areas": self.areas(),
            "confidence": self.confidence(),
            "picture": asdict(self.ref),
            "spacing_mm": self.spacing_mm,
        }

    def confidence(self) -> dict[str, dict[str, Any]]:
        """Return the members' pairwise Dice and the interval of their areas, per class; empty for a single member."""
        counts = overlaps(self.members, len(self.domain.labels))
        pixel = None if self.spacing_mm is None else self.spacing_mm[0] * self.spacing_mm[1]
        return summary(counts, self.domain.labels, "pixels", pixel, "mm2")


class Segmenter:
    """Run a checkpoint. A segmenter has no mutable state and can be shared by any number of runs.

    Arguments:
        checkpoint: what `checkpoint.load` returns.
        device: "auto", "cpu", "cuda", "cuda:1" ...
        dtype: of convolutions and matrix products; by default the fastest on the device.
        compile: use torch.compile, which takes a minute at the first step of every shape.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", dtype: torch.dtype | None = None, *, compile: bool = False
    ) -> None:
        self.checkpoint = checkpoint
        self.device = best_device(device)
        model = channels_last(checkpoint.model.to(self.device)).eval()
        cores = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.model = Runner(compiled(model) if compile else model, self.device, dtype or precision(self.device), cores)
        self.arithmetic = Arithmetic.of(self.device, cores)
        self.diffusion = Diffusion(checkpoint.diffusion, checkpoint.model_config.classes)
        self.domain = checkpoint.domain

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        revision: str | None = None,
        *,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        device: str = "auto",
    ) -> "Segmenter":
        """Load a folder, a shipped checkpoint by name, or a Hub repository by id and revision.

        The arguments other than `device` are those of huggingface_hub's `ModelHubMixin.from_pretrained`.
        """
        folder = resolve(
            str(source),
            revision,
            cache=None if cache_dir is None else Path(cache_dir),
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return cls(load(folder), device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the files of the checkpoint, unchanged, into a folder from which `from_pretrained` loads them."""
        copy(self.checkpoint.folder, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the checkpoint to a repository of the Hub, created if need be, and return the address of the commit.

        The arguments are those of huggingface_hub's `ModelHubMixin.push_to_hub`.

        Raises:
            CheckpointError: the checkpoint has no model card.
        """
        return push(
            self.checkpoint.folder,
            repo_id,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
            message=commit_message,
        )

    def resolve_settings(self, settings: RunSettings) -> RunSettings:
        """Complete and validate settings for this checkpoint.

        A plain U-Net always has 0 steps. Without steps there is one member, and the anchor weight is 0; so it is for V1,
        which has no anchor.

        Raises:
            ValueError: the size is not a multiple of the network's stride, or too small; or 0 steps for a network without an
                anchor (V1).
        """
        config = self.checkpoint.model_config
        if isinstance(config, UNetConfig) or settings.steps == 0:
            settings = replace(settings, members=1, steps=0)
        if isinstance(config, V1Config) and settings.steps == 0:
            raise InputError(
                "run.no_anchor", "this checkpoint is a MedSegDiff V1, which has no anchor; choose a V2 checkpoint"
            )
        fuse = self.domain.fuse if settings.fuse == "auto" else settings.fuse
        weight = self.domain.anchor_weight if settings.anchor_weight is None else settings.anchor_weight
        noise = self.domain.noise if settings.noise == "auto" else settings.noise
        if not settings.switches.anchor:  # where the anchor is switched off, it returns only if that was asked for
            fuse = "staple" if settings.fuse == "auto" and fuse == "anchored" else fuse
            weight = settings.anchor_weight or 0.0
            noise = "independent" if settings.noise == "auto" else noise
        if isinstance(config, V1Config) or settings.steps == 0:
            weight = 0.0
            fuse = "mean" if fuse == "anchored" else fuse
            noise = "independent"
        size = settings.size or config.image_size
        if size % config.stride or not config.stride * 2 <= size <= 1024:
            raise InputError(
                "run.size",
                "size is {size}; this checkpoint runs at multiples of {stride} from {least} to 1024",
                size=size,
                stride=config.stride,
                least=config.stride * 2,
            )
        mirror = self._mirror(settings)
        return replace(settings, size=size, fuse=fuse, noise=noise, anchor_weight=weight, mirror=mirror)

    def _mirror(self, settings: RunSettings) -> Mirror:
        return self.domain.mirror if settings.mirror == "auto" else settings.mirror

    def run(self, picture: Picture, settings: RunSettings | None = None) -> Iterator[Start | Step | Segmentation]:
        """Yield a `Start`, then every `Step`, then the `Segmentation`.

        With a `tolerance` the trajectory stops early, once the remaining steps would change the fused mask by less than that in
        1 - Dice, if each changed it as much as the last one did. This is an estimate, not a bound.
        """
        settings = self.resolve_settings(settings or RunSettings())
        began = time.perf_counter()
        channels = self.checkpoint.model_config.image_channels
        image, geometry = to_network(picture, settings.size, channels, self.domain.field)
        image = image.to(self.device, memory_format=torch.channels_last)
        times = self._times(settings)
        condition = self.encode(image, settings)
        anchor = tuple(self.diffusion.probability_of_logits(a.float()) for a in condition.anchor_logits)
        start = Start(image, geometry, condition, anchor, tuple(times))
        yield start
        if not times:
            yield self._segmentation(anchor[0], start, picture, settings, began)
            return

        x_0 = image.new_zeros(settings.members, self.diffusion.channels, settings.size, settings.size)
        for step in self.denoise(condition, settings, times):
            left = step.total - 1 - step.index
            asked = settings.tolerance > 0 and step.index > 0
            settled = asked and left * self._change(x_0, step.x_0) < settings.tolerance
            x_0 = step.x_0
            yield step
            if settled:
                break

        yield self._segmentation(self.probability(x_0), start, picture, settings, began)

    def probability(self, x_0: Float[Tensor, "b k h w"]) -> Float[Tensor, "b _ h w"]:
        """Return the class probabilities of members' masks, background first, at the checkpoint's temperature (F40)."""
        return self.diffusion.probability(x_0.float(), self.domain.temperature)

    def _times(self, settings: RunSettings) -> list[int]:
        if settings.steps == 0:
            return []
        return spaced(self.diffusion.config.timesteps, settings.steps, settings.spacing)

    def _change(self, before: Float[Tensor, "b k h w"], after: Float[Tensor, "b k h w"]) -> float:
        return change(*(self.probability(x_0).cpu().numpy() for x_0 in (before, after)))

    def _segmentation(
        self, probability: Tensor, start: Start, picture: Picture, settings: RunSettings, began: float
    ) -> Segmentation:
        beside = start.anchor[0].cpu() if settings.fuse == "anchored" else None
        fusion, members = fuse_resized(probability.cpu(), start.geometry, settings.fuse, anchor=beside)
        anchor = [labels_in_bands(a.cpu(), start.geometry) for a in start.anchor]
        return Segmentation(
            labels=fusion.labels,
            probability=fusion.probability,
            disagreement=fusion.disagreement,
            members=members,
            quality=fusion.quality,
            anchor=tuple(anchor),
            settings=settings,
            domain=self.domain,
            digest=self.checkpoint.digest,
            dtype=str(self.model.dtype).removeprefix("torch."),
            arithmetic=self.arithmetic,
            spacing_mm=picture.spacing_mm,
            ref=picture.ref,
            seconds=time.perf_counter() - began,
        )

    def anchor(self, picture: Picture, settings: RunSettings | None = None) -> Segmentation:
        """Return the condition network's mask, without diffusion: a run of 0 steps.

        Raises:
            ValueError: the network has no anchor (V1).
        """
        return self(picture, replace(settings or RunSettings(), steps=0))

    def encode(self, image: Float[Tensor, "i c s s"], settings: RunSettings) -> Condition:
        """Run the condition network on images and on the mirror images that the settings ask for."""
        return self.model.encode(image, self._mirror(settings))

    def denoise(self, condition: Condition, settings: RunSettings, times: list[int] | None = None) -> Iterator[Step]:
        """Denoise all members of every image of a condition, from noise to masks; the members of an image are consecutive."""
        images = len(condition.features[0])
        yield from denoise(
            self.model,
            condition.for_members(settings.members),
            self.diffusion,
            times or self._times(settings),
            MemberNoise(settings.seed, settings.members, images=images),
            (self.diffusion.channels, settings.size, settings.size),
            SamplingSettings(
                settings.sampler,
                settings.eta,
                settings.anchor_weight or 0.0,
                by_overlap=self.domain.may_be_absent,
                stratified=settings.noise == "stratified",
                trace=settings.trace,
                switches=settings.switches,
            ),
        )

    def __call__(self, picture: Picture | str | Path, settings: RunSettings | None = None) -> Segmentation:
        """Segment a picture, or the image in a file, whose grey values are windowed as the checkpoint was trained."""
        if not isinstance(picture, Picture):
            picture = read(picture, window=intensity_of(self.domain))
        *_, last = self.run(picture, settings)
        assert isinstance(last, Segmentation)
        return last
