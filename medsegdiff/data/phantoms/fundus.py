"""Synthetic fundus photographs: crops around the optic disc with its cup, or the whole field of the camera.

The retina is an orange background, brightest near the disc, with pigment and choroidal vessels. Retinal vessels leave the
disc upwards and downwards, fork, thin out and arch around the fovea; they attenuate the light as blood does. Left and
right eyes are mirror images: crops contain both, whole fields mostly have the disc on the left.
"""

from dataclasses import dataclass
from math import atan2, cos, pi, sin

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Line, Scene, inside, mix, rgb

__all__ = ["optic_disc", "optic_disc_cup"]

_BLOOD = rgb(0.30, 1.0, 0.75)
_PALE = rgb(1.0, 0.86, 0.55)


@dataclass(frozen=True, slots=True)
class _Disc:
    """Where the disc lies and how large it is, in shares of the side; `side` is +1 when the fovea lies to the right."""

    x: float
    y: float
    a: float
    b: float
    side: int

    @property
    def radius(self) -> float:
        return (self.a + self.b) / 2


def optic_disc_cup(canvas: Canvas) -> Scene:
    """Draw a crop around the disc: label 1 rim, 2 cup."""
    between = canvas.between
    height = between(0.155, 0.178)
    side = canvas.side()
    disc = _Disc(0.49 - side * between(0, 0.11), between(0.37, 0.6), height * between(0.86, 1.0), height, side)
    retina = _ground(canvas, disc) * _tessellation(canvas, between(0.02, 0.3))
    share = max(between(0.4, 0.88), between(0.4, 0.88))  # vertical cup-to-disc ratio
    picture, border, cup = _papilla(canvas, retina, disc, share)
    picture = _vessels(canvas, picture, disc, between(0.9, 1.5))
    if canvas.chance(0.3):  # the edge of the camera's field
        angle = between(0, 2 * pi)
        field = canvas.ellipse(0.5 + 0.25 * cos(angle), 0.5 + 0.25 * sin(angle), 0.85, 0.8)
        picture = picture * inside(field, 0.006)[..., None]
    labels = (border < 0).astype(np.uint8) + ((border < 0) & (cup < 0))
    return Scene(_finish(canvas, picture), labels, between(0.008, 0.025))


def optic_disc(canvas: Canvas) -> Scene:
    """Draw the whole field on black: label 1 disc."""
    between = canvas.between
    left = canvas.chance(0.88)
    side = 1 if canvas.chance(0.93) else -1
    x = between(0.08, 0.24) if left else between(0.35, 0.55)
    height = between(0.058, 0.105)
    disc = _Disc(x if side > 0 else 1 - x, between(0.38, 0.55), height * between(0.7, 0.95), height, side)
    retina = _ground(canvas, disc)
    myopic = canvas.chance(0.4)  # long eyes: thin retina, choroid and sclera shine through
    retina = retina * _tessellation(canvas, between(0.5, 1.1) if myopic else between(0.0, 0.25))
    far = disc.radius * between(4.2, 5.5)
    fovea = np.hypot(canvas.x - disc.x - side * far, canvas.y - disc.y - between(0.0, 0.05))
    retina = retina * (1 - between(0.1, 0.6) * np.exp(-((fovea / between(0.05, 0.12)) ** 2)))[..., None]
    if myopic:
        retina = _atrophy(canvas, retina, disc)
    elif canvas.chance(0.35):  # sheen of the nerve fibre layer
        ring = np.exp(-(((fovea - far * 0.55) / 0.05) ** 2)) * np.maximum(canvas.field(9, 14), 0)
        retina = retina + ring[..., None] * rgb(0.1, 0.12, 0.1) * between(0.3, 1.3)
    picture, border, _ = _papilla(canvas, retina, disc, between(0.3, 0.7))
    picture = _vessels(canvas, picture, disc, between(0.6, 1.1))
    radius, flat = between(0.485, 0.5), between(0.47, 0.5)
    field = np.maximum(canvas.ellipse(0.5, 0.5, radius, radius), np.abs(canvas.y - 0.5) - flat)
    dim = 1 - between(0.1, 0.6) * np.clip(1 + field / radius, 0, 1) ** 2
    haze = np.clip(1 + field / 0.12, 0, 1) * between(0, 0.16)
    picture = picture * dim[..., None] + haze[..., None] * rgb(0.55, 0.75, 0.7)
    picture = _finish(canvas, picture) * inside(field, 0.003)[..., None]
    return Scene(picture, ((border < 0) & (field < 0)).astype(np.uint8), between(0.004, 0.014))


