"""Training batches whose randomness depends on (seed, sample number) only.

Sample n is image permutation(epoch)[n mod N], augmented by transforms seeded with (seed, n). A resumed run therefore
continues bit for bit, with any number of workers, and no generator state has to be saved.

If several readers annotated each image, all their masks are returned, in random order.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandAffineGrid,
    RandFlipd,
    RandGaussianNoise,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
)
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medsegdiff.data.dataset import hashed
from medsegdiff.data.folders import SLICES, Case, majority, thinned
from medsegdiff.data.synthetic import draw
from medsegdiff.data.tasks import TASKS, Task
from medsegdiff.image_ref import FILE_WINDOW

__all__ = ["Draws", "Pool", "batches", "transforms"]


class Pool:
    """Images and label images of one size, in memory as bytes.

    Arguments:
        pictures, labels: lists of the same length, of (h, w, 3) and (h, w) arrays.
        readers: (r, h, w) arrays if r readers annotated every image; labels are then their majority.
        names: of the images; "" for a synthetic one.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        readers: Sequence[np.ndarray] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.pictures: UInt8[np.ndarray, "n s s 3"] = np.stack(pictures)
        self.labels: UInt8[np.ndarray, "n s s"] = np.stack(labels)
        self.readers: UInt8[np.ndarray, "n r s s"] | None = np.stack(readers) if len(readers) else None
        self.names = tuple(names)

    @classmethod
    def of(
        cls,
        cases: Iterable[Case],
        classes: int,
        size: int,
        *,
        task: str | Task = "",
        empty: float | None = None,
        phantoms: float = 0.0,
        drawn: str = "",
        seed: int = 0,
        split: str = "train",
    ) -> "Pool":
        """Read cases, resized to size x size, and add synthetic images until they are the given share of the pool.

        Volumes are sliced along the task's axis; `empty` is the share of slices without a label among those that are kept, by
        default the task's. Synthetic images are those of the task `drawn`, by default of `task`.

        Raises:
            ValueError: a file cannot be used, or there are no images; the message names the split.
        """
        known = TASKS.get(task) if isinstance(task, str) else task
        axis = 2 if known is None else known.axis
        if empty is None:
            empty = 0.0 if known is None else known.empty
        pictures, labels, readers, names = [], [], [], []
        for case in cases:
            samples = case.samples(classes, axis, FILE_WINDOW if known is None else known.intensity)
            for sample in thinned(list(samples), empty) if case.is_volume else samples:
                image = Image.fromarray(sample.picture.pixels)
                pictures.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
                labels.append(_squeezed(sample.labels, size))
                names.append(sample.name)
                if sample.readers is not None:
                    readers.append(np.stack([_squeezed(mask, size) for mask in sample.readers]))
        if not pictures:
            raise ValueError(
                f"no volume of the {split} split has a slice with a label, so none is left; check the masks, or move volumes "
                "whose masks are not empty into it"
            )
        if readers:
            _check_readers(readers, names)
        for i in range(round(phantoms / (1 - phantoms) * len(pictures))):
            phantom = draw(
                drawn or str(task), 1_000_000 + 10_000 * seed + i, size, raters=len(readers[0]) if readers else 0
            )
            if readers and not phantom.disputed:
                raise ValueError("phantoms bring one mask each, these pictures several readers'; leave phantoms at 0")
            pictures.append(phantom.image)
            names.append("")
            labels.append(majority(np.stack(phantom.raters)) if readers else phantom.labels)
            if readers:
                readers.append(np.stack(phantom.raters))
        return cls(pictures, labels, readers, names)

    def only(self, chosen: np.ndarray) -> "Pool":
        """Return the pool of the images with these indices."""
        readers = () if self.readers is None else list(self.readers[chosen])
        names = [self.names[i] for i in chosen] if self.names else ()
        return Pool(list(self.pictures[chosen]), list(self.labels[chosen]), readers, names)

    def set_aside(self, count: int, pattern: str, recorded: Collection[str] = ()) -> tuple["Pool", "Pool"]:
        """Split off about `count` images, keeping patients (first group of the pattern in the names) together.

        Slices of a volume whose names have no patient are kept together too. Synthetic images are never split off. The images are
        the same for every seed, so that no stage of a training is judged by images an earlier one learned from. They depend on
        all names, so where a training has `recorded` the hashes of its patients (`patients`), these decide.

        Raises:
            ValueError: no training images would be left, or none held out.
        """
        patients = [_patient(name, pattern) for name in self.names]
        order = np.random.default_rng([0, 2]).permutation(sorted(set(patients) - {""})).tolist()
        rows = {patient: [] for patient in order}
        for i, patient in enumerate(patients):
            if patient:
                rows[patient].append(i)
        held: list[int] = []
        for patient in order:
            if hashed(patient) in recorded if recorded else len(held) < count:
                held += rows[patient]
        if recorded and not held:
            raise ValueError(
                "none of the images that training held out is here; give the folder that it was trained on"
            )
        if len(held) >= (real := sum(map(len, rows.values()))):
            raise ValueError(f"{count} of {real} images were to be held out; leave some to train on")
        aside = np.isin(np.arange(len(patients)), held)
        return self.only(np.flatnonzero(~aside)), self.only(np.flatnonzero(aside))

    def patients(self, pattern: str) -> list[str]:
        """Return the hashes of the patients (as `set_aside` finds them) of images that are not synthetic, sorted."""
        return sorted({hashed(_patient(name, pattern)) for name in self.names if name})

    def middle(self, side: int) -> "Pool":
        """Crop every image to its central square of this side, in pixels."""
        first = (self.pictures.shape[1] - side) // 2
        cut = slice(first, first + side)
        readers = () if self.readers is None else list(self.readers[:, :, cut, cut])
        return Pool(list(self.pictures[:, cut, cut]), list(self.labels[:, cut, cut]), readers, self.names)

    def few(self, count: int) -> "Pool":
        """Return a random sample of so many images, the same at every call."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.pictures))[:count])
        return self.only(chosen)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel, on the network's scale of -1 to 1."""
        sample = self.pictures[:: max(len(self.pictures) // 256, 1)].astype(np.float32) / 127.5 - 1
        return tuple(sample.mean((0, 1, 2)).round(4).tolist()), tuple(sample.std((0, 1, 2)).round(4).tolist())


def _patient(name: str, pattern: str) -> str:
    """Return the patient in the name of an image; of a slice without one, the volume."""
    for rule in filter(None, (pattern, SLICES)):
        if found := re.search(rule, name):
            return found[1]
    return name


def _squeezed(labels: UInt8[np.ndarray, "h w"], size: int) -> UInt8[np.ndarray, "s s"]:
    return np.asarray(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST))


def _check_readers(readers: Sequence[np.ndarray], names: Sequence[str]) -> None:
    if len(readers) < len(names):
        raise ValueError(f"{len(readers)} of {len(names)} pictures have several readers; train on those alone")
    counts = [len(masks) for masks in readers]
    if len(set(counts)) > 1:
        few, many = counts.index(min(counts)), counts.index(max(counts))
        raise ValueError(
            f"{names[few]} has {counts[few]} readers, {names[many]} {counts[many]}; give every picture as many, an empty "
            "mask for a reader who marked nothing"
        )


class _AffineGrid(RandAffineGrid):
    """MONAI's grid, with one zoom for both axes."""

    def randomize(self, data: Any | None = None) -> None:
        super().randomize(data)
        assert self.scale_params is not None
        self.scale_params *= 2  # a list with the zoom of the first axis


class _GreyNoise(RandGaussianNoise):
    """MONAI's noise, the same in every channel."""

    def randomize(self, img: Any, mean: float | None = None) -> None:
        super().randomize(img[:1], mean)


def transforms(task: str | Task, size: int, *, strong: bool = False) -> Compose:
    """Return the augmentation of a task: geometric for image and mask, intensity for the image.

    Coordinates are multiplied by a zoom of 0.8 to 1.2, strong 0.7 to 1.4, which enlarges by the inverse: 0.83 to 1.25, 0.71 to
    1.43.

    Arguments:
        task: which flips keep its anatomy, whether it has colours, and how often it is bent.
        size: sides of the images.
        strong: with the ranges and kinds of nnU-Net, and colours that vary twice as much.

    References:
        nnU-Net (Isensee et al., 2021), https://doi.org/10.1038/s41592-020-01008-z, supplement D
    """
    known = TASKS[task] if isinstance(task, str) else task
    turn = np.pi if known.mirror == (0, 1) else 0.26
    affine = RandAffined(
        keys=["image", "labels"],
        prob=known.bend,
        mode=["bilinear", "nearest"],
        padding_mode="reflection",
    )
    affine.rand_affine.rand_affine_grid = _AffineGrid(
        rotate_range=turn,
        shear_range=(0.1, 0.1),
        translate_range=(0.08 * size, 0.08 * size),
        scale_range=[(-0.3, 0.4) if strong else (-0.2, 0.2)],
    )
    flips = [RandFlipd(keys=["image", "labels"], prob=0.5, spatial_axis=axis) for axis in known.mirror]
    intensity = [
        RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.7, 1.5)),
        RandScaleIntensityd(keys="image", factors=0.15, prob=0.5, channel_wise=known.tint),
        RandShiftIntensityd(keys="image", offsets=0.1, prob=0.5, channel_wise=known.tint),
        RandGaussianSmoothd(keys="image", prob=0.1),
    ]
    if strong:
        noise = RandGaussianNoised(keys="image", prob=0.15, std=0.1)
        if not known.tint:
            noise.rand_gaussian_noise = _GreyNoise(prob=1.0, std=0.1)
        intensity = [
            RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.7, 1.5)),
            RandAdjustContrastd(keys="image", prob=0.1, gamma=(0.7, 1.5), invert_image=True),
            RandScaleIntensityd(keys="image", factors=0.3, prob=0.5, channel_wise=known.tint),
            RandShiftIntensityd(keys="image", offsets=0.2, prob=0.5, channel_wise=known.tint),
            noise,
            RandGaussianSmoothd(keys="image", prob=0.2, sigma_x=(0.5, 1.5), sigma_y=(0.5, 1.5)),
            RandSimulateLowResolutiond(keys="image", prob=0.25, zoom_range=(0.5, 1.0), upsample_mode="bilinear"),
        ]
    quarter = (
        [RandRotate90d(keys=["image", "labels"], prob=0.75, max_k=3)] if known.bend < 0.9 and turn == np.pi else []
    )
    return Compose([affine, *flips, *quarter, *intensity])


