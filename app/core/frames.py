"""Store a run as small NumPy arrays that can be displayed, replayed and saved without torch.

    Start -> Opening        Step -> Frame        Segmentation -> Outcome        all three -> Recording

A recording is one .npz file with the arrays and the run's metadata as JSON. Reading it needs NumPy and Pillow; pickles are
never loaded. Probabilities are stored as 0..255, spectra and other maps as bytes with their range, or as float16 where 256 levels
would be too coarse. Arrays are reduced to display size, so a recording takes at most two megabytes.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float16, Shaped, UInt8
from numpy import ndarray
from PIL import Image

from medsegdiff.multi_reader import majority
from medsegdiff.shipped import FORMER_NAMES

if TYPE_CHECKING:  # a replay must not import torch
    from torch import Tensor

    from medsegdiff.pipeline import Segmentation, Start
    from medsegdiff.records import Step, Trace

__all__ = [
    "MEMBERS_KEPT",
    "SIDE",
    "Frame",
    "Opening",
    "Outcome",
    "Plane",
    "Recording",
    "from_segmentation",
    "from_start",
    "from_step",
    "middle",
    "sequence",
    "target",
    "thumbnail",
    "vote",
    "without_constants",
]

SIDE = 256  # longest side of a stored image or mask, in pixels
MEMBERS_KEPT = 12  # members whose masks are stored; means and areas include all members
_PLANE_SIDE = 64  # longest side of a stored map of a network component
_CHANNELS_KEPT = 3  # channels of an FF-Parser's gain: those farthest from the identity
_NOISE_SIDE = 64  # longest side of the stored noisy mask, whose cells are means: a mask stands out of the noise earlier
_COARSE = 5  # a map whose range is more than so many times that of its middle 99 % is stored as float16
_FORMAT = 3


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One small map recorded from a component of the network at one step."""

    kind: (
        str  # "spectrum before", "spectrum after", "gain", "phase", "affinity", "token affinity", "band", "anchor ..."
    )
    stage: str  # name of the layer, as given by the network
    values: Float16[ndarray, "h w"]


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """The image, its reference mask and the anchor: everything known before the first step."""

    picture: UInt8[ndarray, "h w 3"]
    reference: tuple[UInt8[ndarray, "h w"], ...]  # label images: one, several readers', or none
    anchor: tuple[UInt8[ndarray, "s s"], ...]  # foreground probability of the anchor (V2), else empty
    field: float = 1.0  # share of the image's sides, about the middle, that the network sees

    @property
    def seen(self) -> "Opening":
        """Return the part that the network sees, which films enlarge."""
        if self.field == 1:
            return self
        reference, anchor = (tuple(middle(m, self.field) for m in maps) for maps in (self.reference, self.anchor))
        return Opening(middle(self.picture.transpose(2, 0, 1), self.field).transpose(1, 2, 0), reference, anchor)

    @property
    def readers(self) -> tuple[UInt8[ndarray, "h w"], ...]:
        """The masks of several readers; empty if there is one reference mask or none."""
        return self.reference if len(self.reference) > 1 else ()


def target(reference: tuple[UInt8[ndarray, "h w"], ...]) -> tuple[UInt8[ndarray, "h w"], ...]:
    """Return the mask to compute Dice against: the only reference mask, or the majority of several readers'; else none."""
    return (majority(np.stack(reference)),) if len(reference) > 1 else reference


