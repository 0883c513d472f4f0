"""Whether an image is of the kind a checkpoint was trained on, and which checkpoint fits an image best.

The feature vector f of an image, squeezed to 160 x 160, holds the mean of every channel of EfficientNet-Lite0 at strides
8, 16 and 32 (472 numbers), each divided by its standard deviation within a kind. The images of one task form a kind: a
Gaussian N(m, S) fitted to the features of its training images, with a covariance of low rank plus isotropic rest:

    S     = V diag(l) V^T + s (I - V V^T)
    d(f)  = (f - m)^T S^-1 (f - m) / n                            squared Mahalanobis distance per dimension
    D(f)  = d(f) + log det S / n                                  -2 / n log-likelihood, up to a constant
    score = d(f) / threshold + D(f) - min over all kinds of D     at most 1: like the training images

The second term is zero unless another kind explains the image better. The threshold comes from training images whose
patients were left out of the fit (`python -m benchmarks.domain fit`).

References:
    Mahalanobis distance of features (Lee et al., 2018), https://arxiv.org/abs/1807.03888
    Probabilistic principal components (Tipping and Bishop, 1999), https://doi.org/10.1111/1467-9868.00196
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from medsegdiff import shipped
from medsegdiff.atomic import replacing
from medsegdiff.config import Domain
from medsegdiff.data.tasks import TASKS, axis_of, intensity_of
from medsegdiff.device import channels_last
from medsegdiff.image_ref import Intensity, Picture, Volume, Windowing
from medsegdiff.imaging import GENEROUS, Limits, open
from medsegdiff.nn.efficientnet import EfficientNetLite0

__all__ = [
    "ENCODER",
    "FOLDER",
    "LIMIT",
    "STATISTICS",
    "DomainCheck",
    "Examined",
    "Finding",
    "Kind",
    "Level",
    "Verdict",
    "check_picture",
    "check_volume",
    "examine",
    "features",
    "load_encoder",
    "rank",
    "read_statistics",
    "verdict",
    "write_statistics",
]

FOLDER = shipped.FOLDER / "domain"
ENCODER, STATISTICS = "encoder.safetensors", "statistics.safetensors"

Level = Literal["fits", "unusual", "other"]
"""`fits`; `unusual`: of this kind, but different from the training images in a way that is stated; `other`: not of this kind."""

_SIDE = 160  # pixels of the square that the encoder sees
_STRIDES = slice(2, 5)  # of its five maps: strides 8, 16, 32
_BATCH = 16
_FITS, LIMIT = 1.0, 1.5  # scores up to which an image fits, and above which it is of another kind
_UNIFORM = 3.0  # standard deviation of 8-bit pixels below which an image shows nothing
_UNIFORM_SCORE = LIMIT  # added to the score of such an image, so that it is of another kind
_COLOUR = 2.5  # mean distance of 8-bit channels from their grey above which an image is in colour
_LONG = 2.5  # longer to shorter side: squeezed to a square, shapes change too much
_SLICES = 5  # of a volume, evenly spaced over its middle half
_ANY_CODE = ("OT", "SC")  # DICOM: other, secondary capture


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """The images of one task: a Gaussian in feature space, and the distance up to which an image belongs to it."""

    mean: Float32[np.ndarray, " n"]  # of features over their scale
    directions: Float32[np.ndarray, "r n"]  # V^T, orthonormal rows
    variances: Float32[np.ndarray, " r"]  # l
    rest: float  # s
    threshold: float = 1.0

    @classmethod
    def fit(
        cls, samples: Float[np.ndarray, "b n"], rank: int = 64, shrinkage: float = 0.2, threshold: float = 1.0
    ) -> "Kind":
        """Fit to scaled features; the covariance is shrunk towards its mean variance times the identity."""
        count, dims = samples.shape
        mean = samples.mean(0)
        away = (samples - mean).astype(np.float64)
        spectrum, vectors = np.linalg.eigh(away.T @ away / count)  # ascending
        spectrum, directions = np.maximum(spectrum[::-1], 0), np.ascontiguousarray(vectors.T[::-1])
        rank = min(rank, count - 1, dims - 1)
        floor = shrinkage * spectrum.sum() / dims
        rest = (1 - shrinkage) * spectrum[rank:].sum() / (dims - rank) + floor
        variances = (1 - shrinkage) * spectrum[:rank] + floor
        return cls(
            mean.astype(np.float32),
            directions[:rank].astype(np.float32),
            variances.astype(np.float32),
            float(rest),
            threshold,
        )

    def distance(self, scaled: Float[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
        """Return d(f) of scaled features."""
        away = scaled - self.mean
        along = away @ self.directions.T
        left = (away**2).sum(1) - (along**2).sum(1)
        return ((along**2 / self.variances).sum(1) + np.maximum(left, 0) / self.rest) / away.shape[1]

    @property
    def log_volume(self) -> float:
        """The logarithm of det S, divided by n."""
        dims, rank = len(self.mean), len(self.variances)
        return float(np.log(self.variances).sum() + (dims - rank) * math.log(self.rest)) / dims

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what a file holds of it."""
        return {
            "mean": self.mean,
            "directions": self.directions.astype(np.float16, order="C"),  # safetensors writes the memory as it lies
            "variances": self.variances,
            "rest": np.array([self.rest], np.float32),
            "threshold": np.array([self.threshold], np.float32),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> "Kind":
        """Read what `tensors` returned."""
        return cls(
            tensors["mean"],
            tensors["directions"].astype(np.float32),
            tensors["variances"],
            float(tensors["rest"][0]),
            float(tensors["threshold"][0]),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why an image is not like the training images; `key` names a sentence of the page and of `_SENTENCES`."""

    key: Literal["kind", "features", "uniform", "modality", "grey", "colour", "plane", "small", "long", "burned"]
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return _SENTENCES[self.key].format(**self.values)


_SENTENCES = {
    "kind": "it looks like a {image}",
    "features": "it looks unlike the training images",
    "uniform": "it is nearly uniform",
    "modality": "its DICOM header says {modality}",
    "grey": "it is grey and training was in colour",
    "colour": "it is in colour and training was in grey",
    "plane": "it is a {plane} slice and training was on {trained} slices",
    "small": "it has {width} x {height} pixels, few for a network that sees {size} x {size}",
    "long": "its {width} x {height} pixels would be squeezed to a square",
    "burned": "its DICOM header says that text is burnt into the image",
}
_DECISIVE = ("kind", "uniform", "modality")  # findings that mean another kind of image
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well an image fits a checkpoint's task."""

    level: Level
    score: float  # at most 1: like the training images
    kind: str | None  # the task whose training images it is most like; None where it is like none
    findings: tuple[Finding, ...]  # why it is unusual, or of another kind

    def facts(self) -> dict[str, Any]:
        """Return it as JSON types."""
        reasons = [{"key": one.key, "values": one.values, "text": str(one)} for one in self.findings]
        return {"level": self.level, "score": round(self.score, 4), "kind": self.kind, "reasons": reasons}


def verdict(
    scores: Mapping[str, float], picture: Picture, domain: Domain, size: int, *, planes: bool = True
) -> Verdict | None:
    """Judge an image for a checkpoint; None where nothing is known of the images of its task.

    Arguments:
        scores: of the image, by task, as `DomainCheck.scores` returns them.
        picture: the image, or a slice of the volume.
        domain: of the checkpoint.
        size: side of the square that its network was trained on, in pixels.
        planes: whether the image's plane counts; not of a volume, which is sliced as the task wants.
    """
    if domain.task not in scores:
        return None
    score, likest = scores[domain.task], min(scores, key=lambda task: scores[task])
    kind = likest if scores[likest] <= _FITS else None
    found = tuple(_rules(picture, domain, size, planes))
    if score > _FITS and not any(finding.key == "uniform" for finding in found):
        if kind is None or kind == domain.task:
            found = (Finding("features"), *found)
        else:
            found = (Finding("kind", {"task": kind, "image": TASKS[kind].image}), *found)
    level: Level = "unusual" if found else "fits"
    if score > LIMIT or any(finding.key in _DECISIVE for finding in found):
        level = "other"
    return Verdict(level, score, kind, found)


def _rules(picture: Picture, domain: Domain, size: int, planes: bool) -> Iterable[Finding]:
    """Find what the header, the sides and the colours say against an image."""
    known = TASKS.get(domain.task)
    if known and known.codes and picture.modality and picture.modality not in (*known.codes, *_ANY_CODE):
        yield Finding("modality", {"modality": picture.modality})
    if _uniform(picture.pixels):
        yield Finding("uniform")
    elif domain.mean:
        grey = len(set(domain.mean)) == 1 and len(set(domain.std)) == 1  # of the training images
        spread = _colourfulness(picture.pixels)
        if grey and spread > _COLOUR:
            yield Finding("colour")
        if not grey and spread == 0:
            yield Finding("grey")
    if planes and picture.slice_count > 1 and picture.source_kind not in ("dicom", "tiff"):
        trained = axis_of(domain)
        if picture.axis != trained:
            yield Finding("plane", {"plane": _PLANES[picture.axis], "trained": _PLANES[trained]})
    sides = {"height": picture.height, "width": picture.width}
    if min(sides.values()) < size / 4:
        yield Finding("small", {**sides, "size": size})
    if max(sides.values()) > _LONG * min(sides.values()):
        yield Finding("long", sides)
    if picture.burned_in:
        yield Finding("burned")


def _thinned(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "p q 3"]:
    step = max(1, round(math.sqrt(pixels.size / 3 / 50_000)))
    return pixels[::step, ::step].astype(np.float32)


def _uniform(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    return bool((_thinned(pixels).std((0, 1)) < _UNIFORM).all())


def _colourfulness(pixels: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean distance of the channels from their mean, in 8-bit steps."""
    thin = _thinned(pixels)
    return float(np.abs(thin - thin.mean(-1, keepdims=True)).mean())


def load_encoder(path: Path = FOLDER / ENCODER, *, maps: int = 5) -> EfficientNetLite0:
    """Read the shared encoder, up to a number of its feature maps; its float16 weights compute in float32.

    Raises:
        FileNotFoundError: the file is not there.
    """
    encoder, state = EfficientNetLite0(maps), safetensors.torch.load_file(path)
    encoder.load_state_dict({name: state[name].float() for name in encoder.state_dict()})
    return channels_last(encoder).eval()


@torch.inference_mode()
def features(encoder: EfficientNetLite0, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float32[np.ndarray, "b n"]:
    """Compute the feature vectors of RGB images of any sides."""
    found = []
    for first in range(0, len(images), _BATCH):
        squares = [_square(image) for image in images[first : first + _BATCH]]
        batch = torch.from_numpy(np.stack(squares)).movedim(-1, 1).float()
        maps = encoder(batch.contiguous(memory_format=torch.channels_last))[_STRIDES]
        found.append(torch.cat([one.mean((2, 3)) for one in maps], 1).numpy())
    return np.concatenate(found)


def _square(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
    squeezed = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(squeezed)


@dataclass(frozen=True, slots=True, eq=False)
class DomainCheck:
    """The shared encoder, and the kinds of images by task."""

    encoder: EfficientNetLite0
    scale: Float32[np.ndarray, " n"]  # standard deviation of each feature within a kind
    kinds: dict[str, Kind]

    @staticmethod
    @lru_cache(maxsize=2)
    def load(folder: Path = FOLDER) -> "DomainCheck":
        """Read the shipped encoder and statistics, once.

        Raises:
            FileNotFoundError: they are not there.
        """
        return DomainCheck(load_encoder(folder / ENCODER), *read_statistics(folder / STATISTICS))

    def scores(self, picture: Picture) -> dict[str, float]:
        """Score an image for every kind; a higher score means less like the training images of that task."""
        found = self.scores_of(features(self.encoder, [picture.pixels]))[0] + _UNIFORM_SCORE * _uniform(picture.pixels)
        return dict(zip(self.kinds, found.tolist(), strict=True))

    def slice_scores(self, volume: Volume, axis: int, window: Windowing = None) -> dict[str, float]:
        """Score a volume for every kind: the median over slices of its middle half along an axis."""
        pictures = [volume.slice(axis, index, window) for index in middle_slices(volume.count(axis))]
        rows = self.scores_of(features(self.encoder, [picture.pixels for picture in pictures]))
        rows += _UNIFORM_SCORE * np.array([[_uniform(picture.pixels)] for picture in pictures])
        return dict(zip(self.kinds, np.median(rows, 0).tolist(), strict=True))

    def volume_scores(self, volume: Volume, window: Windowing = None) -> dict[str, float]:
        """Score a volume for every kind, each sliced and windowed as volumes of its task are; a given window counts for all.

        Where slices along a task's axis are too small to segment, those along another are scored.
        """
        views = {task: (_axis(volume, task), window or _intensity(volume, task)) for task in self.kinds}
        scores = {view: self.slice_scores(volume, *view) for view in set(views.values())}
        return {task: scores[view][task] for task, view in views.items()}

    def scores_of(self, vectors: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b k"]:
        """Score feature vectors for every kind, in the order of `kinds`."""
        scaled = vectors / self.scale
        distance = np.stack([kind.distance(scaled) for kind in self.kinds.values()], 1)
        deviance = distance + np.array([kind.log_volume for kind in self.kinds.values()])
        thresholds = np.array([kind.threshold for kind in self.kinds.values()])
        return distance / thresholds + deviance - deviance.min(1, keepdims=True)


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A file with its scores for every kind."""

    scores: dict[str, float]
    picture: Picture  # of a volume, the middle slice
    volume: Volume | None

    def verdict(self, domain: Domain, size: int) -> Verdict | None:
        """Judge the file for a checkpoint, as `verdict` does."""
        if self.volume is None:
            return verdict(self.scores, self.picture, domain, size)
        return verdict(self.scores, self.volume.slice(_axis(self.volume, domain.task)), domain, size, planes=False)


def examine(check: DomainCheck, path: Path, window: Windowing = None, *, limits: Limits = GENEROUS) -> Examined:
    """Read a file and score it; of several slices or frames, those of the middle half together.

    Raises:
        PictureError: it is no image that can be read here.
    """
    volume = open(path, window=window, stack=False, limits=limits)
    if isinstance(volume, Picture):
        return Examined(check.scores(volume), volume, None)
    picture = volume.slice(volume.slice_axis(), None, window)
    if volume.flat and volume.count(2) == 1:
        return Examined(check.scores(picture), picture, None)
    return Examined(check.volume_scores(volume, window), picture, volume)


def check_picture(picture: Picture, domain: Domain, size: int) -> Verdict | None:
    """Judge an image for a checkpoint; None where nothing is known of its task, or the statistics are not installed."""
    check = _installed()
    return None if check is None else verdict(check.scores(picture), picture, domain, size)


def check_volume(volume: Volume, domain: Domain, size: int, axis: int = 2, window: Windowing = None) -> Verdict | None:
    """Judge a volume for a checkpoint, by slices of its middle half along an axis; None as for `check_picture`."""
    check = _installed()
    if check is None or domain.task not in check.kinds:
        return None
    window = intensity_of(domain) if window is None else window
    middle = volume.slice(axis, None, window)
    return verdict(check.slice_scores(volume, axis, window), middle, domain, size)


def _installed() -> DomainCheck | None:
    """The shipped encoder and statistics; a wheel comes without checkpoints, and without these."""
    try:
        return DomainCheck.load()
    except FileNotFoundError:
        return None


def rank(scores: Mapping[str, float], tasks: Mapping[str, str]) -> list[tuple[str, float]]:
    """Rank checkpoints by the score for their task, the best first; of one task, V2 comes before V1 and a plain U-Net.

    Arguments:
        scores: of an image, by task.
        tasks: of each checkpoint, by its name; one of an unknown task is left out.
    """
    names = sorted((name for name, task in tasks.items() if task in scores), reverse=True)
    return sorted(((name, scores[tasks[name]]) for name in names), key=lambda row: row[1])


def _axis(volume: Volume, task: str) -> int:
    return volume.slice_axis(axis_of(task))


def _intensity(volume: Volume, task: str) -> Intensity | None:
    return rule if volume.follows(rule := intensity_of(task)) else None


def middle_slices(count: int) -> list[int]:
    """Choose slices evenly from the middle half of so many."""
    return sorted({round(i) for i in np.linspace(0.25 * (count - 1), 0.75 * (count - 1), _SLICES)})


def read_statistics(path: Path) -> tuple[Float32[np.ndarray, " n"], dict[str, Kind]]:
    """Read the features' scale and the kinds by task."""
    held = safetensors.numpy.load_file(path)
    tasks = sorted({name.partition("/")[0] for name in held if "/" in name})
    of = {
        task: {name.partition("/")[2]: t for name, t in held.items() if name.startswith(f"{task}/")} for task in tasks
    }
    return held["scale"], {task: Kind.of(tensors) for task, tensors in of.items()}


def write_statistics(path: Path, scale: Float32[np.ndarray, " n"], kinds: Mapping[str, Kind]) -> None:
    """Write what `read_statistics` reads."""
    held = {f"{task}/{name}": tensor for task, kind in kinds.items() for name, tensor in kind.tensors().items()}
    with replacing(path) as draft:
        draft.write_bytes(safetensors.numpy.save({"scale": scale.astype(np.float32), **held}))
