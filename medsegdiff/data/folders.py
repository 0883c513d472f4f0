"""Data folders: `images/NAME.*` beside `masks/NAME.*`, with lossless labels 0..K.

If several readers annotated each image, their masks are in `masks_1/`, `masks_2/` ..., any number of folders, and the
reference mask is their majority. A reader who marked nothing has an empty mask.

A data folder holds `train/` and `val/`, each such a pair; a folder that is itself such a pair is flat: one split, or two
by a rule (`splits`). Images have label images, volumes (NIfTI, NRRD, MHA) have label volumes on the same voxels; a volume is
read once and returned slice by slice.

Names are compared without their endings and without regard to case. Hidden files (`._NAME`, `.DS_Store`), `Thumbs.db` and files
of other kinds are left out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from medsegdiff.image_ref import Picture, PictureError, Volume, Windowing, check_sides
from medsegdiff.imaging import is_volume, read, read_volume, stem
from medsegdiff.multi_reader import majority

__all__ = [
    "SLICES",
    "Case",
    "Sample",
    "Unpaired",
    "cases",
    "evenly_spaced",
    "is_flat",
    "majority",
    "orphans",
    "read_by",
    "read_labels",
    "thinned",
    "unpaired",
]

SLICES = r"^(.+)_slice\d+$"
"""Pattern of the name of a volume's slice; the first group is the name of the volume."""

_T = TypeVar("_T")

