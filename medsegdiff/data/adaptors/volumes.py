"""Volumes: BraTS, AMOS-2022, BTCV, the Medical Segmentation Decathlon.

Grey values are windowed as the task states (`tasks`), by default CT from -125 to 275 HU. The MR volumes of AMOS have no negative
values, so that their own window is used instead (`Intensity.fits`). Networks take three channels: for BraTS T1, FLAIR and T1
post-contrast as red, green and blue (T2 must exist but is not used), each scaled from 0 to the 99.5th percentile of the non-zero
voxels. BraTS labels are one class, the whole tumour, or three: 1 necrotic core, 2 oedema, 3 enhancing tumour (4 in the files).
For Decathlon volumes with several channels the first three are used.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float, UInt8

from medsegdiff.data.adaptors.layout import fifths, inside
from medsegdiff.data.folders import Case
from medsegdiff.data.tasks import intensity_of, provenance_of
from medsegdiff.image_ref import Intensity, Volume, windowed
from medsegdiff.imaging import read_volume, stem

__all__ = ["AMOS2022", "BRATS", "BTCV", "DECATHLON"]


@dataclass(frozen=True, slots=True)
class Scan(Case):
    """A volume of one channel."""

    wanted: Path = Path()  # expected path of the labels

    def _wanted(self) -> str:
        return f"{self.wanted}"


@dataclass(frozen=True, slots=True)
class Modalities(Case):
    """One subject in several files on the same voxels; `image` is the first of the three channels."""

    shown: tuple[Path, ...] = ()
    wanted: Path = Path()

    def _wanted(self) -> str:
        return f"{self.wanted}"

    def _volume(self) -> Volume:
        volumes = [_read(path) for path in self.shown]
        for path, volume in zip(self.shown, volumes, strict=True):
            if volume.array.shape != volumes[0].array.shape:
                sizes = f"{volume.array.shape} voxels, {self.shown[0].name} {volumes[0].array.shape}"
                raise ValueError(f"{path} has {sizes}; the modalities of a case share their voxels")
        return replace(volumes[0], array=_colour([volume.array for volume in volumes]))

    def _truth(self, mask: Path, classes: int) -> Volume:
        truth = _read(mask)
        labels = np.where(truth.array == 4, 3, truth.array)
        if wrong := [label for label in np.unique(labels).tolist() if label not in (0, 1, 2, 3)]:
            raise ValueError(f"{mask} has label {wrong[-1]:g}; BraTS has 0, 1, 2 and 4")
        if classes not in (1, 3):
            raise ValueError(f"{mask} is to be read as {classes} classes; BraTS has 3, or 1 for the whole tumour")
        return replace(truth, array=np.minimum(labels, classes).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Channels(Case):
    """A volume with several channels as fourth dimension."""

    wanted: Path = Path()

    def _wanted(self) -> str:
        return f"{self.wanted}"

    def _volume(self) -> Volume:
        with_time = sitk.ReadImage(str(self.image))
        count = with_time.GetSize()[3]
        parts = [sitk.DICOMOrient(with_time[..., i], "LPS") for i in range(min(count, 3))]
        arrays = [sitk.GetArrayFromImage(part).astype(np.float32) for part in parts]
        return Volume(
            array=_colour([arrays[min(i, len(arrays) - 1)] for i in range(3)]),
            spacing=parts[0].GetSpacing(),
            origin=parts[0].GetOrigin(),
            direction=parts[0].GetDirection(),
            orientation="LPS",
            window=(0.0, 255.0),
            source_kind="nifti",
        )


def _read(path: Path) -> Volume:
    try:
        return read_volume(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def _colour(arrays: list[Float[np.ndarray, "z y x"]]) -> UInt8[np.ndarray, "z y x 3"]:
    """Combine three channels to a colour volume, each scaled from 0 to the 99.5th percentile of its non-zero voxels."""
    shown = []
    for array in arrays:
        inside_head = array[array > 0]
        high = float(np.percentile(inside_head, 99.5)) if inside_head.size else 1.0
        shown.append(np.stack([windowed(plane, (0.0, high)) for plane in array]))
    return np.stack(shown, -1)


class _BraTS:
    """One folder per case; 2020's cases are named BraTS20_Training_001, 2021's BraTS2021_00000."""

    modalities = ("t1", "t1ce", "t2", "flair")
    shown = ("t1", "flair", "t1ce")

    def recognized(self, folder: Path) -> bool:
        return next(self._folders(folder), None) is not None

    def task(self, folder: Path) -> str:
        return "brain-flair"

    def provenance(self, folder: Path) -> tuple[str, str]:
        return provenance_of("brain-tumour")

    def intensity(self, folder: Path) -> None:
        return None

    def expected(self, split: str) -> str:
        return "expected folders BraTS20_Training_NNN or BraTS2021_NNNNN; train and val are made of those with labels"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        if split == "test":
            yield from (self._case(place) for place in self._folders(folder) if "Validation" in place.name)
            return
        yield from map(self._case, fifths((p for p in self._folders(folder) if "Validation" not in p.name), split))

    def _folders(self, folder: Path) -> Iterator[Path]:
        for pattern in ("BraTS20*/", "*/BraTS20*/", "*/*/BraTS20*/"):
            yield from (
                p for p in sorted(folder.glob(pattern)) if any(p.glob("*_flair.nii*")) or any(p.glob("*_t1.nii*"))
            )

    def _case(self, folder: Path) -> Case:
        files = {kind: next(folder.glob(f"*_{kind}.nii*"), None) for kind in self.modalities}
        missing = [kind for kind, path in files.items() if path is None]
        if missing:
            raise ValueError(
                f"{folder} has no {folder.name}_{missing[0]}.nii.gz; a case has {', '.join(self.modalities)}"
            )
        shown = tuple(path for kind in self.shown if (path := files[kind]))
        truth = next((p for ending in ("seg", "Segm") for p in sorted(folder.glob(f"*_{ending}.nii*"))), None)
        wanted = folder / f"{folder.name}_seg.nii.gz"
        return Modalities(folder.name, shown[0], truth, shown=shown, wanted=wanted)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Volumes in one folder, labels in another, for each split."""

    about: str
    splits: dict[str, tuple[str, str]]  # the two folders
    mark: str  # a folder that only this data set has
    names: tuple[str, str]  # prefixes of the names of images and labels
    val: frozenset[str] = frozenset()  # case numbers, for a data set without that split

    def recognized(self, folder: Path) -> bool:
        place = inside(folder, self.mark)
        return place is not None and any(place.rglob(f"{self.names[0]}[0-9]*.nii*"))

    def task(self, folder: Path) -> str:
        return self.about

    def provenance(self, folder: Path) -> tuple[str, str]:
        return provenance_of(self.about)

    def intensity(self, folder: Path) -> Intensity:
        return intensity_of(self.about)

    def expected(self, split: str) -> str:
        return f"expected {self.splits[split][0]}" if split in self.splits else f"it has {', '.join(self.splits)}"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        images, masks = self.splits.get(split, ("", ""))
        place = inside(folder, self.mark)
        root = place.parent if place else folder
        for image in sorted((root / images).glob(f"{self.names[0]}[0-9]*.nii*") if images else ()):
            number = stem(image).removeprefix(self.names[0])
            if split != "test" and self.val and (number in self.val) != (split == "val"):
                continue
            wanted = root / masks / image.name.replace(*self.names, 1)
            other = wanted.with_name(stem(wanted) + ".nii" if wanted.suffix == ".gz" else f"{wanted.name}.gz")
            truth = next((path for path in (wanted, other) if path.exists()), None)
            yield Scan(stem(image), image, truth, wanted=wanted)


