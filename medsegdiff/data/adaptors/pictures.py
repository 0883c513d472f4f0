"""Images: ISIC 2016 to 2018, REFUGE-2, DDTI, crops of LIDC-IDRI.

Photographs of more than 16.8 million pixels (ISIC has some) and their masks are reduced by an integer factor on reading.
DDTI images without a contour in their XML are left out, because part of that data set was never annotated.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from medsegdiff.data.adaptors.layout import fifths, inside
from medsegdiff.data.folders import Case, read_by
from medsegdiff.data.tasks import provenance_of
from medsegdiff.image_ref import MAX_PIXELS, Picture, Windowing
from medsegdiff.imaging import read

__all__ = ["DDTI", "ISIC2016", "ISIC2017", "ISIC2018", "LIDC", "REFUGE2"]

_LESION = ((0, 0), (255, 1))
_DISC_CUP = ((255, 0), (128, 1), (0, 2))  # background, disc rim, cup


@dataclass(frozen=True, slots=True)
class Photograph(Case):
    """A photograph and a mask whose grey values encode labels."""

    wanted: Path = Path()  # expected path of the mask
    values: tuple[tuple[int, int], ...] = _LESION  # grey value in the file, label

    def _wanted(self) -> str:
        return f"{self.wanted}"

    def _picture(self, intensity: Windowing) -> Picture:
        with _opened(self.image) as file:
            factor = _factor(file)
            if factor == 1:
                return self._named(lambda path: read(path, window=intensity))
            return Picture(np.asarray(file.convert("RGB").reduce(factor)), source_kind="jpeg")

    def _labels(self, mask: Path, classes: int) -> UInt8[np.ndarray, "h w"]:
        with _opened(mask) as file:
            factor = _factor(file)
            grey = np.asarray(file.convert("L"))[::factor, ::factor]
        labels = np.full(256, 255, np.uint8)
        for value, label in self.values:
            labels[value] = min(label, classes)
        found = labels[grey]
        if (found == 255).any():
            known = ", ".join(str(value) for value, _ in self.values)
            raise ValueError(f"{mask} has the grey value {grey[found == 255][0]}; the masks of this set have {known}")
        return found


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF"))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as PNG, JPEG, BMP or TIFF; fetch it again") from error


def _factor(file: Image.Image) -> int:
    return max(math.ceil(math.sqrt(file.width * file.height / MAX_PIXELS)), 1)


@dataclass(frozen=True, slots=True)
class Folders:
    """Photographs in one folder, masks in another, for each split."""

    about: str
    splits: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]  # names of the two folders
    suffix: str  # appended to the photograph's name to get the mask's
    ending: str
    values: tuple[tuple[int, int], ...]
    origin: tuple[str, str]  # source and licence

    def recognized(self, folder: Path) -> bool:
        return any(inside(folder, *images) for images, _ in self.splits.values())

    def task(self, folder: Path) -> str:
        return self.about

    def provenance(self, folder: Path) -> tuple[str, str]:
        return self.origin

    def intensity(self, folder: Path) -> None:
        return None

    def expected(self, split: str) -> str:
        if split not in self.splits:
            return f"it has only {', '.join(self.splits)}"
        images, masks = self.splits[split]
        return f"expected the folders {' or '.join(images)} and {' or '.join(masks)}"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        images, masks = (inside(folder, *names) for names in self.splits.get(split, ((), ())))
        if images is None:
            return
        truth = {} if masks is None else {path.stem.lower(): path for path in masks.rglob(f"*{self.ending}")}
        place = masks or folder / self.splits[split][1][0]
        for image in sorted(images.rglob("*.jpg")):
            name = f"{image.stem}{self.suffix}"
            wanted = place / f"{name}{self.ending}"
            yield Photograph(image.stem, image, truth.get(name.lower()), wanted=wanted, values=self.values)


def _isic(source: str, licence: str = "", **splits: tuple[str, str]) -> Folders:
    folders = {split: ((images,), (masks,)) for split, (images, masks) in splits.items()}
    return Folders("skin-lesion", folders, "_segmentation", ".png", _LESION, (source, licence))


_2016, _2017, _2018 = "ISBI2016_ISIC_Part1", "ISIC-2017", "ISIC2018_Task1"
ISIC2016 = _isic(
    "ISIC 2016 Part 1 (Gutman et al., 2016, arXiv 1605.01397)",
    train=(f"{_2016}_Training_Data", f"{_2016}_Training_GroundTruth"),
    val=(f"{_2016}_Test_Data", f"{_2016}_Test_GroundTruth"),
)
ISIC2017 = _isic(
    "ISIC 2017 Part 1 (Codella et al., 2018, arXiv 1710.05006)",
    "CC0; weights free",
    train=(f"{_2017}_Training_Data", f"{_2017}_Training_Part1_GroundTruth"),
    val=(f"{_2017}_Validation_Data", f"{_2017}_Validation_Part1_GroundTruth"),
    test=(f"{_2017}_Test_v2_Data", f"{_2017}_Test_v2_Part1_GroundTruth"),
)
ISIC2018 = _isic(
    "ISIC 2018 Task 1 (Codella et al., 2019, arXiv 1902.03368; Tschandl et al., 2018)",
    "CC BY-NC 4.0: weights non-commercial, attribute",
    train=(f"{_2018}-2_Training_Input", f"{_2018}_Training_GroundTruth"),
    val=(f"{_2018}-2_Validation_Input", f"{_2018}_Validation_GroundTruth"),
    test=(f"{_2018}-2_Test_Input", f"{_2018}_Test_GroundTruth"),
)
REFUGE2 = Folders(
    "optic-disc-cup",
    {
        "train": (("Training400", "REFUGE-Training400"), ("Annotation-Training400",)),
        "val": (("REFUGE-Validation400",), ("REFUGE-Validation400-GT",)),
        "test": (("Test400", "REFUGE-Test400"), ("REFUGE-Test-GT",)),
    },
    "",
    ".bmp",
    _DISC_CUP,
    ("REFUGE-2 (Orlando et al., 2020; Fang et al., 2022)", ""),
)


@dataclass(frozen=True, slots=True)
class Outlined(Case):
    """An image whose mask is the inside of contours in an XML file."""

    contours: tuple[tuple[tuple[float, float], ...], ...] = ()  # points x, y in pixels

    def _labels(self, mask: Path, classes: int) -> UInt8[np.ndarray, "h w"]:
        with _opened(self.image) as file:
            sheet = Image.new("L", file.size)
        for contour in self.contours:
            if any(not (0 <= x <= sheet.width and 0 <= y <= sheet.height) for x, y in contour):
                raise ValueError(f"{mask} draws a contour outside {self.image.name}; check which picture it is of")
            ImageDraw.Draw(sheet).polygon(contour, fill=1, outline=1)
        return np.asarray(sheet)


class _Contours:
    """DDTI: one XML file per case N, with the contours of images N_I.jpg as JSON."""

    def recognized(self, folder: Path) -> bool:
        return any(self._files(folder))

    def task(self, folder: Path) -> str:
        return "thyroid-nodule"

    def provenance(self, folder: Path) -> tuple[str, str]:
        return provenance_of(self.task(folder))

    def intensity(self, folder: Path) -> None:
        return None

    def expected(self, split: str) -> str:
        return "expected N.xml beside N_1.jpg with a contour in it, and only the splits train and val"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        for path in fifths(sorted(self._files(folder), key=lambda path: int(path.stem)), split):
            for number, contours in _contours(path).items():
                image = path.with_name(f"{path.stem}_{number}.jpg")
                if not image.exists():
                    raise ValueError(f"{path} has a contour of {image.name}, which is not beside it; fetch it again")
                yield Outlined(f"case{image.stem}", image, path, contours=contours)

    def _files(self, folder: Path) -> Iterator[Path]:
        """Return every N.xml beside a N_1.jpg, in the folder or one level below."""
        for pattern in ("[0-9]*.xml", "*/[0-9]*.xml"):
            for path in folder.glob(pattern):
                if path.stem.isdecimal() and any(path.parent.glob(f"{path.stem}_*.jpg")):
                    yield path


def _contours(path: Path) -> dict[str, tuple[tuple[tuple[float, float], ...], ...]]:
    """Read the contours, by image number."""
    found: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {}
    try:
        for mark in ElementTree.parse(path).iter("mark"):
            drawn = json.loads(mark.findtext("svg") or "[]")
            points = (tuple((float(p["x"]), float(p["y"])) for p in one["points"]) for one in drawn)
            if contours := tuple(contour for contour in points if len(contour) > 2):
                number = (mark.findtext("image") or "").strip()
                found[number] = found.get(number, ()) + contours
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds a contour that is cut short or no JSON; repair the file or move it away"
        ) from error
    return found


DDTI = _Contours()


class _Crops:
    """LIDC-IDRI as PNG crops: LIDC-IDRI-NNNN/nodule-N/images/slice-N.png beside mask-0/ ... mask-3/, one folder per reader."""

    def recognized(self, folder: Path) -> bool:
        return next(self._patients(folder), None) is not None

    def task(self, folder: Path) -> str:
        return "lung-nodule"

    def provenance(self, folder: Path) -> tuple[str, str]:
        return provenance_of(self.task(folder))

    def intensity(self, folder: Path) -> None:
        return None

    def expected(self, split: str) -> str:
        return "expected LIDC-IDRI-NNNN/nodule-N/images/slice-N.png beside mask-0/ ... mask-3/, and only the splits train and val"

    def cases(self, folder: Path, split: str) -> Iterator[Case]:
        for patient in fifths(sorted(self._patients(folder)), split):  # whole patients
            for nodule in sorted(patient.glob("nodule-*/"), key=_number):
                readers = sorted(nodule.glob("mask-*/"), key=_number)
                for image in sorted((nodule / "images").glob("slice-*.png"), key=_number):
                    masks = [path if (path := reader / image.name).exists() else None for reader in readers]
                    name = f"{patient.name}_n{_number(nodule):02}_s{_number(image):02}"
                    yield read_by(name, image, masks, [reader.name for reader in readers])

    def _patients(self, folder: Path) -> Iterator[Path]:
        for pattern in ("LIDC-IDRI-*/", "*/LIDC-IDRI-*/", "*/*/LIDC-IDRI-*/"):
            yield from (path for path in folder.glob(pattern) if any(path.glob("nodule-*/images/")))


def _number(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


LIDC = _Crops()
