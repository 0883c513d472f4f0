"""Synthetic colonoscopic images of a polyp.

The bowel is a tube seen from within. A lamp beside the lens lights its wall, so the lumen is dark; folds are arcs about it,
each with a lit edge. A polyp is a dome on the wall, brightest on top and on the side that faces the lamp:

    shade = a + b h + c (grad h . l),    h = sqrt(1 - (1 + d / r)^2),

with h its height, l the direction to the lamp, d the signed distance to its border and r its radius. Wet tissue mirrors the lamp.
Sizes follow the quantiles of Kvasir-SEG: half of the polyps cover less than 12 % of the image.
"""

from math import cos, pi, sin, sqrt

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Scene, inside, mix, rgb

__all__ = ["polyp"]

_AREA = ((0.0, 0.1, 0.25, 0.5, 0.75, 0.95, 1.0), (0.012, 0.036, 0.06, 0.118, 0.21, 0.4, 0.55))


def polyp(canvas: Canvas) -> Scene:
    """Draw one polyp on the wall of the bowel: label 1."""
    between = canvas.between
    area, ratio = float(np.interp(between(0, 1), *_AREA)), between(1.0, 1.5)
    a, b = sqrt(area * ratio / pi), sqrt(area / ratio / pi)
    angle = between(0, 2 * pi)
    lumen = 0.5 + 0.3 * cos(angle), 0.5 + 0.3 * sin(angle)
    away = max(0.0, between(0.05, 0.24) - a * 0.2)  # the polyp stands on the wall opposite to the lumen
    x, y = 0.5 - away * cos(angle) + canvas.rng.normal(0, 0.03), 0.5 - away * sin(angle) + canvas.rng.normal(0, 0.03)
    border = canvas.blob(x, y, a, b, between(0, pi), rough=between(0.03, 0.14), lobes=6)
    border += canvas.cloud(8, 2) * (b * between(0.01, 0.06))
    softness = b * (between(0.03, 0.08) if canvas.chance(0.6) else between(0.08, 0.2))

    tone = rgb(1, between(0.42, 0.6), between(0.28, 0.46))
    depth, shade = _wall(canvas, lumen)
    mottle = canvas.cloud(6, 4) * between(0.02, 0.07)
    picture = tone * ((1.05 * shade + mottle) * np.exp(-1.7 * depth))[..., None] * between(0.75, 1.05)
    picture = mix(picture, picture * rgb(0.7, 0.32, 0.35), _vessels(canvas) * between(0.1, 0.6))
    picture = _dome(canvas, picture, border, min(a, b), softness, tone)
    picture = _glints(canvas, picture, border, b)
    if canvas.chance(0.4):  # the rest of a meal, yellow and green
        fluid = inside(canvas.cloud(4, 3) + between(1.0, 1.8), 0.1) * (border > 0.02)
        picture = mix(picture, rgb(0.55, 0.5, 0.15) * between(0.6, 1.3), fluid * between(0.3, 0.8))
    picture = picture * (1 + canvas.rng.normal(0, 0.03, 3)).astype(np.float32)
    picture += canvas.field(200)[..., None] * between(0.003, 0.012)
    frame = _frame(canvas)
    return Scene(picture * frame[..., None], ((border < 0) & (frame > 0.5)).astype(np.uint8), min(softness, 0.04))


def _wall(canvas: Canvas, lumen: tuple[float, float]) -> tuple[Float[ndarray, "h w"], Float[ndarray, "h w"]]:
    """Return the depth of the wall, 1 in the lumen, and the light that its folds catch."""
    between = canvas.between
    x, y = canvas.x - np.float32(lumen[0]), canvas.y - np.float32(lumen[1])
    radius = np.hypot(x, y) + canvas.field(5) * np.float32(0.035)
    depth = np.exp(-((np.maximum(radius, 0) / between(0.1, 0.24)) ** 2)) * between(0.7, 1.3)
    folds = between(1.6, 3.6) * np.log(np.maximum(radius, 0.03) / 0.03) + canvas.field(4) * between(0.2, 0.6)
    saw = folds - np.floor(folds)  # every fold: a lit edge, then a slow fall into the shade of the next one
    shape = np.exp(-saw * 2.2) + np.exp(-(((1 - saw) / 0.16) ** 2))
    shade = 0.78 + (shape - 0.45) * between(0.1, 0.4) * np.clip(canvas.field(4) * 0.5 + 0.7, 0.1, 1.4)
    lamp = np.hypot(canvas.x - between(0.35, 0.65), canvas.y - between(0.35, 0.65))
    return depth, shade * (1.1 - between(0.2, 0.7) * lamp)