AMOS2022 = _Pairs(
    "abdomen-amos",
    {"train": ("imagesTr", "labelsTr"), "val": ("imagesVa", "labelsVa"), "test": ("imagesTs", "labelsTs")},
    "imagesTr",
    ("amos_", "amos_"),
)
BTCV = _Pairs(
    "abdomen-ct",
    {split: ("Training/img", "Training/label") for split in ("train", "val")} | {"test": ("Testing/img", "")},
    "Training",
    ("img", "label"),
    frozenset(f"{n:04}" for n in (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)),
)


_TASKS = {
    "Task01_BrainTumour": "brain-tumour-decathlon",
    "Task02_Heart": "heart",
    "Task03_Liver": "liver-tumour",
    "Task04_Hippocampus": "hippocampus",
    "Task05_Prostate": "prostate",
    "Task06_Lung": "lung-tumour",
    "Task07_Pancreas": "pancreas-tumour",
    "Task08_HepaticVessel": "hepatic-vessel",
    "Task09_Spleen": "spleen",
    "Task10_Colon": "colon-tumour",
}


class _Decathlon:
    """The cases listed in dataset.json."""

    def recognized(self, folder: Path) -> bool:
        return self._file(folder) is not None

    def task(self, folder: Path) -> str | None:
        file = self._file(folder)
        return _TASKS.get(file.resolve().parent.name) if file else None

    def provenance(self, folder: Path) -> tuple[str, str]:
        return provenance_of(self.task(folder) or "spleen")  # all of one source

    def intensity(self, folder: Path) -> Intensity | None:
        file = self._file(folder)
        ct = file is not None and self._facts(file).get("modality", {}).get("0", "").upper() == "CT"
        return intensity_of("spleen") if ct else None

    def expected(self, split: str) -> str:
        return "expected dataset.json with the lists training and test"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        file = self._file(folder)
        if file is None:
            return
        facts = self._facts(file)
        several = len(facts.get("modality", {})) > 1
        if split == "test":
            listed = [(entry, None) for entry in facts.get("test", ())]
        else:
            pairs = sorted((entry["image"], entry["label"]) for entry in facts["training"])
            listed = list(fifths(pairs, split))
        for image, label in listed:
            path, wanted = file.parent / image, file.parent / (label or "")
            if not path.exists():
                raise ValueError(f"{file} lists {image}, which is not there; unpack the archive again")
            truth = wanted if label and wanted.exists() else None
            name = stem(path)
            if several:
                yield Channels(name, path, truth, wanted=wanted)
            else:
                yield Scan(name, path, truth, wanted=wanted)

    def _file(self, folder: Path) -> Path | None:
        """Return the first dataset.json, in the folder or one level below, with its volumes beside it."""
        found = (folder / "dataset.json", *sorted(folder.glob("*/dataset.json")))
        return next((path for path in found if path.exists() and (path.parent / "imagesTr").is_dir()), None)

    def _facts(self, file: Path) -> dict:
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            _ = [(entry["image"], entry["label"]) for entry in facts["training"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no list of training images and labels; fetch it again") from error
        return facts


BRATS = _BraTS()
DECATHLON = _Decathlon()
