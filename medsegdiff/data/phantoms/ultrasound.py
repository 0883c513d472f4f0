"""Synthetic B-mode ultrasound: a breast lesion and a thyroid nodule.

A scan line adds up the echoes of many scatterers smaller than a wavelength. Their sum is a complex Gaussian, so where
tissue returns the amplitude sigma the envelope is Rayleigh distributed, and the screen shows its logarithm:

    grey = gain + range * log(sigma * |n|),    n a complex Gaussian as wide as the beam, wider across than along it.

Images are therefore computed in decibels: tissue, layers, shadowing and enhancement are terms of one sum.

References:
    Speckle in ultrasound B-mode scans (Burckhardt, 1978)
"""

from math import pi, sqrt

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Scene, inside

__all__ = ["breast_ultrasound", "thyroid_nodule"]

_AREA = ((0, 0.1, 0.5, 0.75, 0.95, 1), (0.004, 0.012, 0.06, 0.13, 0.3, 0.42))  # quantiles, as shares of the scan


def breast_ultrasound(canvas: Canvas) -> Scene:
    """Draw a breast between two black bars: label 1 lesion."""
    between = canvas.between
    tall = between(0.62, 0.98)
    top = (1 - tall) / 2
    area = tall * float(np.interp(between(0, 1), *_AREA))
    ratio = between(1.1, 1.9)
    a = min(sqrt(area * ratio / pi), 0.45)
    b = min(area / pi / a, 0.36 * tall)
    rough = between(0.03, 0.1) if canvas.chance(0.65) else between(0.12, 0.3)  # smooth: benign, jagged: suspicious
    x = float(np.clip(canvas.rng.normal(0.5, 0.13), 0.1 + a * 0.5, 0.9 - a * 0.5))
    depth = max(b / tall + 0.08, between(0.22, 0.55))
    lesion = canvas.blob(x, top + depth * tall, a, b, between(-0.25, 0.25), rough=rough, lobes=9)
    lesion += canvas.cloud(12, 3) * (b * rough * 0.35)
    softness = b * (between(0.04, 0.1) if canvas.chance(0.6) else between(0.1, 0.25))

    down = (canvas.y - top) / tall  # 0 at the probe, 1 at the deepest echo
    tissue = _breast_layers(canvas, down)
    deep = between(-15, -7) if canvas.chance(0.75) else between(-7, -2)
    inner = deep + canvas.cloud(8, 4) * between(0.4, 2.2)
    tissue += inside(lesion, softness) * (inner - tissue * between(0.5, 1.0))
    if canvas.chance(0.5):  # a bright capsule
        tissue += np.exp(-((lesion / 0.012) ** 2)) * between(0, 7) * np.clip(canvas.field(8), 0, 1.5)
    tissue += _below(canvas, lesion, between(2, 11) if canvas.chance(0.6) else between(-14, -3))
    grey = _screen(canvas, tissue - down * between(0, 14), rows=(150, 256), columns=(80, 150))
    frame = inside(np.abs(canvas.y - 0.5) - tall / 2, 0.002)
    labels = ((lesion < 0) & (np.abs(canvas.y - 0.5) < tall / 2)).astype(np.uint8)
    return Scene((grey * frame)[..., None].repeat(3, -1), labels, min(softness, 0.03))