def _ground(canvas: Canvas, disc: _Disc) -> Float[ndarray, "h w 3"]:
    """Return a retina's background colour and illumination."""
    between = canvas.between
    red = between(0.3, 0.8)
    green = red * between(0.34, 0.56)
    tone = rgb(red, green, green * between(0.12, 0.62))
    away = np.hypot(canvas.x - disc.x, canvas.y - disc.y)
    light = 1 + between(0, 0.5) * np.exp(-((away / (disc.radius * 3)) ** 2))
    light += canvas.cloud(3) * between(0.03, 0.13)
    light += (canvas.x - 0.5) * between(-0.4, 0.4) + (canvas.y - 0.5) * between(-0.4, 0.4)
    return tone * np.maximum(light, 0.05)[..., None]


def _tessellation(canvas: Canvas, strength: float) -> Float[ndarray, "h w 3"]:
    """Add choroidal vessels: orange streaks along the zero crossings of a random field."""
    streaks = np.exp(-((canvas.cloud(20, 2) / 0.4) ** 2)) - 0.4 + canvas.cloud(30, 3) * 0.25
    fine = streaks * strength * np.clip(canvas.field(3) * 0.5 + 0.8, 0, 1.4)
    return np.exp(fine[..., None] * rgb(0.32, 0.4, 0.4))


def _papilla(
    canvas: Canvas, retina: Float[ndarray, "h w 3"], disc: _Disc, share: float
) -> tuple[Float[ndarray, "h w 3"], Float[ndarray, "h w"], Float[ndarray, "h w"]]:
    """Draw the disc on a retina; return the image and the distances to the borders of disc and cup."""
    between = canvas.between
    r = disc.radius
    border = canvas.blob(disc.x, disc.y, disc.a, disc.b, between(-0.2, 0.2), rough=0.025, lobes=4)
    shift = (1 - share) * r * 0.5
    cup = canvas.blob(
        disc.x + disc.side * shift * between(-0.2, 0.7), disc.y + shift * between(-0.6, 0.6),
        disc.a * share * between(0.88, 1.0), disc.b * share, rough=0.04, lobes=4,
    )  # fmt: skip
    tone = retina.mean((0, 1))
    rim = tone * rgb(1, between(0.98, 1.15), between(1.0, 1.35)) * between(1.2, 1.75)
    pale = rim * rgb(1, between(1.02, 1.25), between(1.0, 1.45)) * between(1.15, 1.55)
    mottle = (1 + canvas.cloud(14) * 0.05)[..., None]
    halo = np.exp(-((border / (r * 0.22)) ** 2)) * (border > 0) * np.clip(canvas.field(5) * 0.4 + 0.2, 0, 0.5)
    picture = mix(retina, np.minimum(rim * 1.15, 1), halo * between(0, 0.8))
    body = inside(border, r * between(0.03, 0.14)) * between(0.65, 0.95)
    hollow = inside(cup, r * between(0.05, 0.22)) * between(0.6, 1)
    picture = mix(picture, np.minimum(rim, 1) * mottle, body)
    picture = mix(picture, np.minimum(pale, 1) * mottle, hollow)
    return picture, border, cup


