"""Synthetic dermoscopic images of a pigmented skin lesion.

Pigment absorbs a share of the light at each wavelength, so a lesion multiplies the colour of the skin below it:

    lesion = skin * exp(-density * absorption),    absorption of melanin about (0.25, 0.7, 1) in R, G, B,

with less absorption of red in blood and more in the blue-white veil of deep pigment. Hair, gel, rulers and the round field of the
dermoscope are drawn on top. Lesion sizes follow the quantiles of dermoscopic data sets: 1 % to 70 % of the image, half
below 13 %.
"""

from math import cos, pi, sin, sqrt

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Line, Scene, inside, mix, rgb

__all__ = ["skin_lesion"]

_AREA = ((0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 1.0), (0.007, 0.015, 0.05, 0.132, 0.282, 0.46, 0.68))
_STRENGTH = ((0.0, 0.15, 0.6, 0.9, 1.0), (0.16, 0.32, 0.7, 1.2, 2.0))
_MELANIN = rgb(0.22, 0.68, 1.0)
_HEAP = rgb(0.28, 0.22, 0.1)  # heaped pigment turns from brown to black
_BLOOD = rgb(0.06, 0.85, 0.75)
_DEEP = rgb(0.95, 0.75, 0.55)  # pigment deep in the skin looks blue
_STICKERS = ((0.1, 0.5, 0.85), (0.95, 0.8, 0.2), (0.25, 0.65, 0.35), (0.85, 0.3, 0.2))


def skin_lesion(canvas: Canvas) -> Scene:
    """Draw one lesion on skin: label 1."""
    between = canvas.between
    area = float(np.interp(between(0, 1), *_AREA))
    ratio = between(1.0, 1.4) if area > 0.3 or canvas.chance(0.7) else between(1.4, 2.2)
    long, short = sqrt(area * ratio / pi), sqrt(area / ratio / pi)
    x, y = np.clip(canvas.rng.normal((0.5, 0.5), max(0.015, 0.075 - 0.15 * area)), 0.25, 0.75)
    rough = between(0.03, 0.14) if area > 0.35 or canvas.chance(0.65) else between(0.14, 0.32)
    border = canvas.blob(x, y, long, short, between(0, pi), rough=rough, lobes=9)
    border += canvas.cloud(10, 3) * (short * rough * between(0.1, 0.55))

    hard = canvas.chance(0.45)
    softness = short * (between(0.03, 0.09) if hard else between(0.1, 0.3))
    skin = _skin(canvas)
    light = _light(canvas)
    picture = skin * np.exp(-_absorption(canvas, border, short, softness)) * light
    picture = _overlay(canvas, picture, border)
    picture += canvas.field(256)[..., None] * between(0.002, 0.012)
    return Scene(picture, (border < 0).astype(np.uint8), min(softness, 0.05))


def _skin(canvas: Canvas) -> Float[ndarray, "h w 3"]:
    """Draw pale, pink, tan or grey skin, with blotches, freckles and fine lines."""
    between = canvas.between
    red = float(np.clip(canvas.rng.normal(0.78, 0.12), 0.45, 0.98))
    pink, tan = between(0.02, 0.30), between(-0.02, 0.14)
    tone = rgb(1, 0.97 - pink * 0.75, 0.97 - pink * 0.7 - tan) * red
    flush = canvas.cloud(4) * between(0.01, 0.05)
    brown = canvas.cloud(6) * between(0.0, 0.05)
    if canvas.chance(0.35):  # freckles and sun damage around the lesion
        brown += np.maximum(canvas.cloud(14, 2) - between(0.7, 1.6), 0) * between(0.05, 0.25)
    fine = canvas.field(96, 40) * canvas.field(5) + canvas.field(40, 96) * canvas.field(5) + canvas.field(128)
    brown += fine * between(0.003, 0.022)
    for _ in range(int(canvas.rng.poisson(0.35))):  # a second spot that is not the lesion
        spot = canvas.blob(between(0, 1), between(0, 1), between(0.008, 0.025), between(0.008, 0.025), rough=0.2)
        brown += inside(spot, 0.01) * between(0.1, 0.6) * (np.hypot(canvas.x - 0.5, canvas.y - 0.5) > 0.3)
    return tone * np.exp(-flush[..., None] * _BLOOD - brown[..., None] * _MELANIN)


