"""Read DICOM images with pydicom; compressed frames are decoded by GDCM, through pydicom, and what that refuses by ITK.

Values are those that the file defines: rescaled by the Modality LUT or by slope and intercept (CT: HU), of each frame where
frames have their own. Windows and spacing are read from the same places: the functional groups of a frame, those shared by
all frames, or the file's top level. Frames stay in the order of the file, as they are meant to be seen; a series of files
is a volume, sorted by position along the normal of its slices.

No text about a patient is read.

References:
    DICOM PS3.3 C.7.6.3, C.7.6.16, C.11.1 and C.11.2, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/PS3.3.html
    pydicom, https://pydicom.github.io
"""

import math
import mmap
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medsegdiff.image_ref import PictureError, Volume, check_sides, check_voxels, is_dicom, robust_window
from medsegdiff.orientation import axes_of, place_of, turn, turn_affine

__all__ = ["find_series", "read_dicom", "read_series"]

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# What is no image, by the end of its SOP class and by its modality.
_NO_IMAGE = {
    "66.4": "SEG",
    "66.5": "SEG",
    "66.7": "SEG",
    "481.2": "RTDOSE",
    "481.3": "RTSTRUCT",
    "481.5": "RTPLAN",
    "481.8": "RTPLAN",
}
_NAMES = {
    "SEG": "a segmentation (SEG)",
    "RTDOSE": "a dose distribution (RTDOSE)",
    "RTSTRUCT": "a set of contours (RTSTRUCT)",
    "RTPLAN": "a treatment plan (RTPLAN)",
}
_SERIES = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_EVEN = 0.02  # relative difference of distances between slices that rounding of positions explains


def read_dicom(path: Path, most: int) -> Volume:
    """Read the frames of a DICOM file.

    Arguments:
        path: of the file.
        most: bytes that its frames may take, four for each sample.

    Raises:
        PictureError: it is too large, or no image. Damaged files raise other errors.
    """
    # Mapped into memory, an element is never longer than the file, whatever length it states.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        data = _parsed(content)
    frames = max(1, int(data.get("NumberOfFrames") or 1))
    samples = 3 if _is_colour(data) else 1
    shape = frames, int(data.Rows), int(data.Columns)
    check_sides(*shape[1:], least=1)
    check_voxels(shape[::-1], samples, most=most)
    array = np.empty((*shape, 3), np.uint8) if samples > 1 else np.empty(shape, np.float32)
    _fill(array, data, path)
    return _volume(data, array)