def _atrophy(canvas: Canvas, retina: Float[ndarray, "h w 3"], disc: _Disc) -> Float[ndarray, "h w 3"]:
    """Add atrophy: a crescent beside the disc, and sometimes patches elsewhere."""
    between = canvas.between
    r = disc.radius
    size = r * between(1.1, 1.9)
    crescent = canvas.blob(disc.x + disc.side * r * between(0.2, 1.0), disc.y, size * 0.9, size * 1.2, rough=0.12)
    share = inside(crescent + canvas.cloud(16, 2) * 0.012, 0.012) * between(0.2, 0.8)
    if canvas.chance(0.4):
        patches = np.maximum(canvas.cloud(5, 4) - between(1.1, 1.8), 0)
        share = np.maximum(share, np.minimum(patches * 2, between(0.4, 0.9)))
    share = share * np.clip(1 + canvas.field(30) * 0.35, 0, 1.3)
    bare = np.minimum(retina.mean((0, 1)) * rgb(1.9, 2.6, 2.6), 0.95)
    return mix(retina, np.minimum(bare, _PALE), np.minimum(share, 1))


def _vessels(canvas: Canvas, picture: Float[ndarray, "h w 3"], disc: _Disc, calibre: float) -> Float[ndarray, "h w 3"]:
    """Draw arteries and veins from the centre of the disc."""
    between = canvas.between
    r = disc.radius
    for vein in (True, False):
        lines: list[Line] = []
        for updown in (-1, 1):
            for trunk in range(3 if vein else 2):
                lean = (0.15, -0.75, 0.9)[trunk] + between(-0.4, 0.4)  # towards the arcade, the nose, the fovea
                angle = updown * (pi / 2 - lean) if disc.side > 0 else updown * (pi / 2 + lean)
                width = r * calibre * (0.13, 0.07, 0.055)[trunk] * between(0.8, 1.2) * (1 if vein else 0.72)
                turn = -disc.side * updown * between(0.3, 1.1) * (1.0, -0.4, 0.5)[trunk]
                start = (disc.x - disc.side * r * between(-0.1, 0.35), disc.y + updown * r * between(-0.1, 0.25))
                lines += _tree(canvas, *start, angle, max(6 * r, 0.45) * between(0.75, 1.2), width, turn, 3)
        depth = canvas.strokes(lines) * (between(0.55, 1.0) * (1 if vein else 0.7))
        picture = picture * np.exp(-depth[..., None] * _BLOOD * between(0.7, 1.1))
    return picture


def _tree(
    canvas: Canvas, x: float, y: float, angle: float, length: float, width: float, turn: float, forks: int
) -> list[Line]:
    """Draw one vessel that thins along its course and forks on both sides."""
    path = canvas.curve(x, y, angle, length, wobble=0.28, turn=turn)
    pieces = np.array_split(np.arange(len(path)), 4)
    lines = [(path[p[0] : p[-1] + 2], width * (1 - 0.17 * i)) for i, p in enumerate(pieces)]
    for k in range(forks):
        at = canvas.whole(4, len(path) - 3)
        (px, py), (qx, qy) = path[at : at + 2].tolist()
        fork = canvas.side() * canvas.between(0.3, 0.9)
        heading, reach = atan2(qy - py, qx - px) + fork, length * canvas.between(0.35, 0.65)
        lines += _tree(canvas, px, py, heading, reach, width * 0.6, -fork * 0.5, forks - 2 if k else 0)
    return lines


def _finish(canvas: Canvas, picture: Float[ndarray, "h w 3"]) -> Float[ndarray, "h w 3"]:
    """Add exposure, colour cast and grain."""
    gain = canvas.between(0.8, 1.15) * (1 + canvas.rng.normal(0, 0.04, 3))
    grain = canvas.field(256)[..., None] * canvas.between(0.002, 0.012)
    return picture * gain.astype(np.float32) + grain
