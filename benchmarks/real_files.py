"""Read every file of a folder, and compare values and geometry with pydicom, nibabel and SimpleITK.

    python -m benchmarks.real_files FOLDER ... [--json FILE]

Files are recognised by their content. The table has, for each folder directly in FOLDER, how many files were read, how many
were refused and why, and how many of those that were read agree with each library:

    values      as rescaled by the file: pydicom's pixel_array through the Modality LUT or the rescaling of each frame, nibabel's
                get_fdata, ITK's image; equal as float32
    geometry    DICOM: spacing and directions of rows and columns, position of the first frame; NIfTI: the affine of a mask that
                was written for the file is nibabel's affine of the file; NRRD and MHA: the voxels' places of SimpleITK

SimpleITK's values of DICOM are counted apart, as a reader that shares no code with this project's.
"""

import argparse
import json
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from nibabel.spatialimages import SpatialImage
from pydicom.pixels import apply_color_lut, apply_modality_lut

from medsegdiff.image_ref import PictureError, Volume
from medsegdiff.imaging import VISITOR, open, write_volume

__all__ = ["compare", "main"]

_SUFFIXES = (
    ".dcm",
    ".ima",
    ".nii",
    ".nii.gz",
    ".nrrd",
    ".mha",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
)


@dataclass(slots=True)
class Counts:
    """Outcomes of the files of one package."""

    files: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # of files that were read
    refused: Counter[str] = field(default_factory=Counter)  # by the code of the error
    compared: Counter[str] = field(default_factory=Counter)  # by what was compared
    agree: Counter[str] = field(default_factory=Counter)
    differ: list[str] = field(default_factory=list)  # file and what differs


def main(words: list[str] | None = None) -> int:
    """Print the table; a bad input is one sentence on standard error and exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, help="write all counts, and the files that differ, to this file")
    arguments = parser.parse_args(words)
    found: defaultdict[str, Counts] = defaultdict(Counts)
    files = [(folder, path) for folder in arguments.folders for path in _files(folder)]
    if not files:
        print(f"no image is in {', '.join(map(str, arguments.folders))}; give folders that hold some", file=sys.stderr)
        return 2
    if arguments.json:  # before the files are read
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    for folder, path in files:
        package = path.relative_to(folder).parts[0] if path.parent != folder else folder.name
        compare(path, found[package])
    print("| package | files | read | refused | values agree | geometry agrees | ITK values agree |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, counts in sorted(found.items()):
        shares = [f"{counts.agree[what]} of {counts.compared[what]}" for what in ("values", "geometry", "itk")]
        read, refused = counts.kinds.total(), counts.refused.total()
        print(f"| {name} | {counts.files} | {read} | {refused} | {' | '.join(shares)} |")
    for name, counts in sorted(found.items()):
        print(f"\n{name}: read {dict(counts.kinds)}, refused {dict(counts.refused)}")
        for line in counts.differ:
            print(f"    {line}")
    if arguments.json:
        rows = {name: {key: getattr(counts, key) for key in Counts.__slots__} for name, counts in found.items()}
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _files(folder: Path) -> Iterator[Path]:
    """Yield the images of a folder: by suffix, or DICOM by its preamble."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                dicom = file.read(132)[128:] == b"DICM"
            if dicom or path.name.lower().endswith(_SUFFIXES):
                yield path


def compare(path: Path, counts: Counts) -> None:
    """Read a file within a visitor's limits, compare it, and count the outcome."""
    counts.files += 1
    try:
        found = open(path, limits=VISITOR)
    except PictureError as error:
        counts.refused[f"{error.code}: {error}"[:110]] += 1
        return
    counts.kinds[found.source_kind] += 1
    if not isinstance(found, Volume):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what, check in {"dicom": _dicom, "nifti": _nifti}.get(found.source_kind, _itk)(path, found).items():
            if check is not None:
                counts.compared[what] += 1
                counts.agree[what] += check == ""
                if check:
                    counts.differ.append(f"{path.name}: {what}: {check}")


