"""Training batches in which everything random is a function of (seed, draw number).

Draw n shows picture permutation(epoch)[n mod N], bent and tinted by transforms seeded with (seed, n). So a resumed run
continues bit for bit, whatever the number of workers, and no generator's state has to be saved.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medsegdiff.data.folders import Case, thinned
from medsegdiff.data.synthetic import draw
from medsegdiff.data.tasks import TASKS, axis_of

__all__ = ["Draws", "Pool", "batches", "transforms"]


class Pool:
    """Pictures and label images of one size, held in memory as bytes.

    Arguments:
        pictures, labels: equally many (h, w, 3) and (h, w) arrays.
    """

    def __init__(self, pictures: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> None:
        self.pictures: UInt8[np.ndarray, "n s s 3"] = np.stack(pictures)
        self.labels: UInt8[np.ndarray, "n s s"] = np.stack(labels)

    @classmethod
    def of(
        cls,
        cases: Iterable[Case],
        classes: int,
        size: int,
        *,
        task: str = "",
        empty: float | None = None,
        phantoms: float = 0.0,
        seed: int = 0,
    ) -> "Pool":
        """Read cases, squeezed to size x size, and add drawn phantoms until they are the given share of the pool.

        Volumes are sliced as the task wants it; `empty` is the share of slices without a label among those that are
        kept, by default the task's.
        """
        axis = axis_of(task)
        if empty is None:
            empty = TASKS[task].empty if task in TASKS else 0.0
        pictures, labels = [], []
        for case in cases:
            samples = case.samples(classes, axis)
            for sample in thinned(list(samples), empty) if case.is_volume else samples:
                image, mask = Image.fromarray(sample.picture.pixels), Image.fromarray(sample.labels)
                pictures.append(np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)))
                labels.append(np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)))
        for i in range(round(phantoms / (1 - phantoms) * len(pictures))):
            phantom = draw(task, 1_000_000 + 10_000 * seed + i, size, raters=0)
            pictures.append(phantom.image)
            labels.append(phantom.labels)
        return cls(pictures, labels)

    def few(self, count: int) -> "Pool":
        """Keep so many pictures, chosen by chance that is always the same."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self.pictures))[:count])
        return Pool(list(self.pictures[chosen]), list(self.labels[chosen]))

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, on the network's scale of -1 to 1."""
        sample = self.pictures[:: max(len(self.pictures) // 256, 1)].astype(np.float32) / 127.5 - 1
        return tuple(sample.mean((0, 1, 2)).round(4).tolist()), tuple(sample.std((0, 1, 2)).round(4).tolist())


def transforms(task: str, size: int) -> Compose:
    """Geometry for picture and mask together, intensity for the picture alone, as far as the task allows."""
    known = TASKS[task]
    turn = np.pi if known.mirror == (0, 1) else 0.26
    affine = RandAffined(
        keys=["image", "labels"],
        prob=0.9,
        rotate_range=turn,
        scale_range=0.2,
        translate_range=0.08 * size,
        shear_range=0.1,
        mode=["bilinear", "nearest"],
        padding_mode="reflection",
    )
    flips = [RandFlipd(keys=["image", "labels"], prob=0.5, spatial_axis=axis) for axis in known.mirror]
    intensity = [
        RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.7, 1.5)),
        RandScaleIntensityd(keys="image", factors=0.15, prob=0.5, channel_wise=known.tint),
        RandShiftIntensityd(keys="image", offsets=0.1, prob=0.5, channel_wise=known.tint),
        RandGaussianSmoothd(keys="image", prob=0.1),
    ]
    return Compose([affine, *flips, *intensity])


class Draws(Dataset):
    """An endless data set: item n is draw n."""

    def __init__(self, pool: Pool, *, task: str, seed: int, augment: bool) -> None:
        self.pool, self.seed = pool, seed
        self.transform = transforms(task, pool.pictures.shape[1]) if augment else None

    def __getitem__(self, n: int) -> tuple[Float32[Tensor, "3 s s"], UInt8[Tensor, "s s"]]:
        """Return the image in [-1, 1] and its labels."""
        epoch, place = divmod(n, len(self.pool.pictures))
        i = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pool.pictures))[place]
        image = self.pool.pictures[i].transpose(2, 0, 1).astype(np.float32) / 255
        labels = self.pool.labels[i][None].astype(np.float32)
        if self.transform is not None:
            set_track_meta(False)
            self.transform.set_random_state(int(np.random.default_rng([self.seed, 1, n]).integers(2**31)))
            drawn: Any = self.transform({"image": image, "labels": labels})  # MONAI does not say: a dictionary
            image, labels = drawn["image"], drawn["labels"]
        image = torch.as_tensor(image).clamp(0, 1) * 2 - 1
        return image, torch.as_tensor(labels)[0].round().to(torch.uint8)


def batches(
    draws: Draws, *, batch: int, start: int, stop: int, workers: int = 1, rank: int = 0, world: int = 1
) -> Iterator:
    """Yield the batches of iterations start ... stop - 1; of `world` processes each takes every world-th draw."""
    numbers = range(start * batch * world + rank, stop * batch * world, world)
    loader = DataLoader(draws, batch, sampler=numbers, num_workers=workers, prefetch_factor=4 if workers else None)
    yield from loader