def _vessels(canvas: Canvas) -> Float[ndarray, "h w"]:
    """Return the coverage of fine vessels that shine through the mucosa."""
    between = canvas.between
    lines = []
    for _ in range(canvas.whole(6, 28)):
        x, y = canvas.rng.uniform(0, 1, 2)
        path = canvas.curve(x, y, between(0, 2 * pi), between(0.1, 0.45), wobble=0.5, turn=between(-1.5, 1.5))
        lines.append((path, between(0.001, 0.005)))
    return canvas.strokes(lines)


def _dome(
    canvas: Canvas,
    picture: Float[ndarray, "h w 3"],
    border: Float[ndarray, "h w"],
    radius: float,
    softness: float,
    tone: Float[ndarray, " 3"],
) -> Float[ndarray, "h w 3"]:
    """Raise the polyp from the wall: its own colour, light by the slope of a dome, a shadow beside it."""
    between = canvas.between
    rim = np.clip(1 + border / np.float32(radius * between(0.8, 1.6)), 0, 1)  # 0 on the top, 1 at the border
    height = np.sqrt(np.maximum(1 - rim**2, 0))
    slope_y, slope_x = np.gradient(height, 1 / canvas.size)
    toward = between(0, 2 * pi)
    lean = np.tanh((slope_x * cos(toward) + slope_y * sin(toward)) * radius * 0.8)
    light = between(0.72, 0.98) * (0.55 + 0.45 * height) * (1 + between(0.1, 0.35) * lean)
    light += canvas.cloud(int(np.clip(1.2 / radius, 4, 24)), 4) * between(0.015, 0.07)
    if canvas.chance(0.4):  # pits and granules
        light += canvas.field(int(between(40, 80))) * between(0.02, 0.07)
    redder = between(-0.06, 0.16) if canvas.chance(0.75) else between(-0.1, 0.02)
    colour = tone * rgb(1.05, 1 - redder * 1.4, 1 - redder)
    shadow = np.exp(-((np.maximum(border, 0) / (radius * between(0.1, 0.35))) ** 2)) * between(0.05, 0.45)
    below = picture * (1 - shadow * np.clip(0.6 - 0.4 * canvas.field(3), 0, 1))[..., None]
    return mix(below, colour * light[..., None], inside(border, softness) * between(0.85, 1.0))


def _glints(
    canvas: Canvas, picture: Float[ndarray, "h w 3"], border: Float[ndarray, "h w"], radius: float
) -> Float[ndarray, "h w 3"]:
    """Add the reflections of the lamp in wet tissue, most of them on the polyp and on folds."""
    between = canvas.between
    wet = np.maximum(canvas.field(int(between(30, 60))) - between(1.6, 2.4), 0) * np.clip(canvas.field(5), 0, 1.5)
    near = 0.6 + np.exp(-((border / np.float32(radius)) ** 2))
    picture = mix(picture, (1.0, 0.98, 0.96), np.clip(wet * near * between(1.0, 3.0), 0, 1))
    if canvas.chance(0.6):
        top = np.unravel_index(int(border.argmin()), border.shape)
        x, y = float(canvas.x[top]) + between(-0.3, 0.3) * radius, float(canvas.y[top]) + between(-0.3, 0.3) * radius
        spot = canvas.blob(x, y, radius * between(0.05, 0.14), radius * between(0.04, 0.1), between(0, pi), rough=0.2)
        picture = mix(picture, (1.0, 0.98, 0.95), inside(spot, 0.008) * between(0.6, 1))
    return picture


def _frame(canvas: Canvas) -> Float[ndarray, "h w"]:
    """Return where the endoscope shows something: a square with cut corners, or most of it, and no corner picture."""
    between = canvas.between
    corners = np.abs(canvas.x - 0.5) + np.abs(canvas.y - 0.5)
    frame = inside(corners - between(0.72, 0.86), 0.004) if canvas.chance(0.8) else np.ones_like(canvas.x)
    if canvas.chance(0.3):  # the black box of the scope guide
        side = between(0.2, 0.36)
        frame = frame * (1 - ((canvas.x < side) & (canvas.y > 1 - side)))
    return frame.astype(np.float32)