def thyroid_nodule(canvas: Canvas) -> Scene:
    """Draw a crop around a nodule: label 1."""
    between = canvas.between
    area, ratio = between(0.13, 0.5), between(0.85, 1.45)
    a = sqrt(area * ratio / pi)
    x, y = canvas.rng.normal(0.5, 0.015), canvas.rng.normal(0.5, 0.015)
    nodule = canvas.blob(x, y, a, area / pi / a, between(-0.4, 0.4), rough=between(0.02, 0.09), lobes=8)
    nodule += canvas.cloud(6, 2) * 0.006
    softness = between(0.012, 0.05)
    tissue = canvas.cloud(5, 4) * between(0.8, 2.4) + canvas.field(24, 9) * between(0.3, 1.8)
    edge = between(0.02, 0.2) + canvas.field(3) * 0.03  # strap muscles above the gland
    muscle = inside(canvas.y - edge, 0.02)
    tissue += muscle * (canvas.field(36, 6) * 2.5 - between(0, 7))
    tissue += np.exp(-(((canvas.y - edge) / 0.012) ** 2)) * between(0, 9)
    if canvas.chance(0.5):  # a vessel beside the nodule
        x, y = 0.5 + canvas.side() * between(0.42, 0.55), between(0.3, 0.75)
        vessel = canvas.blob(x, y, between(0.08, 0.17), between(0.06, 0.14), rough=0.06)
        tissue -= inside(vessel, 0.03) * (nodule > 0) * between(4, 12)
    floor = between(0.82, 1.1) + canvas.field(4) * 0.03
    tissue += np.exp(-(((canvas.y - floor) / 0.03) ** 2)) * between(0, 12)
    tissue -= inside(floor + 0.05 - canvas.y, 0.03) * between(0, 10)

    level = between(-6, -2) if canvas.chance(0.75) else between(-2, 2.5)
    inner = level + canvas.cloud(5, 4) * between(0.6, 2.6) + canvas.field(18, 14) * between(0, 1.5)
    body = inside(nodule, softness)
    tissue += body * (inner - tissue * 0.9)
    if canvas.chance(0.45):  # a dark halo
        ring = np.exp(-((nodule / between(0.012, 0.03)) ** 2))
        tissue -= ring * between(1, 6) * np.clip(canvas.field(5) * 0.5 + 0.7, 0, 1.4)
    if canvas.chance(0.35):  # cysts
        tissue -= body * inside(between(0.9, 1.6) - canvas.cloud(5, 2), 0.2) * between(5, 14)
    if canvas.chance(0.35):  # calcifications
        specks = np.maximum(canvas.field(40, 30) - between(1.7, 2.6), 0)
        tissue += body * np.minimum(specks * 12, 12) * np.clip(canvas.field(4), 0, 1)
    tissue += _below(canvas, nodule, between(-4, 7))
    grey = _screen(canvas, tissue, rows=(44, 130), columns=(26, 80))
    return Scene(grey[..., None].repeat(3, -1), (nodule < 0).astype(np.uint8), softness)


def _breast_layers(canvas: Canvas, down: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """Return the layers in decibels: skin, fat with septa, gland, muscle and ribs."""
    between = canvas.between
    wavy = down + canvas.field(4) * 0.03
    gland, wall = between(0.12, 0.35), between(0.55, 0.95)
    septa = np.exp(-((canvas.field(34, 5) / 0.2) ** 2))
    tissue = canvas.cloud(6, 4) * between(0.8, 2.5) - between(0, 3)
    tissue += (canvas.field(26, 9) + canvas.field(64, 20)) * between(0.8, 3.0)
    tissue += septa * between(2, 9) * np.clip(canvas.field(5) * 0.7 + 0.5, 0, 1.5)
    tissue += inside(gland - wavy, 0.03) * (between(1, 7) + canvas.cloud(16, 2) * between(0, 3))
    sheets = canvas.field(40, 4) * between(2, 6) - between(0, 6)
    tissue += inside(wall - wavy, 0.03) * sheets
    for at, width, height in ((0.012, 0.01, between(8, 14)), (between(0.03, 0.06), 0.008, between(0, 8))):
        tissue += np.exp(-(((wavy - at) / width) ** 2)) * height
    if canvas.chance(0.4):  # dark lobules of fat, or dropped contact
        tissue -= np.maximum(canvas.field(9, 5) - 0.4, 0) * between(3, 10)
    if canvas.chance(0.3):
        tissue -= np.maximum(canvas.field(1, 7), 0) * down * between(3, 16)
    return tissue


def _below(canvas: Canvas, shape: Float[ndarray, "h w"], gain: float) -> Float[ndarray, "h w"]:
    """Brighten (gain > 0) or shadow (gain < 0) what lies behind a shape, fading with depth."""
    crossed = np.cumsum(shape < 0, axis=0, dtype=np.float32) / canvas.size
    behind = (shape > 0) * (crossed > 0)
    fade = np.exp(-np.maximum(shape, 0) / canvas.between(0.1, 0.4))
    chord = crossed / (crossed.max() + 1e-6)
    return behind * chord * fade * gain


def _screen(
    canvas: Canvas, decibels: Float[ndarray, "h w"], rows: tuple[float, float], columns: tuple[float, float]
) -> Float[ndarray, "h w"]:
    """Convert echo strength to grey values with speckle and log compression; the cells are the resolution of the beam."""
    between = canvas.between
    cells = int(between(*rows)), int(between(*columns))
    scan = Canvas(256, canvas.rng)  # speckle is computed at a fixed size, whatever the size of the image
    real, imaginary = scan.field(*cells), scan.field(*cells)
    speckle = canvas.resample(10 * np.log10(real * real + imaginary * imaginary + 0.35) - 2)
    coarse = canvas.field(cells[0] // 3, cells[1] // 3) * between(0.3, 1.6)  # scatterers come in clusters
    fine = canvas.field(256) * between(0.2, 1.0)
    shown = (decibels + speckle * between(0.6, 1.2) + coarse + fine) / between(26, 42)
    return np.logaddexp(0, (between(0.24, 0.4) + shown) * 12) / 12  # smooth clipping at black