class Draws(Dataset):
    """An infinite data set; item n is sample n."""

    def __init__(
        self, pool: Pool, *, task: str | Task, seed: int, augment: bool, strong: bool = False, crop: int = 0
    ) -> None:
        self.pool, self.seed, self.crop = pool, seed, crop
        self.transform = transforms(task, pool.pictures.shape[1], strong=strong) if augment else None

    def __getitem__(self, n: int) -> tuple[Float32[Tensor, "3 s s"], UInt8[Tensor, "*r s s"]]:
        """Return the image in [-1, 1] and its labels, or those of every reader in random order."""
        epoch, place = divmod(n, len(self.pool.pictures))
        i = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pool.pictures))[place]
        image = self.pool.pictures[i].transpose(2, 0, 1).astype(np.float32) / 255
        masks = self.pool.labels[i][None] if self.pool.readers is None else self.pool.readers[i]
        labels = masks.astype(np.float32)
        if self.transform is not None:
            set_track_meta(False)
            self.transform.set_random_state(int(np.random.default_rng([self.seed, 1, n]).integers(2**31)))
            drawn: Any = self.transform({"image": image, "labels": labels})  # MONAI does not annotate it: a dictionary
            image, labels = drawn["image"], drawn["labels"]
        image = torch.as_tensor(image).clamp(0, 1) * 2 - 1
        labels = torch.as_tensor(labels).round().to(torch.uint8)
        generator = np.random.default_rng([self.seed, 3, n])
        if 0 < self.crop < image.shape[-1]:
            y, x = self._corner(generator, image.shape[-1])
            image, labels = (z[:, y : y + self.crop, x : x + self.crop].contiguous() for z in (image, labels))
        if self.pool.readers is None:
            return image, labels[0]
        return image, labels[torch.from_numpy(generator.permutation(len(labels)))]

    def _corner(self, generator: np.random.Generator, side: int) -> list[int]:
        """Return a random start of a crop, at most an eighth of its side off the centre."""
        room = side - self.crop
        off = generator.integers(-(self.crop // 8), self.crop // 8 + 1, 2)
        return np.clip(room // 2 + off, 0, room).tolist()


def batches(
    draws: Draws, *, batch: int, start: int, stop: int, workers: int = 1, rank: int = 0, world: int = 1
) -> Iterator:
    """Yield the batches of iterations start ... stop - 1; each of `world` processes takes every world-th sample."""
    numbers = range(start * batch * world + rank, stop * batch * world, world)
    loader = DataLoader(draws, batch, sampler=numbers, num_workers=workers, prefetch_factor=4 if workers else None)
    yield from loader
