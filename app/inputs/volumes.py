"""Read uploaded volumes and images of more than 8 bits, cache them, and extract slices from them.

Visitors change slice and window often, but the uploaded file is deleted one minute after it has been read. The voxels
therefore stay in a memory cache with a limited size, for half an hour after the last access, under a random key stored in
the visitor's session; the least recently used volume is evicted first. From the header only the geometry is kept and, for
DICOM, the identifiers that a segmentation must refer to; patient names are not.
"""

import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.components.scrubber import Position, View, film
from app.core.catalogue import Card
from app.core.session import Session
from app.i18n import Words
from app.inputs.images import InputImage, SliceView
from app.inputs.uploads import MOST, temporary_upload
from app.views import paint
from medsegdiff import imaging
from medsegdiff.config import RunSettings
from medsegdiff.dicom_seg import read_source
from medsegdiff.errors import InputError
from medsegdiff.image_ref import FILE_WINDOW, Intensity, Picture, Volume, plane_of
from medsegdiff.progress import Progress

if TYPE_CHECKING:
    from medsegdiff.slices import VolumeSegmentation

__all__ = ["EVALUATIONS", "PRESETS", "CachedVolume", "VolumeCache", "look", "segment", "take", "turn", "watch"]

EVALUATIONS = 6000  # most network evaluations for a whole volume: slices x members x steps
PRESETS = {"soft": (-160.0, 240.0), "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0), "brain": (0.0, 80.0)}
"""Windows in Hounsfield units."""
_SECONDS = 1800.0
_SHOWN = 40  # most slices in a film


@dataclass(frozen=True, slots=True, eq=False)
class CachedVolume:
    """An uploaded volume."""

    volume: Volume
    source: Any = None  # for DICOM, the attributes that a DICOM SEG repeats

    @property
    def has_geometry(self) -> bool:
        """Whether the volume has a position in space, so that masks can be written with the same geometry."""
        return self.volume.source_kind in ("dicom", "nifti", "nrrd", "mha")


@dataclass(slots=True)
class VolumeCache:
    """A thread-safe cache of volumes with a size limit and an expiry time.

    Arguments:
        most: limit on the size of all voxels, in bytes.
        seconds: how long a volume is kept after the last access.
        clock: returns the current time in seconds.
    """

    most: int = MOST
    seconds: float = _SECONDS
    clock: Callable[[], float] = time.monotonic
    _held: dict[str, tuple[float, CachedVolume]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def put(self, cached_volume: CachedVolume) -> str:
        """Store a volume and return its key.

        Raises:
            ValueError: The volume is larger than the cache.
        """
        size = cached_volume.volume.array.nbytes
        if size > self.most:
            raise InputError(
                "volume.memory",
                "the volume takes {size} MiB, more than the {most} MiB kept here; crop it",
                size=size >> 20,
                most=self.most >> 20,
            )
        with self._lock:
            self._tidy(self.most - size)
            key = secrets.token_urlsafe(18)
            self._held[key] = self.clock(), cached_volume
        return key

    def get(self, key: str | None) -> CachedVolume:
        """Return a volume and renew its expiry time.

        Raises:
            ValueError: The volume is no longer in the cache.
        """
        with self._lock:
            self._tidy(self.most)
            if key is None or key not in self._held:
                raise InputError("volume.expired", "this volume is no longer in memory; give the file again")
            _, cached_volume = self._held.pop(key)
            self._held[key] = self.clock(), cached_volume  # most recently used
        return cached_volume

    def drop(self, key: str | None) -> None:
        """Remove a volume."""
        with self._lock:
            self._held.pop(key or "", None)

    def __len__(self) -> int:
        with self._lock:
            self._tidy(self.most)
            return len(self._held)

    def _tidy(self, most: int) -> None:
        oldest = self.clock() - self.seconds
        for key in [key for key, (seen, _) in self._held.items() if seen < oldest]:
            del self._held[key]
        while self._held and sum(one.volume.array.nbytes for _, one in self._held.values()) > most:
            del self._held[next(iter(self._held))]


def take(path: str, volume_cache: VolumeCache, card: Card | None) -> InputImage:
    """Read an uploaded file; volumes and images of more than 8 bits are cached and open with their middle slice.

    The copy on disk is deleted, even after an error.

    Raises:
        ValueError: The file cannot be read as an image.
    """
    with temporary_upload(path):
        volume = imaging.open(path, most=volume_cache.most, limits=imaging.VISITOR)
        if isinstance(volume, Picture):
            return InputImage(volume, name=Path(path).name)
        source = _source(path) if volume.source_kind == "dicom" else None
    slice_view = _first(volume, card)
    picture = volume.slice(slice_view.axis, slice_view.index, slice_view.window)  # raises before the volume is cached
    slice_view = replace(slice_view, key=volume_cache.put(CachedVolume(volume, source)), array_axes=volume.axes)
    return InputImage(picture, slice_view=slice_view, name=Path(path).name)


def _first(volume: Volume, card: Card | None) -> SliceView:
    """Return the view that a volume opens with: sliced and windowed as the checkpoint was trained."""
    counts, axes = (volume.count(0), volume.count(1), volume.count(2)), volume.slice_axes
    axis = volume.slice_axis(card.axis if card else 2)
    if volume.array.ndim == 4:
        own = FILE_WINDOW
        return SliceView("", axes, axis, counts[axis] // 2, counts, own, None, own, (0.0, 255.0), False)
    ends, ct = volume.percentiles((0, 100)) or (0.0, 1.0), volume.modality == "CT"
    index, trained = counts[axis] // 2, _trained(volume, card)
    shown = volume.window_of(axis, index, trained)
    return SliceView("", axes, axis, index, counts, trained, shown, trained, ends, ct)


def _trained(volume: "Volume", card: Card | None) -> Intensity:
    """Return how a checkpoint windows a volume: by the file's own window, if its rule cannot be meant for these values."""
    return card.intensity if card and volume.follows(card.intensity) else FILE_WINDOW


def _source(path: str) -> Any:
    with suppress(ValueError):  # without it, masks are written in the other formats only
        return read_source(path)
    return None


def look(volume_cache: VolumeCache, slice_view: SliceView, name: str = "") -> InputImage:
    """Extract the slice of a view; `name` is the file name of the upload.

    Raises:
        ValueError: The volume is no longer cached, or there is no such slice.
    """
    volume = volume_cache.get(slice_view.key).volume
    picture = volume.slice(slice_view.axis, slice_view.index, slice_view.window)
    return InputImage(picture, slice_view=replace(slice_view, shown=picture.window), name=name)


def turn(volume_cache: VolumeCache, image: object, before: Card | None, after: Card | None) -> object:
    """Switch a volume to the slicing axis and the window of a new checkpoint.

    An axis or a window that the visitor has chosen is kept.

    Returns:
        The new view, or `image` itself if nothing changes or the volume is no longer cached.
    """
    slice_view = image.slice_view if isinstance(image, InputImage) else None
    if not isinstance(image, InputImage) or slice_view is None or after is None:
        return image
    with suppress(ValueError):
        wanted = slice_view
        if after.axis in slice_view.axes and after.axis not in (before.axis if before else None, slice_view.axis):
            wanted = slice_view.along(after.axis)
        trained = _trained(volume_cache.get(slice_view.key).volume, after)
        window = trained if slice_view.window == slice_view.trained else slice_view.window
        wanted = replace(wanted, window=window, trained=trained)
        return image if wanted == slice_view else look(volume_cache, wanted, image.name)
    return image


def segment(
    session: Session, name: str, cached_volume: CachedVolume, how: SliceView, settings: RunSettings
) -> "Generator[Progress | VolumeSegmentation, None, None]":
    """Segment all slices along the current axis.

    Raises:
        ValueError: The run would exceed the limit on network evaluations.
    """
    from medsegdiff.slices import segment_volume

    cost = how.slices * settings.members * settings.steps
    if cost > EVALUATIONS:
        raise InputError(
            "run.evaluations",
            "{slices} slices x {members} members x {steps} steps are {cost} evaluations of the network, more than {most}; "
            "choose fewer members or steps, or use the command line",
            slices=how.slices,
            members=settings.members,
            steps=settings.steps,
            cost=cost,
            most=EVALUATIONS,
        )
    plain = replace(settings, trace=False)
    return segment_volume(session.segmenter(name), cached_volume.volume, plain, axis=how.axis, window=how.window)


def watch(cached_volume: CachedVolume, how: SliceView, result: "VolumeSegmentation", words: Words) -> dict[str, Any]:
    """Make a film of the slices with their masks; at most `_SHOWN` slices, evenly spaced."""
    volume, count = cached_volume.volume, how.slices
    places = sorted({round(i * (count - 1) / (_SHOWN - 1)) for i in range(_SHOWN)})
    tiles, captions = [], []
    for index in places:
        picture = volume.slice(how.axis, index, how.window).pixels
        row, column = (step for i, step in enumerate(volume.spacing[::-1]) if i != 2 - how.axis)
        height, width = picture.shape[0] * row, picture.shape[1] * column
        size = max(8, round(256 * height / max(height, width))), max(8, round(256 * width / max(height, width)))
        labels = paint.fit(plane_of(result.labels, how.axis, index), size, smooth=False)
        tiles.append(paint.on_picture(paint.fit(picture, size), labels))
        captions.append(words("volume.slice", slice=index + 1, slices=count, share=f"{100 * (labels > 0).mean():.1f}"))
    view = View(words(f"volume.axis_{how.axis}"), tiles, captions)
    at = min(range(len(places)), key=lambda i: abs(places[i] - how.index))
    names = result.domain.labels
    legend = [
        (paint.CLASSES[i % len(paint.CLASSES)], "solid", words.known(f"class.{name}", name))
        for i, name in enumerate(names)
    ]
    return film([view], [Position(one, one) for one in captions], words, at=at, legend=legend)