def vote(members: UInt8[ndarray, "m h w"]) -> UInt8[ndarray, "h w"]:
    """Fuse label images by majority vote; on a tie the lower label wins."""
    return np.stack([(members == c).sum(0) for c in range(int(members.max()) + 1)]).argmax(0).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Frame:
    """One denoising step. `x_t` and `x_0` belong to the first member, the other fields to all members."""

    index: int  # 0 ... total - 1
    total: int
    t: int
    x_t: UInt8[ndarray, "n n"]  # the noisy mask, averaged to cells, over its root mean square: -2 ... 2 as 0 ... 248
    x_0: UInt8[ndarray, "s s"]  # foreground probability
    mean: UInt8[ndarray, "s s"]  # mean of the foreground probability over the members
    spread: UInt8[ndarray, "s s"]  # its standard deviation over the members, 0 ... 0.5 as 0 ... 255
    members: UInt8[ndarray, "m s s"]  # label images
    shares: tuple[float, ...]  # foreground share of each member's mask, in [0, 1]
    planes: tuple[Plane, ...] = ()

    def seen(self, field: float) -> "Frame":
        """Return the part that the network sees; `shares` are still of the whole image."""
        return self if field == 1 else replace(self, **{n: middle(getattr(self, n), field) for n in _FRAME_ARRAYS})


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The fused result at display size; the full-size result is written by `export`."""

    labels: UInt8[ndarray, "h w"]
    probability: UInt8[ndarray, "h w"]  # of any foreground
    disagreement: UInt8[ndarray, "h w"]  # 0 ... 0.5 as 0 ... 255
    members: UInt8[ndarray, "m h w"]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A finished run at display size."""

    opening: Opening
    frames: tuple[Frame, ...]
    outcome: Outcome
    facts: dict[str, Any]  # settings, digest, areas, seconds ..., as JSON types

    @property
    def seen(self) -> "Recording":
        """Return the part of every picture and map that the network sees, for films; numbers are those of the whole image."""
        field, outcome = self.opening.field, self.outcome
        if field == 1:
            return self
        parts = (outcome.labels, outcome.probability, outcome.disagreement, outcome.members)
        return replace(
            self,
            opening=self.opening.seen,
            frames=tuple(frame.seen(field) for frame in self.frames),
            outcome=Outcome(*(middle(part, field) for part in parts)),
        )

    def planes(self, kind: str) -> bool:
        """Return whether any step holds a map of this kind."""
        return any(plane.kind == kind for frame in self.frames for plane in frame.planes)

    def save(self, path: Path | str) -> None:
        """Write the recording as one .npz file."""
        arrays: dict[str, Any] = dict(_arrays(self))
        heads = [
            {
                "index": f.index,
                "total": f.total,
                "t": f.t,
                "shares": f.shares,
                "planes": [[p.kind, p.stage, *_range(p.values)] for p in f.planes],
            }
            for f in self.frames
        ]
        head = {"format": _FORMAT, "field": self.opening.field, "frames": heads, "facts": self.facts}
        text = json.dumps(head)  # Dice of an absent class is NaN
        with Path(path).open("wb") as file:
            np.savez_compressed(file, json=np.frombuffer(text.encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> "Recording":
        """Read a recording from an .npz file.

        Raises:
            ValueError: The recording has another format version.
        """
        with np.load(path) as file:
            arrays: dict[str, ndarray] = dict(file)
        head = json.loads(arrays["json"].tobytes())
        if head["format"] == 1:
            head = _converted(head)
        elif head["format"] in (2, _FORMAT):
            arrays |= {name: _unpacked(name, a) for name, a in arrays.items() if _smooth(name)}
        else:
            raise ValueError(
                f"the recording has format {head['format']}, this version reads 1 to {_FORMAT}; record it again"
            )
        if head["format"] < _FORMAT:  # there x_t is -3 ... 3 as 0 ... 248
            arrays |= {name: _noisy(a / np.float32(124) * 3 - 3) for name, a in arrays.items() if name.endswith("/x_t")}
        return cls(
            Opening(arrays["picture"], _several(arrays, "truth"), _several(arrays, "anchor"), head.get("field", 1.0)),
            tuple(_frame(arrays, i, entry) for i, entry in enumerate(head["frames"])),
            Outcome(*(arrays[name] for name in ("labels", "probability", "disagreement", "outcome_members"))),
            head["facts"],
        )


_FRAME_ARRAYS = ("x_t", "x_0", "mean", "spread", "members")
_SMOOTH = ("picture", "anchor", "x_0", "mean", "spread", "probability", "disagreement")
"""Arrays of bytes that are stored as lossless WebP, at about half the size."""


def _range(values: ndarray) -> tuple[float, float] | tuple[()]:
    """Find the smallest and the largest value, between which 256 levels are enough; empty if they are not."""
    if not np.isfinite(values).all():
        return ()
    low, below, above, high = np.percentile(values.astype(np.float64), (0, 0.5, 99.5, 100)).tolist()
    return (low, high) if high - low <= _COARSE * (above - below) else ()


def _noisy(values: Float[ndarray, "s s"]) -> UInt8[ndarray, "n n"]:
    """Average a noisy mask to cells in 32 levels, relative to their root mean square: the mask emerges whatever its scale."""
    cell = max(1, values.shape[0] // _NOISE_SIDE)
    side = values.shape[0] // cell
    values = values[: side * cell, : side * cell].reshape(side, cell, side, cell).mean((1, 3))
    spread = float(np.sqrt(np.square(values).mean())) or 1.0
    return (np.rint((values / spread).clip(-2, 2) * 15.5 + 15.5) * 8).astype(np.uint8)


def _plane(kind: str, stage: str, values: ndarray, low: float = 0.0, high: float = 0.0) -> Plane:
    if values.dtype == np.uint8:
        values = (low + values / 255 * (high - low)).astype(np.float16)
    return Plane(kind, stage, values)


def _levels(values: ndarray) -> ndarray:
    """Round a map to 256 levels between its smallest and its largest value, if that is fine enough."""
    if not (ends := _range(values)):
        return values
    low, high = ends
    return np.rint((values.astype(np.float64) - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


def _converted(head: dict[str, Any]) -> dict[str, Any]:
    """Rename the places and the checkpoint that format 1 named otherwise."""
    stages = {"noise asks semantics": "query noise", "semantics asks noise": "query semantics"}
    for frame in head["frames"]:
        for entry in frame["planes"]:
            place, _, detail = entry[1].partition(", ")
            entry[1] = f"{place}, {stages[detail]}" if detail in stages else entry[1]
    head["facts"]["checkpoint"] = FORMER_NAMES.get(name := head["facts"]["checkpoint"], name)
    return head


def _arrays(recording: Recording) -> Iterator[tuple[str, ndarray]]:
    for name, array in _plain_arrays(recording):
        yield name, _packed(array) if _smooth(name) else array


def _smooth(name: str) -> bool:
    return name.rpartition("/")[2] in _SMOOTH


def _packed(image: UInt8[ndarray, "h w *c"]) -> UInt8[ndarray, " n"]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True, quality=100)
    return np.frombuffer(file.getvalue(), np.uint8)


def _unpacked(name: str, data: UInt8[ndarray, " n"]) -> UInt8[ndarray, "h w *c"]:
    image = np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    return image if name == "picture" else np.ascontiguousarray(image[..., 0])  # WebP has no grey images


def _plain_arrays(recording: Recording) -> Iterator[tuple[str, ndarray]]:
    opening, outcome = recording.opening, recording.outcome
    yield "picture", opening.picture
    for name, masks in (("truth", opening.reference), ("anchor", opening.anchor)):
        yield from ((f"{name}/{i}" if i else name, mask) for i, mask in enumerate(masks))
    for i, frame in enumerate(recording.frames):
        yield from ((f"{i}/{name}", getattr(frame, name)) for name in _FRAME_ARRAYS)
        yield from ((f"{i}/plane/{j}", _levels(plane.values)) for j, plane in enumerate(frame.planes))
    yield from (("labels", outcome.labels), ("probability", outcome.probability))
    yield from (("disagreement", outcome.disagreement), ("outcome_members", outcome.members))


def _several(arrays: dict[str, ndarray], name: str) -> tuple[ndarray, ...]:
    names = (f"{name}/{i}" if i else name for i in count())
    return tuple(arrays[each] for each in takewhile(arrays.__contains__, names))


def _frame(arrays: dict[str, ndarray], i: int, entry: dict[str, Any]) -> Frame:
    planes = tuple(
        _plane(kind, stage, arrays[f"{i}/plane/{j}"], *ends) for j, (kind, stage, *ends) in enumerate(entry["planes"])
    )
    x_t, x_0, mean, spread, members = (arrays[f"{i}/{name}"] for name in _FRAME_ARRAYS)
    shares = tuple(entry["shares"])
    return Frame(entry["index"], entry["total"], entry["t"], x_t, x_0, mean, spread, members, shares, planes)


# --------------------------------------------------------------------------------------------------- from the package


def from_start(
    start: "Start", picture: UInt8[ndarray, "h w 3"], reference: tuple[UInt8[ndarray, "h w"], ...]
) -> Opening:
    """Reduce the image, its reference mask and the anchor to display size."""
    anchor = tuple(_centred(_byte(1 - a[0, 0]), start.geometry.field) for a in start.anchor)
    return Opening(thumbnail(picture), tuple(_nearest(t) for t in reference), anchor, start.geometry.field)


def from_step(step: "Step", probability: "Tensor", field: float = 1.0) -> Frame:
    """Reduce a step to display size, given the class probabilities (b, K + 1, h, w) of its x_0.

    With a `field` below 1 the network sees only this share of the image's sides, about the middle; outside it all is background.
    """
    foreground = 1 - probability[:, 0]
    labels = probability.max(1).indices  # as argmax, which takes sixteen times as long on a processor
    noisy = step.x_t[0, 0] if step.x_t.shape[1] == 1 else -step.x_t[0, 0]  # several classes: everything but background
    noise = _noisy(noisy.float().cpu().numpy())

    def seen(maps: UInt8[ndarray, "*m s s"]) -> UInt8[ndarray, "*m s2 s2"]:
        return _thin(_centred(maps, field))

    return Frame(
        index=step.index,
        total=step.total,
        t=step.t,
        x_t=_centred(noise, field, fill=128),
        x_0=seen(_byte(foreground[0])),
        mean=seen(_byte(foreground.mean(0))),
        spread=seen(_byte(2 * foreground.std(0, correction=0))),
        members=seen(labels[:MEMBERS_KEPT].byte().cpu().numpy()),
        shares=tuple((field**2 * (labels > 0).float().mean((1, 2))).tolist()),
        planes=tuple(_planes(step.trace)),
    )


def from_segmentation(result: "Segmentation") -> Outcome:
    """Reduce the result to display size."""
    return Outcome(
        labels=_nearest(result.labels),
        probability=thumbnail(np.rint(255 * (1 - result.probability[0])).clip(0, 255).astype(np.uint8)),
        disagreement=thumbnail(np.rint(510 * result.disagreement).clip(0, 255).astype(np.uint8)),
        members=np.stack([_nearest(labels) for labels in result.members[:MEMBERS_KEPT]]),
    )


def without_constants(frame: Frame, first: Frame) -> Frame:
    """Drop the maps that do not change over the steps and are stored with the first step."""
    held = {(p.kind, p.stage) for p in first.planes if p.kind in _CONSTANT}
    return replace(frame, planes=tuple(p for p in frame.planes if (p.kind, p.stage) not in held))


_CONSTANT = ("gain", "phase", "anchor raw", "anchor smoothed", "anchor maximum", "anchor gate", "anchor sigma")


def _planes(trace: "Trace") -> Iterator[Plane]:
    """Collect the maps of a trace, for the first member."""
    for s in trace.spectra:
        yield Plane("spectrum before", s.stage, _small(s.before[0]))
        yield Plane("spectrum after", s.stage, _small(s.after[0]))
        moved = (s.gain - 1).square().mean((1, 2)) + (s.gain * s.phase.sin()).square().mean((1, 2))
        yield Plane("gain", f"{s.stage}, mean", _small(s.gain.mean(0)))
        for channel in moved.topk(min(_CHANNELS_KEPT, len(moved))).indices.tolist():
            yield Plane("gain", f"{s.stage}, channel {channel}", _small(s.gain[channel]))
            yield Plane("phase", f"{s.stage}, channel {channel}", _small(s.phase[channel]))
    for a in trace.affinities:
        yield Plane("token affinity" if a.kind == "tokens" else "affinity", a.stage, _small(a.affinity[0]))
    for band in trace.bands:
        yield Plane("band", band.stage, _small(band.surface[0]))
    for a in trace.anchors:
        for name in ("raw", "smoothed", "maximum", "gate"):
            yield Plane(f"anchor {name}", a.stage, _small(getattr(a, name)[0]))
        yield Plane("anchor sigma", a.stage, a.sigma.detach().float().cpu().numpy().astype(np.float16))


# ----------------------------------------------------------------------------------------------------------- resizing


def thumbnail(image: UInt8[ndarray, "h w *c"]) -> UInt8[ndarray, "h2 w2 *c"]:
    """Downscale an image to at most `SIDE` pixels by area averaging; smaller images are returned as they are."""
    return _resized(image, Image.Resampling.BOX)


def _nearest(labels: UInt8[ndarray, "h w"]) -> UInt8[ndarray, "h2 w2"]:
    return _resized(labels, Image.Resampling.NEAREST)


def _resized(image: UInt8[ndarray, "..."], how: Image.Resampling) -> UInt8[ndarray, "..."]:
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, how))


def middle(maps: UInt8[ndarray, "*m s1 s2"], field: float) -> UInt8[ndarray, "*m s3 s4"]:
    """Cut out the middle of maps, `field` of their sides: the inverse of `_centred`."""
    sides = ((side, max(round(side * field), 1)) for side in maps.shape[-2:])  # as `Geometry.box`, which needs torch
    rows, columns = (slice((side - seen) // 2, (side - seen) // 2 + seen) for side, seen in sides)
    return np.ascontiguousarray(maps[..., rows, columns])


def _thin(maps: Shaped[ndarray, "*m s s"], side: int = SIDE) -> Shaped[ndarray, "*m s2 s2"]:
    """Subsample maps by taking every n-th pixel, which keeps the variance of noise."""
    every = -(-maps.shape[-1] // side)
    return np.ascontiguousarray(maps[..., ::every, ::every])


def _centred(maps: UInt8[ndarray, "*m s s"], field: float, fill: int = 0) -> UInt8[ndarray, "*m s2 s2"]:
    """Place maps of the middle of an image, `field` of its sides, in maps of the whole image."""
    side = maps.shape[-1]
    whole = round(side / field)
    if whole == side:
        return maps
    placed = np.full((*maps.shape[:-2], whole, whole), fill, np.uint8)
    first = (whole - side) // 2
    placed[..., first : first + side, first : first + side] = maps
    return placed


def _small(values: "Tensor") -> Float16[ndarray, "h w"]:
    """Reduce a map to at most `_PLANE_SIDE` cells per side by block averaging."""
    block = -(-max(values.shape) // _PLANE_SIDE)
    array = values.detach().float().cpu().numpy()
    height, width = (side // block * block for side in array.shape)
    blocks = array[:height, :width].reshape(height // block, block, width // block, block)
    return blocks.mean((1, 3)).astype(np.float16)


def _byte(share: "Tensor") -> UInt8[ndarray, "..."]:
    return share.float().mul(255).round().clamp(0, 255).byte().cpu().numpy()


def sequence(frames: Sequence[Frame], most: int) -> tuple[Frame, ...]:
    """Choose at most `most` evenly spaced frames, including the first and the last."""
    if len(frames) <= most:
        return tuple(frames)
    return tuple(frames[i] for i in np.linspace(0, len(frames) - 1, most).round().astype(int))