_MASKS = (".png", ".tif", ".tiff", ".bmp")
_LOSSY = (".jpg", ".jpeg", ".webp")  # would change labels
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image, or one slice of a volume, with its reference mask."""

    name: str  # of the file, and _slice with three digits or more for a slice of a volume
    picture: Picture
    labels: UInt8[np.ndarray, "h w"]  # with several readers, their majority
    distance_mm: float | None = None  # to the next slice of the same volume
    readers: UInt8[np.ndarray, "r h w"] | None = None  # the masks of several readers, in no particular order


@dataclass(frozen=True, slots=True)
class Case:
    """An image or volume file and its mask file, if there is one."""

    name: str  # the file name without its ending
    image: Path
    mask: Path | None  # with several readers, that of the first
    readers: tuple[Path, ...] = ()  # mask files of several readers
    missing: str = ""  # folders of readers without a mask of this image

    @property
    def is_volume(self) -> bool:
        """Whether the file is a volume."""
        return is_volume(self.image)

    def samples(self, classes: int, axis: int = 2, intensity: Windowing = None) -> Iterator[Sample]:
        """Read image and mask; a volume yields all its slices along an axis.

        Arguments:
            classes: labels 1 to this are allowed.
            axis: across which volumes are sliced.
            intensity: how grey values of more than 8 bits are windowed; None is the file's own window.

        Raises:
            ValueError: there is no mask, a file is unreadable, the two do not match, or a label lies outside 0..classes; the
                message names the file.
        """
        if self.mask is None:
            raise ValueError(f"{self.image} has no mask {self._wanted()}; add it")
        if self.missing:
            raise ValueError(
                f"{self.image} has masks of some readers but none in {self.missing}; add it, an empty one if that reader "
                "marked nothing"
            )
        files = self.readers or (self.mask,)
        if self.is_volume:
            yield from self._slices(files, classes, axis, intensity)
            return
        picture = self._picture(intensity)
        masks = [self._labels(file, classes) for file in files]
        for i, file in enumerate(files):
            labels = masks[i] = self._upright(file, masks[i], picture)
            if labels.shape != (picture.height, picture.width):
                size = f"{picture.width} x {picture.height}"
                raise ValueError(f"{file} is {labels.shape[1]} x {labels.shape[0]}, its picture {size}; make them one")
        yield _sample(self.name, picture, masks, None)

    def _upright(self, mask: Path, labels: UInt8[np.ndarray, "h w"], picture: Picture) -> UInt8[np.ndarray, "_ _"]:
        """Return labels on the pixels of a picture that was turned upright by its EXIF orientation.

        A mask with an orientation of its own has been turned already. One without may have been drawn on the stored or on the
        upright pixels; only a quarter turn of a picture that is not square shows which.
        """
        if "turned" not in picture.notes or _orientation(mask) != 1:
            return labels
        turn = _orientation(self.image)
        if turn < 5 or picture.height == picture.width:
            raise ValueError(
                f"{self.image} is stored turned (EXIF orientation {turn}), and whether {mask.name} was drawn on the stored or on "
                "the upright pixels cannot be told from its size; save the picture upright, without an orientation"
            )
        if labels.shape == (picture.height, picture.width):
            return labels
        return np.asarray(_exif_turned(Image.fromarray(labels), turn))

    def _slices(self, files: Sequence[Path], classes: int, axis: int, intensity: Windowing) -> Iterator[Sample]:
        volume = self._volume()
        if axis not in volume.slice_axes:
            size = " x ".join(map(str, volume.array.shape[:3][::-1]))
            raise ValueError(
                f"{self.image}: with {size} voxels, its slices along axis {axis} are too small; slice the volumes along another "
                f"with --axis {volume.slice_axis(axis)}, or leave this one out"
            )
        truths = [self._truth(file, classes) for file in files]
        for file, truth in zip(files, truths, strict=True):
            _check_same_voxels(volume, truth, file)
        step = volume.spacing[axis] if volume.measured else None
        for index in range(volume.count(axis)):
            masks = [truth.plane(axis, index).astype(np.uint8) for truth in truths]
            picture = self._named(lambda _, i=index: volume.slice(axis, i, intensity))
            yield _sample(f"{self.name}_slice{index:03}", picture, masks, step)

    # Overridden for other layouts (`adaptors`).

    def _wanted(self) -> str:
        return f"of the same name in {self.image.parent.parent / 'masks'}"

    def _picture(self, intensity: Windowing) -> Picture:
        return self._named(lambda path: read(path, window=intensity))

    def _labels(self, mask: Path, classes: int) -> UInt8[np.ndarray, "h w"]:
        return read_labels(mask, classes)

    def _volume(self) -> Volume:
        return self._named(read_volume)

    def _truth(self, mask: Path, classes: int) -> Volume:
        return _read_label_volume(mask, classes)

    def _named(self, reading: Callable[[Path], _T]) -> _T:
        try:
            return reading(self.image)
        except ValueError as error:
            raise ValueError(f"{self.image}: {error}") from error


def _sample(name: str, picture: Picture, masks: Sequence[np.ndarray], step: float | None) -> Sample:
    if len(masks) == 1:
        return Sample(name, picture, masks[0], step)
    readers = np.stack(masks)
    return Sample(name, picture, majority(readers), step, readers)


def _orientation(path: Path) -> int:
    """Return the EXIF orientation that is left to be applied after Pillow has opened a file; 1 is upright."""
    try:
        with Image.open(path) as file:
            return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, Image.DecompressionBombError):
        return 1


def _exif_turned(image: Image.Image, orientation: int) -> Image.Image:
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def thinned(samples: Sequence[Sample], empty: float) -> list[Sample]:
    """Return all slices with a label, and evenly spaced slices without one, up to this share of the result."""
    full = [sample for sample in samples if sample.labels.any()]
    bare = [sample for sample in samples if not sample.labels.any()]
    wanted = min(round(empty / (1 - empty) * len(full)), len(bare))
    return full + [bare[int(i)] for i in np.linspace(0, len(bare) - 1, wanted).round()]


def evenly_spaced(found: Sequence[_T], count: int) -> list[_T]:
    """Return so many items, evenly spaced over the whole sequence from the first; all if there are no more."""
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def read_labels(path: Path, classes: int) -> UInt8[np.ndarray, "h w"]:
    """Read a label image; 0/255 is accepted for one class.

    Raises:
        ValueError: the file is unreadable or too large, has several channels, or has a label outside 0..classes.
    """
    try:
        with Image.open(path, formats=("PNG", "TIFF", "BMP")) as file:
            check_sides(file.height, file.width, least=1)
            mode, labels = file.mode, np.asarray(ImageOps.exif_transpose(file)).astype(np.int64)
    except (OSError, PictureError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as PNG, TIFF or BMP ({error}); save it again") from error
    if mode not in ("L", "P", "1", "I", "I;16"):
        raise ValueError(f"{path} has mode {mode}; a mask is a one-channel label picture (0 background, 1..K)")
    if classes == 1 and set(np.unique(labels)) <= {0, 255}:
        labels //= 255
    _check_labels(labels, classes, path)
    return labels.astype(np.uint8)


def _read_label_volume(path: Path, classes: int) -> Volume:
    try:
        volume = read_volume(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if classes == 1 and set(np.unique(volume.array)) <= {0, 255}:
        volume = replace(volume, array=volume.array // 255)
    _check_labels(volume.array, classes, path)
    return volume


def _check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    found = np.unique(labels)
    if wrong := [label for label in found.tolist() if label not in range(classes + 1)]:
        raise ValueError(f"{path} has label {wrong[-1]:g}, but there are only classes 0 to {classes}; check the task")


def _check_same_voxels(volume: Volume, truth: Volume, mask: Path) -> None:
    if truth.array.shape != volume.array.shape[:3]:
        sizes = f"{truth.array.shape} voxels, its picture {volume.array.shape[:3]}"
        raise ValueError(f"{mask} has {sizes}; resample the labels to the picture")
    places = [np.array([*v.spacing, *v.origin, *v.direction]) for v in (volume, truth)]
    if not np.allclose(*places, atol=1e-2):  # mm and direction cosines; a header rounds to float32
        raise ValueError(f"{mask} lies elsewhere in space than its picture; resample the labels to the picture")


def is_flat(folder: Path | str) -> bool:
    """Whether a data folder is itself a pair of images/ and masks/, without splits."""
    root = Path(folder)
    return (root / "images").is_dir() and not any((root / split).is_dir() for split in ("train", "val"))


def cases(folder: Path | str, split: str = "val") -> list[Case]:
    """List a split's cases by name; masks may be missing. A flat folder is the same in every split.

    Raises:
        ValueError: the folder holds no images in the layout above, or two images or masks for one name.
    """
    root = _split_of(Path(folder), split)
    found = list(_pairs(root))
    if not found:
        raise ValueError(
            f"{root} holds no pictures; expected images/NAME.png (or .jpg, .tif, .dcm) and masks/NAME.png in it, "
            "or volumes: images/NAME.nii.gz and masks/NAME.nii.gz"
        )
    return found


def _split_of(root: Path, split: str) -> Path:
    if (root / "train").is_dir() and not (root / split).is_dir():
        raise ValueError(f"{root} has train/ but no {split}/; add it, or choose another split")
    return root / split if (root / split).is_dir() else root


def _pairs(root: Path) -> Iterator[Case]:
    folders = _mask_folders(root)
    masks = [_by_name(path for path in _listed(folder) if _is_mask(path)) for folder in folders]
    images = [path for path in _listed(root / "images") if path.suffix.lower() in _PICTURES or is_volume(path)]
    for name, found in _by_name(images).items():
        if len(found) > 1:
            raise ValueError(f"{found[0]} and {found[1].name} have the same name but for case or ending; rename one")
        [image] = found
        of_readers = [_only(named.get(name, []), image) for named in masks]
        yield read_by(stem(image), image, of_readers, [f.name for f in folders])


def _mask_folders(root: Path) -> list[Path]:
    several = [folder for folder in root.glob("masks_*") if folder.name.removeprefix("masks_").isdecimal()]
    return sorted(several, key=lambda folder: int(folder.name.removeprefix("masks_"))) or [root / "masks"]


def _listed(folder: Path) -> list[Path]:
    """Return the files of a folder, by name, but for hidden ones."""
    return [path for path in sorted(folder.glob("*")) if not path.name.startswith(".") and path.is_file()]


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() in _MASKS or is_volume(path)


def _by_name(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[stem(path).casefold()].append(path)
    return dict(found)


def _only(masks: Sequence[Path], image: Path) -> Path | None:
    """Return the mask of an image; of several whose names differ in case only, the one with the image's own."""
    if len(masks) > 1:
        masks = [mask for mask in masks if stem(mask) == stem(image)] or masks
    if len(masks) > 1:
        raise ValueError(f"{image} has two masks, {masks[0]} and {masks[1].name}; remove one")
    return masks[0] if masks else None


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Images without a mask, masks without an image, and files among the masks that cannot be masks."""

    images: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    lossy: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.images or self.masks or self.lossy)

    def __str__(self) -> str:
        """Name every file."""
        kinds = (
            (self.images, "picture without a mask", "pictures without a mask"),
            (self.masks, "mask without a picture", "masks without a picture"),
            (
                self.lossy,
                "mask in a lossy format, which changes labels",
                "masks in a lossy format, which changes labels",
            ),
        )
        return "; ".join(
            f"{len(paths)} {one if len(paths) == 1 else several}: {', '.join(f'{p.parent.name}/{p.name}' for p in paths)}"
            for paths, one, several in kinds
            if paths
        )


def unpaired(found: Sequence[Case], extra: Sequence[Path] = ()) -> Unpaired:
    """Return what is left over: cases without a mask, and these masks without an image (`orphans`)."""
    return Unpaired(
        tuple(case.image for case in found if not case.mask or case.missing),
        tuple(path for path in extra if _is_mask(path)),
        tuple(path for path in extra if not _is_mask(path)),
    )


def orphans(folder: Path | str, split: str = "val") -> list[Path]:
    """List the masks of a split without an image of the same name, and masks that exist in a lossy format only."""
    root = _split_of(Path(folder), split)
    images = {stem(path).casefold() for path in _listed(root / "images")}
    found = []
    for place in _mask_folders(root):
        masks = [path for path in _listed(place) if _is_mask(path)]
        lossless = {stem(path).casefold() for path in masks}
        found += [path for path in masks if stem(path).casefold() not in images]
        lossy = (path for path in _listed(place) if path.suffix.lower() in _LOSSY)
        found += [path for path in lossy if stem(path).casefold() not in lossless]
    return found


def read_by(name: str, image: Path, masks: Sequence[Path | None], folders: Sequence[str]) -> Case:
    """Return the case of an image, with the masks of all readers that exist in these folders."""
    found = tuple(mask for mask in masks if mask)
    missing = "" if not found else ", ".join(f for f, mask in zip(folders, masks, strict=True) if not mask)
    return Case(name, image, found[0] if found else None, found if len(masks) > 1 else (), missing)
