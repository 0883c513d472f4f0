"""Synthetic images (phantoms) of twelve medical tasks, generated from a seed, with exact masks.

The image is drawn from known borders, so `labels` is the ground truth. Simulated raters add variation: the softer a border in the
image, the farther they move it. With P_c the share of class c in the smoothed neighbourhood of a pixel, rater r assigns

    argmax_c  log P_c + a_rc + w_r [c > 0],

with a_rc a constant bias for class c and w_r a smooth random field; borders shift by about 0.6 * blur * (a + w).

Readers of lung nodules disagree about more than borders: the painter draws each reader's mask (`phantoms.lung`), and a prediction
is compared with all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageFilter

from medsegdiff.data import tasks
from medsegdiff.data.canvas import Canvas, Scene
from medsegdiff.data.phantoms.abdomen import abdomen_ct, abdomen_mr
from medsegdiff.data.phantoms.chest import chest_xray
from medsegdiff.data.phantoms.colon import polyp
from medsegdiff.data.phantoms.fundus import optic_disc, optic_disc_cup
from medsegdiff.data.phantoms.head import brain_flair, hippocampus
from medsegdiff.data.phantoms.lung import lung_nodule
from medsegdiff.data.phantoms.skin import skin_lesion
from medsegdiff.data.phantoms.ultrasound import breast_ultrasound, thyroid_nodule

__all__ = ["TASKS", "Phantom", "draw"]

_PAINTERS: dict[str, Callable[[Canvas], Scene]] = {
    "skin-lesion": skin_lesion,
    "optic-disc-cup": optic_disc_cup,
    "optic-disc": optic_disc,
    "breast-ultrasound": breast_ultrasound,
    "thyroid-nodule": thyroid_nodule,
    "brain-flair": brain_flair,
    "abdomen-ct": abdomen_ct,
    "abdomen-mr": abdomen_mr,
    "hippocampus": hippocampus,
    "lung-nodule": lung_nodule,
    "polyp": polyp,
    "chest-xray": chest_xray,
}
_SIDES = {"lung-nodule": 128}  # of the pictures that the task's data has, where that is not 256

TASKS: dict[str, tuple[str, ...]] = {task: tasks.TASKS[task].labels for task in _PAINTERS}
"""Names of the classes 1..K of every task."""


@dataclass(frozen=True, slots=True)
class Phantom:
    """One synthetic image with its ground truth and the raters' masks."""

    task: str
    seed: int
    image: UInt8[ndarray, "h w 3"]
    labels: UInt8[ndarray, "h w"]  # 0 background, 1..K as in TASKS[task]
    raters: tuple[UInt8[ndarray, "h w"], ...]
    disputed: bool = False  # whether raters disagree about more than borders

    @property
    def references(self) -> tuple[UInt8[ndarray, "h w"], ...]:
        """Reference masks to compare a prediction with: the ground truth, or every reader's mask where readers disagree."""
        return self.raters if self.disputed and self.raters else (self.labels,)


def draw(task: str, seed: int, size: int = 0, *, raters: int = 4) -> Phantom:
    """Generate the synthetic image of a seed; the scene does not depend on the size or the number of raters.

    Size 0 is that of the task's own images: 128 for lung nodules, else 256.

    Raises:
        ValueError: the task is unknown.
    """
    if task not in _PAINTERS:
        raise ValueError(f"no phantom of task {task!r}; choose one of {', '.join(TASKS)}")
    size = size or _SIDES.get(task, 256)
    root = (crc32(task.encode()), seed)
    scene = _PAINTERS[task](Canvas(size, np.random.default_rng(root)))
    image = (np.clip(scene.image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if scene.read is None:
        return Phantom(task, seed, image, scene.labels, _redraw(scene, root, raters))
    readers = (scene.read(Canvas(size, np.random.default_rng((*root, r + 1))), r) for r in range(raters))
    return Phantom(task, seed, image, scene.labels, tuple(readers), disputed=True)


def _redraw(scene: Scene, seed: tuple[int, int], raters: int) -> tuple[UInt8[ndarray, "h w"], ...]:
    """Return the raters' masks of a scene; borders move by no more than its softness."""
    size = len(scene.labels)
    blur = ImageFilter.GaussianBlur(max(scene.softness, 0.004) * size)
    sheets = {c: Image.fromarray((scene.labels == c).astype(np.uint8) * 255) for c in np.unique(scene.labels)}
    scores = {c: np.log(np.asarray(sheet.filter(blur), np.float32) + 1) for c, sheet in sheets.items()}
    opinions = []
    for r in range(raters):
        canvas = Canvas(size, np.random.default_rng((*seed, r + 1)))
        taste = canvas.rng.normal(0, 0.6) + canvas.field(5) * np.float32(0.7)
        best, opinion = np.full((size, size), -np.inf, np.float32), np.zeros_like(scene.labels)
        for c, score in scores.items():
            wish = score + np.float32(canvas.rng.normal(0, 0.3)) + (taste if c else np.float32(0))
            opinion[wish > best] = c
            best = np.maximum(best, wish)
        opinions.append(opinion)
    return tuple(opinions)
