"""Synthetic MR images of the head: a glioma in an axial slice, and the hippocampus in a sagittal slice.

Contrast is a table of tissues. White matter is brighter than grey matter in T1 and darker in FLAIR; water is dark in
both; oedema and tumour are bright in FLAIR and dark in T1; tissue without blood-brain barrier enhances after contrast.
"""

from math import pi, sqrt

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Scene, inside, mix, rgb

__all__ = ["brain_flair", "hippocampus"]

#                T1    FLAIR  T1 + contrast
_WHITE = rgb(0.60, 0.42, 0.58)
_GREY = rgb(0.45, 0.55, 0.47)
_WATER = rgb(0.10, 0.07, 0.10)
_FAT = rgb(1.00, 0.85, 0.95)
_AREA = ((0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), (0.003, 0.006, 0.014, 0.028, 0.05, 0.09, 0.12))  # quantiles of gliomas


def brain_flair(canvas: Canvas) -> Scene:
    """Draw T1, FLAIR and enhanced T1 as R, G, B: label 1 FLAIR abnormality, absent in one slice of seven."""
    between = canvas.between
    canvas.turn(canvas.rng.normal(0, 0.06))
    high = canvas.chance(0.3)  # above the ventricles
    a = between(0.25, 0.31) if high else between(0.29, 0.36)
    cx, cy = between(0.47, 0.53), between(0.47, 0.53)
    head = canvas.blob(cx, cy, a, a * between(1.2, 1.35), rough=0.025, lobes=5)
    brain = head + between(0.034, 0.05) + canvas.field(24) * 0.002
    x, y = canvas.x - cx + canvas.field(4) * 0.004, canvas.y - cy

    folds = canvas.cloud(int(between(14, 20)), 2)
    shallow = np.clip(1 + brain / between(0.09, 0.2), 0, 1)  # 1 at the surface, 0 in the depth
    sulci = np.exp(-((folds / between(0.15, 0.4)) ** 2)) * shallow * np.clip(canvas.field(5) * 0.6 + 0.8, 0, 1)
    cleft = np.exp(-((x / 0.006) ** 2)) * (1.0 if high else np.clip((np.abs(y) - 0.1) * 20, 0, 1))
    cortex = np.maximum(np.exp(-((folds / 0.7) ** 2)) * np.sqrt(shallow), inside(-brain - 0.014, 0.006))
    nuclei = np.minimum(*(canvas.blob(cx + s * 0.075, cy + 0.01, 0.045, 0.075, s * 0.4, rough=0.05) for s in (-1, 1)))
    grey = np.clip(cortex + (0 if high else 0.8 * inside(nuclei, 0.012)), 0, 1)
    ventricle = _ventricles(canvas, cx, cy, between(0.6, 1.5)) if not high else np.full_like(head, 1.0)
    water = sulci * between(0.3, 0.9) + cleft * 0.7 + inside(-brain - 0.004, 0.003) + inside(ventricle, 0.004)

    tissue = mix(np.broadcast_to(_WHITE, (*head.shape, 3)), _GREY, grey)
    tissue = tissue * (1 + canvas.cloud(30, 3)[..., None] * between(0.02, 0.07))
    caps = np.exp(-np.maximum(ventricle, 0) / 0.012) * between(0, 0.12)
    tissue = tissue + caps[..., None] * rgb(0, 1, 0)
    labels = np.zeros(head.shape, np.uint8)
    softness = between(0.006, 0.02)
    if canvas.chance(6 / 7):
        lesion = _glioma(canvas, cx + canvas.side() * a * between(0.3, 0.6), cy + a * between(-0.7, 0.65))
        lesion = np.maximum(lesion, brain + 0.012)
        tissue = _abnormal(canvas, tissue, lesion, softness)
        labels = ((lesion < 0) & (ventricle > 0)).astype(np.uint8)
    tissue = mix(tissue, _WATER, np.minimum(water, 1))
    sinus = canvas.ellipse(cx, cy + a * 1.13, 0.014, 0.018)
    veins = np.maximum(canvas.field(34) - 2.0, 0) * shallow + inside(sinus, 0.005)
    tissue = tissue + veins[..., None] * rgb(0, 0, between(0.2, 0.6))
    return Scene(_scan(canvas, tissue, head, brain), labels, softness)


