"""Chest CT crops around a lung nodule, with readers who disagree.

The image is computed in Hounsfield units: lung at about -870, chest wall or mediastinum, vessels along and across the slice, and
in the middle a solid, ground-glass or part-solid nodule. Grey values are stretched to each crop's range, as in published crops,
so soft tissue is darker where bone is in view.

Readers differ in whether they mark a nodule at all (fainter ones less often), in whether they include an attached vessel or the
ground glass around a solid core, and in the position of the border.
"""

from math import cos, pi, sin

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Line, Scene, inside

__all__ = ["lung_nodule"]

_AIR, _LUNG, _FAT, _MUSCLE = -1000.0, -875.0, -95.0, 45.0
_RADIUS = ((0, 0.1, 0.5, 0.85, 1), (0.017, 0.022, 0.036, 0.065, 0.105))  # quantiles, as shares of the side
_READERS = 4


def lung_nodule(canvas: Canvas) -> Scene:
    """Generate a nodule (label 1: with its ground glass, without attached vessels) and the readers' masks of it."""
    between = canvas.between
    x, y = canvas.rng.normal(0.5, 0.014), canvas.rng.normal(0.5, 0.014)
    radius = float(np.interp(between(0, 1), *_RADIUS))
    hu = np.full(canvas.x.shape, _LUNG, np.float32) + canvas.cloud(5, 3) * between(6, 16)
    hu += (canvas.y - 0.5) * between(0, 70)  # dependent density
    bright = between(20, 110)
    _lay(hu, _vessels(canvas, x, y, radius), bright)
    hu += np.maximum(canvas.cloud(24, 2) - 0.8, 0) * between(20, 110)  # unresolved vessels
    ceiling = _walls(canvas, hu, (x, y), radius)
    body, core, tail, clear = _nodule(canvas, hu, (x, y), radius)
    # Reconstruction noise: grain of one and two pixels, and horizontal streaks.
    hu += canvas.field(64) * between(6, 28) + canvas.field(128) * between(4, 26)
    hu += canvas.field(128, 10) * between(0, 12)
    floor = _AIR - between(0, 40)
    grey = (hu - floor) / (ceiling - floor)

    sure = canvas.whole(0, _READERS)  # this reader always marks it

    def read(own: Canvas, reader: int) -> UInt8[ndarray, "h w"]:
        """Return one reader's mask."""
        marks = own.chance(clear) or reader % _READERS == sure
        extent = core if own.chance(0.35) else body
        reach = own.rng.normal(0.0, 0.12) * radius + own.field(14) * (0.05 * radius)
        outline = extent - reach
        if own.chance(0.25):
            outline = np.minimum(outline, tail)
        return ((outline < 0) & marks).astype(np.uint8)

    return Scene(grey[..., None].repeat(3, -1), (body < 0).astype(np.uint8), 0.01, read)


def _lay(hu: Float[ndarray, "h w"], share: Float[ndarray, "h w"], value: Float[ndarray, "h w"] | float) -> None:
    """Blend a tissue in, in place."""
    hu += share * (value - hu)


def _vessels(canvas: Canvas, x: float, y: float, radius: float) -> Float[ndarray, "h w"]:
    """Return the coverage of vessels: branches in the slice and cross-sections, none touching the nodule."""
    between = canvas.between
    lines: list[Line] = []
    root = between(0, 2 * pi)
    for _ in range(canvas.whole(1, 5)):
        away = root + canvas.rng.normal(0, 0.9)
        start = (0.5 + between(0.15, 0.75) * cos(away), 0.5 + between(0.15, 0.75) * sin(away))
        length, width = between(0.15, 0.5), between(0.006, 0.02)
        path = canvas.curve(*start, away + pi + canvas.rng.normal(0, 0.7), length, wobble=0.15)
        lines.append((path, width))
        for _ in range(canvas.whole(0, 4)):
            px, py = map(float, path[canvas.whole(4, len(path))])
            twig = canvas.curve(px, py, between(0, 2 * pi), length * between(0.2, 0.5), wobble=0.2)
            lines.append((twig, width * between(0.35, 0.7)))
    for _ in range(canvas.whole(12, 45)):
        px, py = between(0, 1), between(0, 1)
        lines.append((canvas.curve(px, py, between(0, 2 * pi), between(0.004, 0.03)), between(0.004, 0.016)))
    reach = radius + 0.035
    lines = [line for line in lines if np.hypot(*(line[0] - (x, y)).T).min() > reach + line[1]]
    return canvas.strokes(lines) * np.clip(0.75 + canvas.field(8) * 0.3, 0.25, 1)


