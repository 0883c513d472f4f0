"""Pictures and volumes, as read from files.

Grey values of any depth become 8-bit pixels through a stated window [low, high], rounded to the nearest:

    pixel = 255 * clip((value - low) / (high - low), 0, 1)

Volumes are turned to LPS, the axes of DICOM: x grows to the patient's left, y to the back, z to the head, whatever the order in
the file. A direction is a matrix whose columns are these axes in the coordinate system of the scanner.

References:
    DICOM PS3.3 C.11.2.1.2 (windows), https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.2.html
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Num, Shaped, UInt8

from medsegdiff.errors import InputError

__all__ = [
    "FILE_WINDOW",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "ImageRef",
    "Intensity",
    "NiftiSpace",
    "Picture",
    "PictureError",
    "Raster",
    "Volume",
    "Windowing",
    "broken",
    "check_index",
    "check_sides",
    "check_voxels",
    "damaged",
    "grey_pixels",
    "is_dicom",
    "plane_of",
    "robust_window",
    "sha256",
    "windowed",
]

MIN_SIDE = 8  # pixels; below this there is nothing to segment
MAX_PIXELS = 4096 * 4096
MAX_BYTES = 512 * 2**20  # of a file, and of a volume as float32
_UINT16 = 0.0, 65535.0  # window of all 16-bit values
_TILT = 0.5  # degrees; smaller angles are due to rounding
# Tags of elements with which a DICOM file without the preamble begins, and their explicit types or lengths.
_BARE_DICOM = re.compile(
    rb"(\x02\0\0\0|\x02\0[\x01\x02\x03\x10]\0|\x08\0[\0\x05\x08\x16\x18]\0)([A-Z]{2}|.\0\0\0)", re.S
)
_SAMPLE = 2**24  # most voxels of which percentiles are computed; larger volumes are subsampled evenly


class PictureError(InputError):
    """A file that cannot be read as an image; the message is one sentence without the file's name."""


def broken() -> PictureError:
    """Make the error for a file that crashes its decoder, or makes it fail unexpectedly."""
    return PictureError("image.decoder_failed", "the file is damaged in a way that breaks its decoder; export it again")


def damaged(kind: str) -> PictureError:
    """Make the error for a file whose content does not follow its format."""
    return PictureError(
        "image.damaged", "the file begins as {kind} but is damaged or cut short; export it again", kind=kind
    )


def is_dicom(head: bytes) -> bool:
    """Return whether a file with these first bytes is DICOM, with the preamble or without."""
    return head[128:132] == b"DICM" or _BARE_DICOM.match(head) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Define how grey values of more than 8 bits become pixels, as in a checkpoint's training images.

    With neither a window nor percentiles the file's own window is used: DICOM's, else percentiles 0.5 and 99.5.
    """

    window: tuple[float, ...] = ()  # low, high: grey values shown as 0 and 255; of CT in HU
    percentiles: tuple[float, ...] = ()  # low, high, in per cent: which values are shown as 0 and 255
    per_slice: bool = False  # percentiles and stretch are of each slice, not of the whole volume
    stretch: bool = False  # narrow the window to the values that occur

    def __post_init__(self) -> None:
        for name in ("window", "percentiles"):
            low_high = tuple(map(float, getattr(self, name)))
            object.__setattr__(self, name, low_high)
            if low_high and not (
                len(low_high) == 2 and low_high[0] < low_high[1] and all(map(math.isfinite, low_high))
            ):
                raise ValueError(f"{name} are {low_high}; give two numbers, the lower first")
        if self.window and self.percentiles:
            raise ValueError("both a window and percentiles are given; choose one")

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "Intensity":
        """Restore it from the JSON of `dataclasses.asdict`, where tuples are lists."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in facts.items()}
        return cls(**values)

    def fits(self, least: float) -> bool:
        """Return whether the rule can apply to a volume with this smallest value.

        A window that begins below zero is of Hounsfield units, and no CT image is without a negative one.
        """
        return bool(self.percentiles) or (bool(self.window) and not (self.window[0] < 0 <= least))

    def resolve(
        self,
        own: tuple[float, float],
        values: Num[np.ndarray, "..."],
        whole: Callable[[tuple[float, float]], tuple[float, float] | None],
    ) -> tuple[float, float]:
        """Return the window of a slice.

        Arguments:
            own: the file's own window.
            values: of the slice.
            whole: returns percentiles of the whole volume; None if it has no finite value.
        """
        extremes = whole((0, 100))
        if extremes is None or not self.fits(extremes[0]):
            return own

        def of(percentiles: tuple[float, float]) -> tuple[float, float] | None:
            return percentiles_of(values, percentiles) if self.per_slice else whole(percentiles)

        if self.percentiles:
            low, high = self.percentiles
            return of((low, high)) or own
        low, high = self.window
        if self.stretch and (found := of((0, 100))):
            least, most = max(low, found[0]), min(high, found[1])
            return (least, most) if least < most else (low, high)
        return low, high