def hippocampus(canvas: Canvas) -> Scene:
    """Draw a sagittal slice, front to the left: label 1 the anterior hippocampus (head), 2 the posterior."""
    between = canvas.between
    tail = np.array([between(0.1, 0.18), between(0.16, 0.32)])
    head = np.array([between(0.76, 0.88), between(0.68, 0.8)])
    along = np.linspace(0, 1, 9)
    path = tail + (head - tail) * along[:, None]
    path += np.sin(along * pi)[:, None] * np.array([-1, 1]) * between(0.02, 0.07) + canvas.rng.normal(0, 0.006, (9, 2))
    width = np.interp(along, (0, 0.15, 0.5, 0.78, 1), (0.035, 0.05, 0.06, 0.105, 0.06)) * between(0.85, 1.2)
    shape = canvas.tube(path, width) + canvas.field(9) * 0.008
    split = float(path[5, 0]) + between(-0.03, 0.03)

    line = np.interp(canvas.x, path[:, 0], path[:, 1]).astype(np.float32)
    over = line - canvas.y + canvas.field(4) * 0.02  # height above the hippocampus
    white, grey, water = between(0.7, 0.9), between(0.38, 0.55), between(0.03, 0.18)
    picture = white + canvas.cloud(6, 3) * 0.05
    front = inside(between(0.55, 0.7) - canvas.x + canvas.field(5) * 0.05, 0.09) * inside(
        np.abs(over - 0.2) - 0.12, 0.06
    )
    picture += front * (grey * between(1.05, 1.3) - picture)  # the amygdala and the grey matter before it
    ribbon = np.cos(over * (2 * pi / between(0.2, 0.32)) + canvas.cloud(4, 2) * between(0.8, 1.6))
    folded = inside(over + between(0.11, 0.15), 0.015)
    picture += folded * (grey + (white - grey) * np.clip(ribbon * 0.9 + 0.3, -0.4, 1) - picture)
    horn = canvas.tube(path[5:] - np.array([0, 0.1]), np.full(4, 0.03) * between(0.5, 1.4))  # temporal, over the head
    trigone = canvas.blob(between(0, 0.12), between(-0.05, 0.12), 0.1, 0.16, rough=0.2)
    picture += inside(np.minimum(horn, trigone) + canvas.field(12) * 0.01, 0.015) * (water - picture)
    inner = grey * between(0.85, 1.15) + canvas.cloud(12, 2) * 0.05
    picture += inside(shape, 0.014) * (inner - picture)
    picture = picture * (1 + canvas.field(2) * 0.06) + canvas.field(44) * between(0.01, 0.05)
    labels = np.where(shape < 0, np.where(canvas.x < split, 2, 1), 0).astype(np.uint8)
    picture, labels = picture[:, ::-1], labels[:, ::-1]  # drawn front to the right, shown as sagittal slices are
    return Scene(picture[..., None].repeat(3, -1), labels, between(0.008, 0.018))


def _ventricles(canvas: Canvas, cx: float, cy: float, wide: float) -> Float[ndarray, "h w"]:
    """Return the distance to the lateral ventricles: an anterior and a posterior horn on each side, asymmetric."""
    parts = []
    for side in (-1, 1):
        w = wide * canvas.between(0.75, 1.25)
        parts.append(canvas.blob(cx + side * 0.03, cy - 0.07, 0.012 * w, 0.05, -side * 0.3, rough=0.12))
        parts.append(canvas.blob(cx + side * 0.052, cy + 0.1, 0.014 * w, 0.055, -side * 0.5, rough=0.12))
    return np.minimum.reduce(parts) + canvas.field(14) * 0.003


def _glioma(canvas: Canvas, x: float, y: float) -> Float[ndarray, "h w"]:
    """Return the distance to a lesion that extends along the white matter."""
    between = canvas.between
    area = float(np.interp(between(0, 1), *_AREA))
    ratio = between(1.0, 2.2)
    short = sqrt(area / ratio / pi)
    blob = canvas.blob(x, y, short, short * ratio, between(-0.6, 0.6), rough=between(0.08, 0.28), lobes=8)
    return blob + canvas.cloud(9, 3) * (min(short, 0.07) * between(0.1, 0.45))


def _abnormal(
    canvas: Canvas, tissue: Float[ndarray, "h w 3"], lesion: Float[ndarray, "h w"], softness: float
) -> Float[ndarray, "h w 3"]:
    """Add a lesion's signal, sometimes with a cyst or an enhancing part."""
    between = canvas.between
    body = inside(lesion + softness * 0.5, softness) * np.clip(1 + canvas.cloud(7, 4) * 0.25, 0.3, 1.5)
    change = rgb(-between(0.03, 0.18), between(0.16, 0.45), -between(0.0, 0.15))
    tissue = tissue + body[..., None] * change
    if canvas.chance(0.13):
        cyst = inside(lesion + between(0.02, 0.035), 0.006)
        tissue = mix(tissue, (0.12, between(0.1, 0.35), 0.12), cyst)
    if canvas.chance(0.3):
        core = lesion + between(0.02, 0.05) + canvas.cloud(10, 2) * 0.01
        tissue = tissue + inside(core, 0.008)[..., None] * rgb(0, 0.05, between(0.1, 0.5))
    return tissue


def _scan(
    canvas: Canvas, tissue: Float[ndarray, "h w 3"], head: Float[ndarray, "h w"], brain: Float[ndarray, "h w"]
) -> Float[ndarray, "h w 3"]:
    """Add skull and scalp, coil inhomogeneity, and the intensity scale of each sequence."""
    between = canvas.between
    skull = rgb(0.12, 0.08, 0.12) + canvas.field(30)[..., None] * 0.03
    rim = np.clip(1 + canvas.field(7) * 0.2, 0.4, 1.5)[..., None] * _FAT
    picture = mix(skull, tissue, inside(brain, 0.003))
    picture = mix(picture, rim, inside(np.abs(head + 0.012) - between(0.006, 0.014), 0.003))
    picture = picture * inside(head, 0.003)[..., None]
    gain = between(0.28, 0.62) * (1 + canvas.rng.normal(0, 0.15, 3)).clip(0.6, 1.5).astype(np.float32)
    shade = np.stack([1 + canvas.field(2) * 0.07 for _ in range(3)], -1)
    noise = np.stack([canvas.field(256) for _ in range(3)], -1) * between(0.004, 0.02)
    floor = rgb(between(0.1, 0.4), 0, 0) if canvas.chance(0.02) else 0  # a sequence that is missing
    return np.abs(picture * gain * shade + noise) + floor