def _walls(canvas: Canvas, hu: Float[ndarray, "h w"], nodule: tuple[float, float], radius: float) -> float:
    """Add chest wall, mediastinum or neither, in place; return the value that is displayed white."""
    between = canvas.between
    ceiling = between(90, 260)
    towards = between(0, 2 * pi)
    if canvas.chance(0.72):  # ribs, and the pleura close by or far off
        gap = radius + (between(-0.012, 0.05) if canvas.chance(0.35) else between(0.08, 0.4))
        bow = between(0.5, 1.1)
        cx, cy = (c - (bow - gap) * f(towards) for c, f in zip(nodule, (cos, sin), strict=True))
        wall = -(np.hypot(canvas.x - cx, canvas.y - cy) - bow) + canvas.field(5) * 0.006  # negative in the wall
        fat = canvas.field(9) * 0.02 + between(0.07, 0.13)
        tissue = np.where(-wall > fat, _FAT + 20 * canvas.cloud(16, 2), _MUSCLE + 10 * canvas.cloud(16, 2))
        if canvas.chance(0.5):  # mostly muscle
            tissue = np.maximum(tissue, _MUSCLE - 10 + canvas.cloud(10, 2) * 25)
        _lay(hu, inside(wall, 0.006), tissue.astype(np.float32))
        ribs = np.full_like(hu, 1.0)
        for _ in range(canvas.whole(0, 4)):
            at = towards + canvas.rng.normal(0, 0.45)
            out = bow + between(0.035, 0.06)
            span = between(0.06, 0.3)
            turns = np.linspace(-span, span, 8) / 2
            path = np.stack([cx + out * np.cos(at + turns), cy + out * np.sin(at + turns)], 1)
            thick = np.full(8, between(0.018, 0.03)) * np.sin(np.linspace(0.35, pi - 0.35, 8)) ** 0.5
            ribs = np.minimum(ribs, canvas.tube(path, thick))
        if (ribs < 0).any():
            ceiling = between(450, 1100)
            _lay(hu, inside(ribs, 0.005), between(120, 260) + canvas.cloud(30, 2) * 40)
            _lay(hu, np.exp(-((ribs / 0.008) ** 2)), ceiling * between(0.75, 1.0))
        skin = wall + between(0.24, 0.6)
        _lay(hu, inside(skin, 0.006), _AIR)
    if canvas.chance(0.4):  # heart, aorta or diaphragm
        at = towards + pi + canvas.rng.normal(0, 0.8)
        size = between(0.25, 0.6)
        gap = radius + size + (between(0.0, 0.03) if canvas.chance(0.2) else between(0.07, 0.3))
        organ = canvas.blob(
            nodule[0] + gap * cos(at), nodule[1] + gap * sin(at), size, size * between(0.8, 1.2), rough=0.06
        )
        value = between(130, 280) if canvas.chance(0.3) else between(20, 60)
        _lay(hu, inside(organ, 0.008), value + canvas.cloud(8, 2) * 6)
        ceiling = max(ceiling, value + 60)
    return ceiling


def _nodule(
    canvas: Canvas, hu: Float[ndarray, "h w"], place: tuple[float, float], radius: float
) -> tuple[Float[ndarray, "h w"], Float[ndarray, "h w"], Float[ndarray, "h w"], float]:
    """Add the nodule, in place.

    Returns the signed distances to the nodule, its core and an attached vessel, and the probability that a reader marks it.
    """
    between = canvas.between
    rough = between(0.06, 0.15) if canvas.chance(0.6) else between(0.16, 0.28)
    ratio = between(1.0, 1.5) ** 0.5
    body = canvas.blob(*place, radius * ratio, radius / ratio, between(0, pi), rough=rough, lobes=7)
    kind = canvas.rng.random()
    away = between(0, 2 * pi)
    tail = np.full_like(body, 1.0)
    faint = radius < 0.05 and canvas.chance(0.6)
    clear = between(0.0, 0.5) if faint else between(0.85, 1.0)
    solid = between(-560, -280) if faint else between(-120, 60)  # partial volume
    if canvas.chance(0.55):
        x, y = _off(place, 2.4 * radius, away)
        end = x + between(-0.4, 0.4) * radius, y + between(-0.4, 0.4) * radius
        ends = [_off(place, 0.4 * radius, away), _off(place, 1.6 * radius, away), end]
        width = min(max(0.2 * radius, 0.0065), 0.013)
        tail = canvas.tube(np.array(ends), width * np.array([1.8, 1.0, 0.7]))
        far = canvas.curve(*end, away, between(0.08, 0.3), wobble=0.2)
        _lay(hu, canvas.strokes([(far, 1.5 * width)]), between(-300, 0))
        _lay(hu, inside(tail, 0.006), between(-250, 20))
    core = body
    if kind < 0.55 or radius < 0.028:  # solid
        _lay(
            hu,
            inside(body + canvas.cloud(14, 2) * (0.07 * radius), between(0.008, 0.014)),
            solid + canvas.cloud(16, 2) * 15,
        )
    else:  # ground glass, mostly around a solid core
        glass = between(-690, -500)
        _lay(hu, inside(body, between(0.012, 0.022)), glass + canvas.cloud(20, 3) * 45)
        if kind < 0.86:
            inner = radius * between(0.4, 0.62)
            shifted = place[0] + between(-0.25, 0.25) * radius, place[1] + between(-0.25, 0.25) * radius
            core = canvas.blob(*shifted, inner * 1.15, inner / 1.15, between(0, pi), rough=0.16, lobes=6)
            _lay(hu, inside(core, 0.008), between(-180, 20))
    if rough > 0.16 and radius > 0.04:  # spicules
        spicules: list[Line] = []
        for _ in range(canvas.whole(4, 10)):
            turn = between(0, 2 * pi)
            root = _off(place, 0.8 * radius, turn)
            spicules.append((canvas.curve(*root, turn, radius * between(0.6, 1.5), wobble=0.15), between(0.004, 0.008)))
        _lay(hu, canvas.strokes(spicules) * 0.7, between(-350, -100))
    return body, core, tail, clear


def _off(place: tuple[float, float], distance: float, angle: float) -> tuple[float, float]:
    """Return the point at a distance and angle from a place."""
    return place[0] + distance * cos(angle), place[1] + distance * sin(angle)