FILE_WINDOW = Intensity()
"""The file's own window, whatever the checkpoint."""

Windowing = tuple[float, float] | Intensity | None
"""Grey values shown as 0 and 255, or how to find them; None is the file's own window."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Identify a picture without holding its pixels: enough to extract the same picture from the same file again."""

    height: int
    width: int
    axis: int
    index: int
    window: tuple[float, float] | None
    sha256: str  # of the 8-bit RGB pixels, row by row


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One upright 2-D image with its metadata, none of which identifies a patient.

    Pixels may also be given as grey (h, w), as RGBA, which is shown over black, as floats in [0, 1], as integers of another
    type in 0..255, as 16-bit values that use the upper half of their range, or as any numbers with a `window`. They become
    8-bit RGB. Whatever else is given raises PictureError, because a guess would give a wrong mask.
    """

    pixels: np.ndarray  # 8-bit RGB, (h, w, 3), after the conversion; grey is repeated three times
    spacing_mm: tuple[float, float] | None = None  # between rows, between columns; None where unknown
    channels: Literal[1, 3] = 3  # grey or colour in the file
    modality: str | None = None  # DICOM's code: "CT", "MR", "US", ...
    window: tuple[float, float] | None = (
        None  # the file's values shown as 0 and 255; None: the 8-bit values are the file's own
    )
    burned_in: bool | None = None  # whether the pixels contain text, by DICOM's Burned In Annotation; None: not stated
    axis: int = 2  # normal to the slice, if it is one of a volume
    slice_index: int = 0
    slice_count: int = 1
    source_kind: str = "array"  # "png", "jpeg", "tiff", "dicom", "nifti", "nrrd", "mha"
    notes: tuple[Literal["transparency over black", "inverted", "turned"], ...] = ()  # done to the file's pixels

    def __post_init__(self) -> None:
        given: Any = self.pixels
        if not isinstance(given, np.ndarray):
            raise PictureError(
                "image.array", "pixels are a {what}; give a numpy array, rows x columns x 3", what=type(given).__name__
            )
        if given.ndim == 3 and given.shape[2] == 1:
            given = given[..., 0]
        if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] not in (3, 4)) or 0 in given.shape:
            raise PictureError(
                "image.array_shape",
                "the array has the shape {shape}; give rows x columns, or rows x columns x 3 (RGB) or 4 (RGBA)",
                shape=str(given.shape),
            )
        pixels = given if given.dtype == np.uint8 else _eight_bit(given, self.window)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, -1)
            object.__setattr__(self, "channels", 1)
        elif pixels.shape[2] == 4:
            alpha = pixels[..., 3:].astype(np.float32) / 255
            if (alpha < 1).any():
                object.__setattr__(self, "notes", (*self.notes, "transparency over black"))
            pixels = np.rint(pixels[..., :3] * alpha).astype(np.uint8)
        object.__setattr__(self, "pixels", np.ascontiguousarray(pixels))

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        axis: int = 2,
        index: int | None = None,
        window: Windowing = None,
    ) -> "Picture":
        """Read a picture from a file, or one slice of a volume; see `imaging.read` for arguments and errors."""
        from medsegdiff.imaging import read  # which builds on this module

        return read(path, axis=axis, index=index, window=window)

    @property
    def height(self) -> int:
        """Rows, after turning upright."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns, after turning upright."""
        return self.pixels.shape[1]

    @property
    def ref(self) -> ImageRef:
        """Identify this picture."""
        return ImageRef(self.height, self.width, self.axis, self.slice_index, self.window, sha256(self.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A decoded PNG, JPEG or page of a TIFF, upright."""

    values: np.ndarray  # (h, w) of any depth, or (h, w, 3) of 8 bits
    kind: str  # "png", "jpeg", "tiff"
    deep: bool  # grey of more than 8 bits
    halved: bool  # 16-bit colour, of which Pillow keeps the upper byte
    index: int  # of the page
    count: int
    notes: tuple[Literal["transparency over black", "inverted", "turned"], ...]  # inverted: high values are to be dark

    def picture(self, window: Windowing = None) -> Picture:
        """Apply a window of grey values; by default none to 8-bit values, else percentiles 0.5 and 99.5."""
        grey = self.values.ndim == 2
        if not grey and isinstance(window, tuple) and not (self.halved and window == _UINT16):  # that of such a picture
            raise InputError(
                "image.window_colour", "a window maps grey values, but this picture is in colour; leave the window out"
            )
        if self.deep:
            own, rule = robust_window(self.values), window if isinstance(window, Intensity) else FILE_WINDOW
            window = window if isinstance(window, tuple) else self._resolve(rule, own)
        elif self.halved and not grey:
            window = _UINT16
        elif isinstance(window, Intensity):
            window = None
        pixels = grey_pixels(self.values, window or (0, 255)) if grey else self.values
        return Picture(
            255 - pixels if "inverted" in self.notes else pixels,
            channels=1 if grey else 3,
            window=window,
            slice_index=self.index,
            slice_count=self.count,
            source_kind=self.kind,
            notes=self.notes,
        )

    def _resolve(self, rule: Intensity, own: tuple[float, float]) -> tuple[float, float]:
        return rule.resolve(own, self.values, lambda percentiles: percentiles_of(self.values, percentiles))

    def volume(self) -> "Volume":
        """Make a volume of one slice, without a position in space, from grey values of more than 8 bits."""
        array, place = self.values[None].astype(np.float32), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
        return Volume(
            array=array,
            spacing=(1.0, 1.0, 1.0),
            origin=(0.0, 0.0, 0.0),
            direction=place,
            orientation="LPS",
            window=robust_window(array),
            source_kind=self.kind,
            measured=False,
            inverted="inverted" in self.notes,
        )


@dataclass(frozen=True, slots=True)
class NiftiSpace:
    """What a NIfTI header states about space, field by field, so that masks can repeat it."""

    version: Literal[1, 2]
    rank: int  # 2 for a flat file
    pixdim: tuple[float, ...]
    codes: tuple[int, int]  # qform_code, sform_code
    qform: tuple[float, ...]  # quatern_b, c, d, qoffset_x, y, z
    sform: tuple[float, ...]  # srow_x, srow_y, srow_z
    units: int  # xyzt_units


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Slices in physical space: sagittal along axis 0 (x), coronal along 1 (y), axial or DICOM frames along 2 (z)."""

    array: Float32[np.ndarray, "z y x"] | UInt8[np.ndarray, "z y x 3"]  # rescaled values (CT: HU), or colour frames
    spacing: tuple[float, float, float]  # along x, y, z in mm; 1 where the file does not say
    origin: tuple[float, float, float]  # of the first voxel's centre, mm
    direction: tuple[float, ...]  # 3 x 3, row by row; unit vectors as columns, not always at right angles
    orientation: str  # of the file's own axes ("RAS", "LPS", ...), to which written labels return
    window: tuple[float, float]  # a slice shows unless told otherwise: the DICOM's, or percentiles 0.5 and 99.5
    source_kind: str
    axes: str = "LPS"  # of the array; the file's own for DICOM frames, which are shown as they are stored
    measured: bool = True  # the file gives a spacing
    stacked: bool = True  # slices follow each other in space; frames without positions do not
    oriented: bool = True  # the file gives the direction of its axes in the body
    gaps_mm: tuple[float, float] | None = None  # smallest and largest distance between slices, where they differ
    frame_windows: tuple[tuple[float, float], ...] = ()  # of each DICOM frame, where they differ
    nifti: NiftiSpace | None = None  # of a NIfTI file, for the masks
    inverted: bool = False  # high values are dark (MONOCHROME1 of DICOM, WhiteIsZero of TIFF)
    modality: str | None = None
    burned_in: bool | None = None
    _found: dict[tuple[float, float], tuple[float, float] | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def flat(self) -> bool:
        """Whether slices exist along the last axis only: DICOM frames, or a single slice."""
        return self.source_kind == "dicom" or self.array.shape[0] == 1

    @property
    def slice_axes(self) -> tuple[int, ...]:
        """Axes along which slices are large enough to segment; only the last for a flat volume, and if none are."""
        if self.flat:
            return (2,)
        z, y, x = self.array.shape[:3]
        return tuple(axis for axis, sides in enumerate(((y, z), (x, z), (x, y))) if min(sides) >= MIN_SIDE) or (2,)

    def slice_axis(self, wanted: int = 2) -> int:
        """Return the wanted axis; if slices along it are too small to segment, the last of `slice_axes`."""
        return wanted if wanted in self.slice_axes else self.slice_axes[-1]

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """The matrix that maps the indices x, y, z of a voxel to its place in mm (LPS)."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_mm3(self) -> float | None:
        """Volume of a voxel; None where the distances are not stated, or differ from slice to slice."""
        known = self.measured and self.stacked and self.gaps_mm is None
        return abs(float(np.linalg.det(self.affine[:3, :3]))) if known else None

    @property
    def tilt_degrees(self) -> float:
        """Angle between the direction from slice to slice and the normal of the slices: a CT gantry's tilt, or shear."""
        x, y, z = np.reshape(self.direction, (3, 3)).T
        normal = np.cross(x, y)
        return math.degrees(math.acos(min(1.0, abs(float(normal @ z)) / float(np.linalg.norm(normal)))))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual about the geometry, in sentences for the report."""
        found = []
        if self.gaps_mm:
            low, high = self.gaps_mm
            found.append(f"the slices lie {low:.4g} to {high:.4g} mm apart, so no volume in mm3 is given")
        if self.tilt_degrees > _TILT:
            found.append(
                f"the slices are shifted against each other, as by a gantry tilt of {self.tilt_degrees:.1f} degrees"
            )
        return tuple(found)

    @property
    def digest(self) -> str:
        """The sha256 of its values, as read."""
        return sha256(self.array)

    def count(self, axis: int) -> int:
        """Count the slices along an axis."""
        if axis not in (0, 1, 2):
            raise InputError("volume.axis", "axis is {axis}; choose 0 (sagittal), 1 (coronal) or 2 (axial)", axis=axis)
        return self.array.shape[2 - axis]

    def plane(self, axis: int, index: int) -> Num[np.ndarray, "h w *c"]:
        """Return the values of one slice, upright, without a window."""
        return plane_of(self.array, axis, index)

    def percentiles(self, percentiles: tuple[float, float]) -> tuple[float, float] | None:
        """Return percentiles of all values, computed once; None where no value is finite."""
        if percentiles not in self._found:
            self._found[percentiles] = percentiles_of(self.array, percentiles)
        return self._found[percentiles]

    def follows(self, window: Windowing) -> bool:
        """Return whether the rule of a checkpoint applies to this volume; see `Intensity.fits`."""
        extremes = self.percentiles((0, 100)) if isinstance(window, Intensity) and self.array.ndim == 3 else None
        return extremes is not None and isinstance(window, Intensity) and window.fits(extremes[0])

    def window_of(self, axis: int, index: int, window: Windowing = None) -> tuple[float, float] | None:
        """Return the grey values that a slice shows as 0 and 255; None for colour."""
        if self.array.ndim == 4:
            return None
        if isinstance(window, tuple):
            return window
        own = self.frame_windows[index] if self.frame_windows and axis == 2 else self.window
        rule = window or FILE_WINDOW
        return rule.resolve(own, self.plane(axis, index), self.percentiles)

    def slice(self, axis: int = 2, index: int | None = None, window: Windowing = None) -> Picture:
        """Make a picture of one slice, head or front upwards; by default of the middle one.

        Raises PictureError where the slice is smaller than 8 pixels or larger than 16.8 million.
        """
        count = self.count(axis)
        index = check_index(index, count)
        plane = self.plane(axis, index)
        check_sides(*plane.shape[:2])
        row, column = (step for i, step in enumerate(self.spacing[::-1]) if i != 2 - axis)
        colour = plane.ndim == 3
        if colour and isinstance(window, tuple):
            raise InputError(
                "image.window_frames", "a window maps grey values, but these frames are in colour; leave the window out"
            )
        shown = self.window_of(axis, index, window)
        pixels = plane if shown is None else grey_pixels(plane, shown)
        return Picture(
            np.ascontiguousarray(255 - pixels if self.inverted else pixels),
            spacing_mm=(row, column) if self._is_measured(axis) else None,
            channels=3 if colour else 1,
            modality=self.modality,
            window=shown,
            burned_in=self.burned_in,
            axis=axis,
            slice_index=index,
            slice_count=count,
            source_kind=self.source_kind,
            notes=("inverted",) if self.inverted else (),
        )

    def _is_measured(self, axis: int) -> bool:
        """Whether distances are known in the plane across an axis, with rows and columns at right angles."""
        if axis != 2 and (self.gaps_mm or not self.stacked):
            return False
        one, other = (np.reshape(self.direction, (3, 3))[:, i] for i in range(3) if i != axis)
        return self.measured and abs(float(one @ other)) < math.sin(math.radians(_TILT))

    def fill(self, axis: int, index: int, plane: Num[np.ndarray, "h w"]) -> Num[np.ndarray, "z y x"]:
        """Return a volume of zeros with the map of one slice in its place."""
        filled = np.zeros(self.array.shape[:3], plane.dtype)
        np.moveaxis(filled, 2 - axis, 0)[index] = _upright(plane, axis)
        return filled

    def stack(self, axis: int, planes: Sequence[Num[np.ndarray, "h w"]]) -> Num[np.ndarray, "z y x"]:
        """Stack the maps of all slices along an axis in the order of the volume: the inverse of `slice`."""
        stacked = np.stack([_upright(plane, axis) for plane in planes], 2 - axis)
        if stacked.shape != self.array.shape[:3]:
            raise ValueError(
                f"the slices stack to {stacked.shape}, the volume is {self.array.shape[:3]}; give every slice"
            )
        return stacked


def windowed(values: Shaped[np.ndarray, "*d"], window: tuple[float, float]) -> UInt8[np.ndarray, "*d"]:
    """Map [low, high] onto 0..255; NaN becomes 0."""
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            "image.window", "the window is {low} to {high}; give two numbers, the lower first", low=low, high=high
        )
    with np.errstate(invalid="ignore"):  # signalling NaNs
        share = (values.astype(np.float64) - low) / (high - low)
    return np.rint(255 * np.nan_to_num(share, nan=0).clip(0, 1)).astype(np.uint8)


def _eight_bit(values: np.ndarray, window: tuple[float, float] | None) -> UInt8[np.ndarray, "*_"]:
    """Convert an array of another type to 8 bits, if its range is certain."""
    if values.dtype.kind not in "buif" or not np.isfinite(values).all():
        raise PictureError(
            "image.array_values",
            "the array holds {dtype} values, not all of them finite numbers",
            dtype=str(values.dtype),
        )
    least, most = float(values.min()), float(values.max())
    if window is None:
        if values.dtype.kind == "b" or (values.dtype.kind == "f" and least >= 0 and most <= 1):
            window = (0.0, 1.0)
        elif values.dtype.kind in "ui" and least >= 0 and most <= 255:
            window = (0.0, 255.0)
        elif values.dtype == np.uint16 and most >= 2**15:  # fewer bits could not reach this
            window = _UINT16
        else:
            raise PictureError(
                "image.array_range",
                "the array is {dtype} from {least} to {most}, so its range is not certain; give uint8, floats in [0, 1], or "
                "window=(black, white)",
                dtype=str(values.dtype),
                least=f"{least:g}",
                most=f"{most:g}",
            )
    return windowed(values, window)


def grey_pixels(values: Num[np.ndarray, "h w"], window: tuple[float, float]) -> UInt8[np.ndarray, "h w 3"]:
    """Apply a window, and repeat the result for three channels."""
    return np.repeat(windowed(values, window)[..., None], 3, -1)


def robust_window(values: Num[np.ndarray, "..."]) -> tuple[float, float]:
    """Return percentiles 0.5 and 99.5 of the finite values; their minimum and maximum if these are equal.

    Raises PictureError where no value is finite.
    """
    if found := percentiles_of(values, (0.5, 99.5)):
        return found
    raise PictureError("image.no_finite_value", "none of the file's values is a finite number; export it again")


def percentiles_of(values: Num[np.ndarray, "..."], percentiles: tuple[float, float]) -> tuple[float, float] | None:
    """Return percentiles of the finite values, or their extremes where those coincide; None where no value is finite."""
    sample = values.ravel()[:: -(-values.size // _SAMPLE)]
    finite = sample[np.isfinite(sample)]
    if finite.size == 0:
        return None
    extremes = float(finite.min()), float(finite.max())
    low, high = extremes if percentiles == (0, 100) else np.percentile(finite, percentiles).tolist()
    if low == high:
        low, high = extremes
    return low, high if low < high else low + max(1.0, abs(low))


def sha256(values: np.ndarray) -> str:
    """Return the sha256 of an array's bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def plane_of(values: Num[np.ndarray, "z y x *c"], axis: int, index: int) -> Num[np.ndarray, "h w *c"]:
    """Extract one slice of a map on a volume's voxels, head or front upwards."""
    return _upright(np.take(values, index, 2 - axis), axis)


def check_sides(height: int, width: int, least: int = MIN_SIDE) -> None:
    """Raise PictureError for a picture too small to segment or too large for memory."""
    if min(height, width) < least:
        raise PictureError(
            "image.too_small",
            "the picture is {width} x {height} pixels; give one of at least {least} on each side",
            height=height,
            width=width,
            least=least,
        )
    if height * width > MAX_PIXELS:
        raise PictureError(
            "image.too_large",
            "the picture is {width} x {height} pixels; scale it down to at most 4096 x 4096",
            height=height,
            width=width,
        )


def check_voxels(size: Sequence[int], channels: int = 1, *, most: int) -> None:
    """Refuse a volume without voxels, or with more than `most` bytes can hold as float32."""
    if min(size) < 1:
        raise PictureError(
            "volume.no_voxels", "the volume has {size} voxels, that is none; export it again", size=str(tuple(size))
        )
    if math.prod(size) * channels * 4 > most:
        raise PictureError(
            "volume.too_many_voxels",
            "the volume has {size} voxels; crop it to at most {most} million",
            size=str(tuple(size)),
            most=round(most / 4e6),
        )


def check_index(index: int | None, count: int) -> int:
    """Return the index, or the middle for None."""
    if index is None:
        return count // 2
    if not 0 <= index < count:
        raise PictureError(
            "image.slice",
            "slice {index} was asked for, but the file has {count}; choose 0 to {last}",
            index=index,
            count=count,
            last=count - 1,
        )
    return index


def _upright(plane: np.ndarray, axis: int) -> np.ndarray:
    # z grows towards the head but rows downwards, so sagittal and coronal slices are flipped; flipping again undoes it.
    return plane if axis == 2 else plane[::-1]