def find_series(folder: Path) -> list[dict[str, Any]]:
    """Find the series of single-frame images in a folder and the folders in it.

    Returns:
        For each series its number, its modality, and the paths of its files in the order of the slices.
    """
    found: defaultdict[tuple[Any, ...], list[tuple[float, str, Dataset]]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        with path.open("rb") as file:
            if not is_dicom(file.read(132)):
                continue
            file.seek(0)
            try:
                data = dcmread(file, stop_before_pixels=True, specific_tags=list(_SERIES), force=True)
            except Exception:  # a damaged file belongs to no series; pydicom's own errors share no base
                continue
        if not data.get("Rows") or int(data.get("NumberOfFrames") or 1) > 1 or _other_kind(data):
            continue
        cosines, position = _cosines(_orientation(data, 0)), _position(data, 0)
        place = (
            float(np.cross(cosines[:3], cosines[3:]) @ position)
            if cosines and position
            else _number(data, "InstanceNumber", 0)
        )
        key = (str(data.get("SeriesInstanceUID")), data.Rows, data.Columns, tuple(np.round(cosines, 2)))
        found[key].append((place, str(path), data))
    series = []
    for files in found.values():
        files.sort(key=lambda file: file[:2])
        first = files[0][2]
        series.append(
            {
                "number": int(_number(first, "SeriesNumber", 0)),
                "modality": _modality(first),
                "files": [path for _, path, _ in files],
            }
        )
    return sorted(series, key=lambda one: (one["number"], one["files"][0]))


def read_series(paths: Sequence[Path], most: int) -> Volume:
    """Read the files of a series as a volume in LPS, given in the order of its slices.

    Raises:
        PictureError: it is too large or in colour, or its files differ or do not follow each other in space.
    """
    if len(paths) == 1:
        return read_dicom(paths[0], most)
    array, parsed, positions = np.empty((0, 0, 0), np.float32), [], []
    for index, path in enumerate(paths):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            data = _parsed(content)
        shape = int(data.Rows), int(data.Columns)
        if index == 0:
            check_sides(*shape, least=1)
            check_voxels((shape[1], shape[0], len(paths)), most=most)
            array = np.empty((len(paths), *shape), np.float32)
        first = parsed[0] if parsed else data
        same = shape == array.shape[1:] and data.PhotometricInterpretation == first.PhotometricInterpretation
        if not same or _is_colour(data) or not _agree([_spacing(first, 0), _spacing(data, 0)]):
            raise PictureError(
                "series.differ",
                "the files of this series differ in size, pixel spacing or grey scale, or are in colour; segment them one by one",
            )
        _fill(array[index : index + 1], data, path)
        positions.append(_position(data, 0))
        for keyword in _PIXELS:
            if keyword in data:
                del data[keyword]
        parsed.append(data)
    first = parsed[0]
    cosines, spacing = _cosines(_orientation(first, 0)), _spacing(first, 0)
    direction, step, gaps, stacked = _place(cosines, positions, first)
    if not stacked:
        raise PictureError(
            "series.positions",
            "the {count} files of this series do not follow each other in space, so several acquisitions may share it; "
            "segment them one by one",
            count=len(paths),
        )
    affine = np.eye(4)
    affine[:3, :3] = direction * ((spacing[1], spacing[0], step) if spacing else (1.0, 1.0, step))
    affine[:3, 3] = positions[0]
    axes, windows = axes_of(affine), {_window(data, 0) for data in parsed}
    volume_spacing, origin, turned = place_of(turn_affine(affine, array.shape[::-1], axes, "LPS"))
    window = windows.pop() if len(windows) == 1 else None
    burned = [_burned_in(data) for data in parsed]
    return Volume(
        array=turn(array, axes, "LPS"),
        spacing=volume_spacing,
        origin=origin,
        direction=turned,
        orientation=axes,
        window=window or robust_window(array),
        source_kind="series",
        measured=bool(spacing),
        gaps_mm=gaps,
        oriented=bool(cosines),
        inverted=first.PhotometricInterpretation == "MONOCHROME1",
        modality=_modality(first),
        burned_in=True if True in burned else None if None in burned else False,
    )


def _other_kind(data: Dataset) -> str:
    """Return the kind of a file that is no image, by its SOP class or modality; else an empty string."""
    kind = _NO_IMAGE.get(str(data.get("SOPClassUID", "")).removeprefix(_STORAGE)) or str(data.get("Modality", ""))
    return kind if kind in _NAMES else ""


def _modality(data: Dataset) -> str | None:
    modality = str(data.get("Modality") or "")
    return modality if re.fullmatch("[A-Z0-9_]{1,16}", modality) else None


def _burned_in(data: Dataset) -> bool | None:
    return {"YES": True, "NO": False}.get(str(data.get("BurnedInAnnotation") or ""))


def _parsed(file: Any) -> Dataset:
    """Read a file, and raise PictureError if it holds no image."""
    data = dcmread(file, force=True)  # without the preamble, some old files are DICOM nevertheless
    if kind := _other_kind(data):
        raise PictureError(
            "dicom.no_image_but",
            "this DICOM file is {what}, not an image; choose an image of the series that it belongs to",
            what=_NAMES[kind],
            kind=kind,
        )
    if not any(keyword in data for keyword in _PIXELS):
        raise PictureError("dicom.no_image", "this DICOM file holds no picture; choose an image of the series")
    if not getattr(data, "file_meta", None) or "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.ensure_file_meta()
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    if "PixelData" in data:
        _complete(data)
    return data


def _complete(data: Dataset) -> None:
    """Add elements that describe the pixels and that some files leave out, with the value that they nearly always have."""
    colour = str(data.get("PhotometricInterpretation") or "").startswith(("RGB", "YBR"))
    usual = {
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "MONOCHROME2" if (data.get("SamplesPerPixel") or 1) == 1 else None,
        "PlanarConfiguration": 0,
        "BitsStored": data.get("BitsAllocated"),
        "PixelRepresentation": 0,
    }
    for keyword, value in usual.items():
        if data.get(keyword) in (None, "") and value is not None:
            setattr(data, keyword, value)


def _is_colour(data: Dataset) -> bool:
    return data.PhotometricInterpretation == "PALETTE COLOR" or int(data.get("SamplesPerPixel") or 1) > 1


def _fill(array: np.ndarray, data: Dataset, path: Path) -> None:
    """Decode the frames of a file into an array of as many."""
    count = 0
    try:
        for count, values in enumerate(_frames(data, array.ndim == 4), 1):
            array[count - 1] = values
            if count == len(array):
                break
    except RuntimeError:  # no decoder of pydicom's takes this variant, such as JPEG of 12 bits
        array[:], count = _by_itk(path, data).reshape(array.shape), len(array)
    if count < len(array):
        raise ValueError("fewer frames than announced")


def _by_itk(path: Path, data: Dataset) -> np.ndarray:
    """Decode grey frames with ITK, which rescales all alike and inverts MONOCHROME1 before that."""
    if _group(data, 0, "PixelValueTransformationSequence") or "ModalityLUTSequence" in data:
        raise ValueError("the rescaling of each frame is not known to ITK")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    reader.SetOutputPixelType(sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(reader.Execute())
    if data.PhotometricInterpretation != "MONOCHROME1":
        return values
    highest = -1 if data.PixelRepresentation == 1 else 2**data.BitsStored - 1
    slope, intercept = _number(data, "RescaleSlope", 1.0), _number(data, "RescaleIntercept", 0.0)
    return np.float32(slope * highest + 2 * intercept) - values


def _frames(data: Dataset, colour: bool) -> Iterator[np.ndarray]:
    """Yield the values of each frame: RGB of 8 bits, or grey values as the file defines them."""
    try:
        frames: Iterable[np.ndarray] = iter_pixels(data)
        first = next(iter(frames))
        frames = chain([first], frames)
    except ValueError:  # pydicom corrects some frames in place, but only in an array of all of them
        frames = data.pixel_array.reshape(-1, data.Rows, data.Columns, *((3,) if data.SamplesPerPixel == 3 else ()))
    for index, stored in enumerate(frames):
        if colour:
            palette = data.PhotometricInterpretation == "PALETTE COLOR"
            values = apply_color_lut(stored, data) if palette else stored
            wide = (8 * values.itemsize if palette else int(data.BitsStored)) - 8
            yield (values >> max(0, wide)).astype(np.uint8) if wide > 0 else values
            continue
        rule = _group(data, index, "PixelValueTransformationSequence")
        if rule is None and "ModalityLUTSequence" in data:
            yield apply_modality_lut(stored, data)
            continue
        slope = _number(rule or data, "RescaleSlope", 1.0)
        intercept = _number(rule or data, "RescaleIntercept", 0.0)
        yield stored if (slope, intercept) == (1, 0) else stored.astype(np.float64) * slope + intercept


def _group(data: Dataset, frame: int, keyword: str) -> Dataset | None:
    """Return the item of a functional group: of the frame, else shared by all frames."""
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for groups in (own[frame : frame + 1], shared[:1]):
        for group in groups:
            if found := group.get(keyword):
                return found[0]
    return None


def _number(data: Dataset, keyword: str, default: float = math.nan) -> float:
    """Return a number, the first of several; the default if it is absent, empty or not finite."""
    found = _numbers(data, keyword)
    return found[0] if found and math.isfinite(found[0]) else default


def _numbers(data: Dataset | None, keyword: str, count: int = 0) -> tuple[float, ...]:
    """Return finite numbers, or an empty tuple if they are absent, cannot be read, or are fewer or more than expected."""
    try:
        value: Any = data.get(keyword) if data is not None else None
        if value is None or value == "":
            return ()
        found = tuple(map(float, value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]))
    except (TypeError, ValueError):
        return ()
    return found if not count or (len(found) == count and all(map(math.isfinite, found))) else ()


def _volume(data: Dataset, array: np.ndarray) -> Volume:
    grey, frames = array.ndim == 3, len(array)
    groups = range(len(data.get("PerFrameFunctionalGroupsSequence") or [None]))
    spacings, orientations = ([of(data, index) for index in groups] for of in (_spacing, _orientation))
    positions = [_position(data, index) for index in range(frames)]
    spacing = spacings[0] if _agree(spacings) else ()
    parallel = _agree(orientations, atol=1e-3)
    cosines = _cosines(orientations[0]) if parallel else ()
    direction, step, gaps, stacked = _place(cosines, positions if parallel else [()] * frames, data)
    axes = axes_of(direction)
    windows = tuple(_window(data, index) for index in range(frames)) if grey else ()
    return Volume(
        array=array,
        spacing=(spacing[1], spacing[0], step) if spacing else (1.0, 1.0, step),
        origin=_xyz(positions[0] or (0.0, 0.0, 0.0)),
        direction=tuple(direction.ravel().tolist()),
        orientation=axes,
        axes=axes,
        window=_opening(windows, array, data) if grey else (0.0, 255.0),
        frame_windows=tuple(w for w in windows if w) if len(set(windows)) > 1 and all(windows) else (),
        source_kind="dicom",
        measured=bool(spacing),
        gaps_mm=gaps,
        stacked=stacked and parallel,
        oriented=bool(cosines),
        inverted=grey and data.PhotometricInterpretation == "MONOCHROME1",
        modality=_modality(data),
        burned_in=_burned_in(data),
    )


def _agree(values: Sequence[tuple[float, ...]], atol: float = 0.0) -> bool:
    """Return whether all frames or files state the same numbers, up to rounding, or none states any."""
    return len(set(map(len, values))) == 1 and np.allclose(values, values[0], rtol=1e-3, atol=atol)


def _orientation(data: Dataset, frame: int) -> tuple[float, ...]:
    return _numbers(_group(data, frame, "PlaneOrientationSequence") or data, "ImageOrientationPatient", 6)


def _cosines(orientation: tuple[float, ...]) -> tuple[float, ...]:
    """Return the directions of rows and columns; none unless they are unit vectors at right angles."""
    flat = np.reshape(orientation, (-1, 3))
    return orientation if orientation and np.allclose(flat @ flat.T, np.eye(2), atol=1e-2) else ()


def _spacing(data: Dataset, frame: int) -> tuple[float, ...]:
    """Return the distance between rows and between columns in the patient, in mm; none where the file does not state it.

    The spacing at the detector (Imager Pixel Spacing) is not the spacing in the body.
    """
    for place in (_group(data, frame, "PixelMeasuresSequence"), data):
        found = _numbers(place, "PixelSpacing", 2)
        if found and min(found) > 0:
            return found
    return ()


def _position(data: Dataset, frame: int) -> tuple[float, ...]:
    place = _group(data, frame, "PlanePositionSequence") or (data if "NumberOfFrames" not in data else None)
    if place is None and frame == 0:
        place = data
    return _numbers(place, "ImagePositionPatient", 3)


def _xyz(values: tuple[float, ...]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z


def _place(
    cosines: tuple[float, ...], positions: list[tuple[float, ...]], data: Dataset
) -> tuple[np.ndarray, float, tuple[float, float] | None, bool]:
    """Find how frames lie in space.

    Returns:
        The directions of rows, columns and frames, as columns of a matrix; the distance from frame to frame in mm; the
        smallest and largest distance if they differ; whether frames follow each other in space at all.
    """
    axes, flat = np.eye(3), np.reshape(cosines or (1.0, 0, 0, 0, 1.0, 0), (2, 3))
    axes[:, :2] = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).T
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    stated = [_number(data, keyword) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    stated += [_number(_group(data, 0, "PixelMeasuresSequence") or data, "SliceThickness")]
    step = next((value for value in stated if value > 0), 1.0)
    if len(positions) == 1:
        return axes, step, None, True
    if not all(positions):
        return axes, step, None, stated[0] > 0
    places = np.array(positions)
    gaps = np.diff(places @ axes[:, 2])
    mean = (places[-1] - places[0]) / (len(places) - 1)
    least, most = sorted((abs(gaps).min(), abs(gaps).max()))
    if least < 1e-3 or (gaps > 0).any() == (gaps < 0).any():
        return axes, step, None, False  # frames in time, or in several stacks
    axes[:, 2] = mean / np.linalg.norm(mean)
    return axes, float(np.linalg.norm(mean)), (float(least), float(most)) if most - least > _EVEN * most else None, True


def _window(data: Dataset, frame: int) -> tuple[float, float] | None:
    """Return the window of a frame that the file states, if it does."""
    place = _group(data, frame, "FrameVOILUTSequence") or data
    centre, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
    exact = str(place.get("VOILUTFunction") or "LINEAR") != "LINEAR"
    if not (abs(centre) < 1e30 and (0 if exact else 1) <= width < 1e30 and width > 0):
        return None
    if exact:
        return centre - width / 2, centre + width / 2
    low = centre - 0.5 - (width - 1) / 2
    return low, low + max(width - 1, 1e-3)


def _opening(windows: tuple[tuple[float, float] | None, ...], array: np.ndarray, data: Dataset) -> tuple[float, float]:
    """Return the window of the middle frame; for stored values of at most 8 bits their range, else percentiles."""
    if window := windows[len(windows) // 2]:
        return window
    bits = int(data.get("BitsStored") or 16)
    plain = not int(data.get("PixelRepresentation") or 0) and "ModalityLUTSequence" not in data
    if bits <= 8 and plain and array.min() >= 0 and array.max() < 2**bits:
        return 0.0, float(2**bits - 1)
    return robust_window(array)