def _dicom(path: Path, volume: Volume) -> dict[str, str | None]:
    data = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        return {}
    stored = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
    colour = volume.array.ndim == 4
    stored = stored.reshape(volume.array.shape)
    if colour:
        bits = 8 * stored.itemsize if data.PhotometricInterpretation == "PALETTE COLOR" else int(data.BitsStored)
        expected = (stored >> max(0, bits - 8)).astype(np.uint8)
    elif "PerFrameFunctionalGroupsSequence" in data or "SharedFunctionalGroupsSequence" in data:
        expected = np.stack(
            [frame * slope + intercept for frame, (slope, intercept) in zip(stored, _rescales(data), strict=True)]
        )
    else:
        expected = apply_modality_lut(stored, data)
    found: dict[str, str | None] = {"values": _difference(volume.array, np.asarray(expected))}
    try:
        itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        found["itk"] = _difference(volume.array, itk.reshape(volume.array.shape))
    except (RuntimeError, ValueError):  # it cannot read the file
        pass
    places = [value for value in _places(data) if value]
    spacing, cosines, position = (next((p.get(name) for p in places if p.get(name)), None) for name in _GEOMETRY)
    if spacing and cosines and position and min(spacing) > 0:
        affine = np.column_stack([np.array(cosines[:3]) * spacing[1], np.array(cosines[3:]) * spacing[0], position])
        same = np.allclose(volume.affine[:3, [0, 1, 3]], affine.astype(float), atol=1e-3)
        found["geometry"] = "" if same else f"{volume.affine[:3, [0, 1, 3]].tolist()} and {affine.tolist()}"
    return found


_GEOMETRY = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")


def _places(data: pydicom.Dataset) -> Iterator[Any]:
    """Yield where the geometry of the first frame may be stated."""
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in list(data.get(keyword) or [])[:1]:
            for name in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"):
                yield from list(group.get(name) or [])[:1]
    yield data


def _rescales(data: pydicom.Dataset) -> Iterator[tuple[float, float]]:
    shared = (data.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    frames = data.get("PerFrameFunctionalGroupsSequence") or [pydicom.Dataset()] * int(data.get("NumberOfFrames", 1))
    for frame in frames:
        rule = (
            frame.get("PixelValueTransformationSequence") or shared.get("PixelValueTransformationSequence") or [data]
        )[0]
        yield float(rule.get("RescaleSlope", 1)), float(rule.get("RescaleIntercept", 0))


def _nifti(path: Path, volume: Volume) -> dict[str, str | None]:
    image = nib.load(path)
    assert isinstance(image, SpatialImage)
    shape = (*image.shape, 1)[:3]  # singleton dimensions beyond the third are dropped
    with TemporaryDirectory() as folder:
        marked = np.zeros(volume.array.shape[:3], np.int64)
        marked[0, 0, 0] = 1
        write_volume(marked, volume, f"{folder}/mask.nii.gz")
        mask = nib.load(f"{folder}/mask.nii.gz")
        assert isinstance(mask, SpatialImage)
        voxels = np.asarray(mask.dataobj).reshape(shape)
    ours, theirs = np.asarray(mask.affine), np.asarray(image.affine)
    same = np.array_equal(ours, theirs) and mask.shape == image.shape[:3]
    found: dict[str, str | None] = {"geometry": "" if same else f"{ours.tolist()} and {theirs.tolist()}"}
    # The first voxel of the turned volume must be the voxel that the mask marks.
    if volume.array.ndim == 3:
        first = tuple(int(i[0]) for i in np.nonzero(voxels))
        values = image.get_fdata(dtype=np.float64).reshape(shape)
        one = _difference(volume.array[:1, :1, :1].ravel(), values[first].ravel())
        found["values"] = one or _difference(np.sort(volume.array.ravel()), np.sort(values.astype(np.float32).ravel()))
    return found


def _itk(path: Path, volume: Volume) -> dict[str, str | None]:
    if volume.source_kind not in ("nrrd", "mha"):
        return {}
    image = sitk.ReadImage(str(path))
    image = sitk.DICOMOrient(sitk.JoinSeries(image) if image.GetDimension() == 2 else image, "LPS")
    affine = np.column_stack([np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing(), image.GetOrigin()])
    same = np.allclose(volume.affine[:3], affine, atol=1e-4)
    return {
        "values": _difference(volume.array, sitk.GetArrayFromImage(image)),
        "geometry": "" if same else f"{volume.affine[:3].tolist()} and {affine.tolist()}",
    }


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Describe the first difference; empty where both are equal as float32, up to its rounding."""
    ours, theirs = ours.astype(np.float32).ravel(), theirs.astype(np.float32).ravel()
    if ours.shape != theirs.shape:
        return f"{ours.shape} and {theirs.shape} values"
    wrong = np.flatnonzero(~np.isclose(ours, theirs, rtol=2e-7, atol=0, equal_nan=True))
    return f"{len(wrong)} of {len(ours)}, as {ours[wrong[0]]:g} and {theirs[wrong[0]]:g}" if len(wrong) else ""


if __name__ == "__main__":
    sys.exit(main())
