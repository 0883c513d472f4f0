"""Synthetic chest radiographs: both lungs and the heart, seen from the front.

A radiograph is a projection: grey grows with the water that the ray has crossed,

    grey = 1 - exp(-mu * sum of thicknesses),

so shapes add up where they overlap and the lungs are dark because air adds nothing. The patient faces the viewer: the right
lung is on the left of the image. Classes follow the SCR masks of JSRT, in which the heart is drawn over the left lung and the
diaphragm ends the lungs.
"""

from math import pi

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Line, Scene, inside

__all__ = ["chest_xray"]

RIGHT, LEFT, HEART = 1, 2, 3


def chest_xray(canvas: Canvas) -> Scene:
    """Draw one radiograph: labels 1 right lung (on the left of the image), 2 left lung, 3 heart."""
    between = canvas.between
    middle, top = 0.5 + canvas.rng.normal(0, 0.015), between(0.05, 0.14)
    floor = between(0.68, 0.82)
    wide, tall = between(0.15, 0.2), floor - top
    lungs = {}
    for label, side in ((RIGHT, -1), (LEFT, 1)):
        x = middle + side * (wide + between(0.045, 0.065))
        dome = floor + (0.0 if side < 0 else between(0.0, 0.03))
        lungs[label] = _lung(canvas, x, side, top, dome, wide * between(0.94, 1.06))
    size = between(0.15, 0.2)
    heart = canvas.blob(
        middle + size * between(0.2, 0.42),
        floor - size * between(0.55, 0.75),
        size * between(1.02, 1.2),
        size * between(0.72, 0.88),
        between(0.25, 0.6),
        rough=between(0.02, 0.06),
        lobes=5,
    )
    arch = canvas.blob(middle + 0.05, top + tall * between(0.3, 0.38), 0.045, between(0.05, 0.07), 0.0, rough=0.05)

    labels = np.zeros((canvas.size, canvas.size), np.uint8)
    labels[lungs[RIGHT] < 0] = RIGHT
    labels[(lungs[LEFT] < 0) & (arch > 0)] = LEFT
    labels[heart < 0] = HEART

    soft = between(0.008, 0.018)
    water = _trunk(canvas, middle, top, floor)
    air = sum(inside(lung, soft) for lung in lungs.values()) * between(0.68, 0.84)
    water = water * (1 - air)
    water += inside(np.abs(canvas.x - middle) - between(0.05, 0.075) - canvas.field(4) * 0.006, 0.02) * between(
        0.35, 0.6
    )
    water += inside(heart, soft * 1.4) * between(0.45, 0.8) + inside(arch, soft) * between(0.2, 0.45)
    water += _hila(canvas, middle, top + tall * between(0.5, 0.58), lungs)
    water += canvas.strokes(_ribs(canvas, middle, top, floor, wide)) * between(0.08, 0.2) * (0.35 + air)
    water += canvas.strokes(_clavicles(canvas, middle, top)) * between(0.12, 0.3)
    if canvas.chance(0.5):  # the gas bubble of the stomach, under the left dome
        bubble = canvas.blob(
            middle + between(0.14, 0.22), floor + between(0.06, 0.1), between(0.03, 0.07), 0.03, rough=0.15
        )
        water -= inside(bubble, 0.012) * between(0.1, 0.35)
    water += canvas.cloud(5, 3) * between(0.01, 0.035)
    grey = 1 - np.exp(-np.maximum(water, 0) * between(1.2, 1.9))
    grey = grey ** between(0.75, 1.1) + canvas.field(220) * between(0.002, 0.008)
    return Scene(np.repeat(grey[..., None], 3, -1), labels, soft)


def _lung(canvas: Canvas, x: float, side: int, top: float, floor: float, wide: float) -> Float[ndarray, "h w"]:
    """Return the signed distance to a lung: round at the apex, steep at the mediastinum, cut by the dome of the diaphragm."""
    between = canvas.between
    down = (canvas.y - top) / (floor - top)
    outward = (canvas.x - x) * side + canvas.field(6) * np.float32(0.006)
    outer = wide * (0.86 + between(0.22, 0.3) * np.clip(down, 0, 1.2)) * _round(down / between(0.5, 0.65))
    inner = wide * between(0.84, 0.95) * _round(down / between(0.22, 0.34))
    lean = np.clip(outward / wide + between(0.2, 0.4), 0, 1.6)  # the angle at the ribs lies deepest
    diaphragm = canvas.y - floor - between(0.035, 0.06) * lean**2
    return np.maximum.reduce([outward - outer, -outward - inner, diaphragm, top - canvas.y]).astype(np.float32)


def _round(share: Float[ndarray, "h w"]) -> Float[ndarray, "h w"]:
    """Return the half width of an arch, 0 at its top and 1 from `share` 1 on."""
    return np.sqrt(np.maximum(1 - (1 - np.clip(share, 0, 1)) ** 2, 0))


def _trunk(canvas: Canvas, middle: float, top: float, floor: float) -> Float[ndarray, "h w"]:
    """Return the soft tissue of neck, shoulders, chest wall and abdomen; beside it is air."""
    between = canvas.between
    half = np.interp(
        canvas.y, (0.0, top, top + 0.14, 0.5, 1.0), (0.13, 0.17, between(0.46, 0.54), 0.5, between(0.4, 0.47))
    )
    half = half + canvas.field(4) * 0.01
    water = inside(np.abs(canvas.x - middle) - half, 0.015) * between(1.2, 1.6)
    return water + inside(floor - canvas.y + 0.02, 0.03) * between(0.6, 1.1)  # liver and spleen


def _hila(canvas: Canvas, middle: float, y: float, lungs: dict[int, Float[ndarray, "h w"]]) -> Float[ndarray, "h w"]:
    """Return the vessels that branch from both hila into the lungs."""
    between = canvas.between
    lines: list[Line] = []
    for side in (-1, 1):
        for _ in range(canvas.whole(9, 16)):
            away = pi / 2 - side * pi / 2 + canvas.rng.normal(0.15 * side, 0.75)
            path = canvas.curve(middle + side * 0.08, y, away, between(0.1, 0.3), wobble=0.25)
            share = between(0.002, 0.005)
            lines += [(path[:12], share * 1.6), (path[11:], share)]
    inner = inside(np.minimum(lungs[RIGHT], lungs[LEFT]), 0.01)
    return canvas.strokes(lines) * inner * between(0.08, 0.22)


def _ribs(canvas: Canvas, middle: float, top: float, floor: float, wide: float) -> list[Line]:
    """Return the ribs of both sides: behind, falling outwards; in front, falling inwards and fainter."""
    between = canvas.between
    gap, lines = (floor - top) / between(8.5, 10.5), list[Line]()
    for side in (-1, 1):
        for i in range(10):
            share = np.linspace(0, 1, 24)
            reach = wide * (1.15 + 0.09 * i)
            x = middle + side * (0.04 + reach * share * (2 - 0.75 * share))
            lines.append(
                (np.stack([x, top - 0.02 + gap * i + 0.05 * share + 0.16 * share**3], 1), between(0.009, 0.014))
            )
    return lines


def _clavicles(canvas: Canvas, middle: float, top: float) -> list[Line]:
    """Return both collar bones."""
    rise, lines = canvas.between(0.0, 0.05), list[Line]()
    for side in (-1, 1):
        share = np.linspace(0, 1, 24)
        y = top + 0.08 - rise * share + 0.02 * np.sin(share * 2 * pi)
        lines.append((np.stack([middle + side * (0.03 + 0.34 * share), y], 1), 0.016))
    return lines