def _absorption(
    canvas: Canvas, border: Float[ndarray, "h w"], short: float, softness: float
) -> Float[ndarray, "h w 3"]:
    """Fill the lesion with pigment: pattern, network, dots, and patches of blood or depth."""
    between = canvas.between
    body = inside(border + softness * 0.9, softness)  # the faint rim belongs to the lesion
    detail = int(np.clip(2 / short, 5, 40))
    pattern = 1 + canvas.cloud(max(2, detail // 2), 4) * between(0.05, 0.38)
    if canvas.chance(0.4):  # darker or paler towards the middle
        pattern += (inside(border + short * 0.5, short * 0.3) - 0.5) * between(-0.7, 1.1)
    if canvas.chance(0.3):  # an eccentric blot, begun from the deepest place
        deepest = border.argmin()
        angle, away = between(0, 2 * pi), short * between(0.1, 0.6)
        cx, cy = float(canvas.x.flat[deepest]) + away * cos(angle), float(canvas.y.flat[deepest]) + away * sin(angle)
        blot = canvas.blob(cx, cy, short * between(0.2, 0.6), short * between(0.2, 0.5), angle, rough=0.25)
        pattern += inside(blot, short * between(0.05, 0.25)) * between(0.4, 1.6)
    if canvas.chance(0.45):  # the pigment network: lines along the zero crossings of a fine field
        mesh = np.exp(-((canvas.field(int(between(28, 56))) / 0.45) ** 2)) - 0.5
        pattern += mesh * between(0.15, 0.6) * np.clip(canvas.field(4) + 0.6, 0, 1)
    if canvas.chance(0.4):  # dots and globules
        dots = np.maximum(canvas.field(int(between(36, 72))) - 1.2, 0)
        pattern += dots * np.clip(canvas.field(5) + 0.5, 0, 1) * between(0.2, 0.8)
    strength = float(np.interp(between(0, 1), *_STRENGTH))
    blood = canvas.chance(0.1)
    strength = min(strength, 0.7) if blood else strength
    density = body * np.maximum(pattern, 0.12) * strength

    pigment = _MELANIN + _HEAP * (strength * between(0.5, 1.5))
    pigment += canvas.rng.normal(0, 0.05, 3).astype(np.float32)
    if blood:
        pigment = _BLOOD * 0.75 + pigment * 0.2
    colour = np.broadcast_to(pigment, (*density.shape, 3))
    if canvas.chance(0.3):
        colour = mix(colour, _DEEP, np.clip(canvas.cloud(max(2, detail // 3), 3) * 0.6 - between(-0.2, 0.5), 0, 0.9))
    if canvas.chance(0.2):
        colour = mix(colour, _BLOOD, np.clip(canvas.cloud(max(2, detail // 3), 3) * 0.6 - between(0, 0.5), 0, 0.7))
    return density[..., None] * colour


def _light(canvas: Canvas) -> Float[ndarray, "h w 3"]:
    """Add uneven illumination and, for some devices, the dark edge of a round field."""
    between = canvas.between
    radius = np.hypot(canvas.x - between(0.42, 0.58), canvas.y - between(0.42, 0.58))
    lamp = 1 - between(0.0, 0.55) * radius**2 + (canvas.x - 0.5) * between(-0.12, 0.12)
    lamp += (canvas.y - 0.5) * between(-0.12, 0.12)
    if canvas.chance(0.22):
        edge = canvas.ellipse(between(0.47, 0.53), between(0.47, 0.53), between(0.5, 0.68), between(0.52, 0.7))
        lamp = lamp * (0.02 + 0.98 * inside(edge, between(0.008, 0.06)))
    return lamp[..., None] * (1 + canvas.rng.normal(0, 0.025, 3)).astype(np.float32)


def _overlay(
    canvas: Canvas, picture: Float[ndarray, "h w 3"], border: Float[ndarray, "h w"]
) -> Float[ndarray, "h w 3"]:
    """Draw artefacts: hair, gel bubbles, reflections, a ruler, ink, a sticker."""
    between = canvas.between
    if canvas.chance(0.5):
        count = canvas.whole(1, 12) if canvas.chance(0.75) else canvas.whole(15, 60)
        lean, dark = between(0, 2 * pi), canvas.chance(0.92)
        hairs = []
        for _ in range(count):
            x, y = canvas.rng.uniform(-0.1, 1.1, 2)
            path = canvas.curve(x, y, canvas.rng.normal(lean, 0.5), between(0.15, 0.9), turn=canvas.rng.normal(0, 0.8))
            hairs.append((path, between(0.002, 0.006)))
        tint = np.array([0.16, 0.11, 0.09]) * between(0.3, 2.2) if dark else np.array([0.85, 0.78, 0.66])
        picture = mix(picture, tint, canvas.strokes(hairs) * between(0.45, 0.95))
    if canvas.chance(0.18):  # gel bubbles: a dark ring with a bright one inside
        for _ in range(canvas.whole(1, 10)):
            size = between(0.006, 0.03)
            ring = np.abs(canvas.ellipse(between(0, 1), between(0, 1), size, size * between(0.8, 1.1)))
            picture = picture + (np.exp(-((ring / (0.18 * size)) ** 2)) * between(-0.1, 0.13))[..., None]
    if canvas.chance(0.25):
        glint = np.maximum(canvas.field(110) - between(2.2, 3.0), 0) * np.clip(canvas.field(4), 0, 1)
        picture = picture + np.minimum(glint, 0.5)[..., None]
    if canvas.chance(0.2):
        picture = mix(picture, (0.12, 0.1, 0.1), canvas.strokes(_ruler(canvas)) * between(0.5, 0.95))
    if canvas.chance(0.06):  # surgical ink around the lesion
        ink = np.abs(border - between(0.06, 0.14) + canvas.field(6) * 0.01)
        share = inside(ink - 0.006, 0.006) * np.clip(canvas.field(48) * 0.5 + canvas.field(5) * 0.5, 0, 0.6)
        picture = mix(picture, (0.42, 0.3, 0.62), share)
    if canvas.chance(0.08):  # a colour sticker at the rim
        angle, far = between(0, 2 * pi), between(0.55, 0.68)
        disc = canvas.ellipse(0.5 + far * cos(angle), 0.5 + far * sin(angle), between(0.1, 0.2), between(0.1, 0.2))
        picture = mix(picture, _STICKERS[canvas.whole(0, 4)], inside(disc, 0.004) * (border > 0.01))
    return picture


def _ruler(canvas: Canvas) -> list[Line]:
    """Draw a millimetre scale near an edge: ticks, some of them longer, and sometimes a base line."""
    between = canvas.between
    angle = pi / 2 * canvas.whole(0, 2) + canvas.rng.normal(0, 0.12)
    along = np.array([cos(angle), sin(angle)])
    across = np.array([-along[1], along[0]])
    side = between(0.28, 0.42) * canvas.side()
    count, gap, tick = canvas.whole(8, 22), between(0.018, 0.05), between(0.012, 0.025)
    middle = np.array([0.5, 0.5]) + across * side
    lines = []
    for i in range(count):
        foot = middle + along * (i - count / 2) * gap
        lines.append((np.stack([foot, foot + across * tick * (1.7 if i % 5 == 0 else 1)]), 0.004))
    if canvas.chance(0.6):
        lines.append((np.stack([middle - along * count / 2 * gap, middle + along * count / 2 * gap]), 0.004))
    return lines
