"""Synthetic axial slices of the upper abdomen, as CT and as MR.

Both share one anatomy, a table of organs: each is a shape in the frame of the trunk (u, v in [-1, 1], the patient's right
at u < 0 in radiological view, the front at v < 0), present between two levels from the dome of the diaphragm (0) to the
lower poles of the kidneys (1) and largest halfway. A second table has the contrast: Hounsfield units, windowed to -125 to
275, or brightness in a fat-suppressed T2 image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from medsegdiff.data.canvas import Canvas, Scene, inside
from medsegdiff.data.tasks import TASKS

__all__ = ["abdomen_ct", "abdomen_mr"]


@dataclass(frozen=True, slots=True)
class _Organ:
    """A closed shape with two half axes about one point, or a tube along several points with a radius at each."""

    path: tuple[tuple[float, float], ...]
    size: tuple[float, ...]  # in shares of the trunk's half width
    angle: float
    levels: tuple[float, float]
    rough: float


_ALWAYS = (-9.0, 9.0)
_ORGANS: dict[str, _Organ] = {  # in the order they are painted: a later one covers an earlier one
    "liver": _Organ(
        ((-0.52, 0.36), (-0.6, 0.02), (-0.38, -0.34), (0.12, -0.52)), (0.24, 0.34, 0.3, 0.1), 0.0, (-0.3, 1.2), 0.05
    ),
    "stomach": _Organ(((0.48, 0.12), (0.5, -0.2), (0.28, -0.44)), (0.14, 0.22, 0.16), 0.0, (-0.1, 0.85), 0.12),
    "spleen": _Organ(
        ((0.48, 0.6), (0.74, 0.42), (0.8, 0.1), (0.72, -0.12)), (0.1, 0.14, 0.13, 0.08), 0.0, (-0.1, 0.85), 0.04
    ),
    "pancreas": _Organ(
        ((-0.2, 0.0), (-0.1, -0.18), (0.1, -0.2), (0.28, -0.1), (0.46, 0.04)),
        (0.06, 0.085, 0.06, 0.07, 0.05), 0.0, (0.35, 0.95), 0.16,
    ),
    "portal and splenic vein": _Organ(
        ((-0.3, -0.14), (-0.1, -0.1), (0.14, -0.08), (0.42, 0.08)), (0.03, 0.045, 0.04, 0.03), 0.0, (0.3, 0.75), 0.0
    ),
    "gallbladder": _Organ(((-0.3, -0.26),), (0.1, 0.15), 0.3, (0.5, 0.95), 0.08),
    "right kidney": _Organ(((-0.46, 0.42),), (0.17, 0.21), -0.5, (0.4, 1.3), 0.06),
    "left kidney": _Organ(((0.46, 0.4),), (0.17, 0.21), 0.5, (0.35, 1.3), 0.06),
    "right adrenal": _Organ(((-0.2, 0.24), (-0.25, 0.34), (-0.28, 0.44)), (0.02, 0.024, 0.018), 0.0, (0.25, 0.6), 0.0),
    "left adrenal": _Organ(((0.22, 0.4), (0.25, 0.26), (0.34, 0.36)), (0.018, 0.024, 0.018), 0.0, (0.25, 0.6), 0.0),
    "esophagus": _Organ(((0.1, -0.02),), (0.06, 0.05), 0.3, (-0.3, 0.35), 0.1),
    "inferior vena cava": _Organ(((-0.15, 0.08),), (0.09, 0.09), 0.0, _ALWAYS, 0.1),
    "aorta": _Organ(((0.07, 0.16),), (0.075, 0.09), 0.0, _ALWAYS, 0.03),
}  # fmt: skip

_SIGNAL: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    # Hounsfield units in the arterial and in the venous phase; range of brightness in T2
    "liver": ((85, 130), (0.28, 0.42)),
    "stomach": ((15, 60), (0.25, 0.7)),
    "spleen": ((95, 135), (0.55, 0.95)),
    "pancreas": ((110, 70), (0.3, 0.5)),
    "portal and splenic vein": ((120, 185), (0.3, 0.55)),
    "gallbladder": ((0, 25), (0.9, 1.1)),
    "right kidney": ((230, 110), (0.7, 1.0)),
    "left kidney": ((230, 110), (0.7, 1.0)),
    "right adrenal": ((50, 90), (0.25, 0.4)),
    "left adrenal": ((50, 90), (0.25, 0.4)),
    "esophagus": ((30, 60), (0.25, 0.45)),
    "inferior vena cava": ((95, 170), (0.15, 0.45)),
    "aorta": ((260, 130), (0.1, 0.35)),
}


@dataclass(frozen=True, slots=True)
class _Trunk:
    """The anatomy of a slice: its level and signed distances, negative inside."""

    level: float
    body: Float[ndarray, "h w"]
    cavity: Float[ndarray, "h w"]
    bone: Float[ndarray, "h w"]
    canal: Float[ndarray, "h w"]
    ribs: Float[ndarray, "h w"]
    muscle: Float[ndarray, "h w"]
    bowel: Float[ndarray, "h w"]
    organs: Mapping[str, Float[ndarray, "h w"]]  # those that the slice meets


def abdomen_ct(canvas: Canvas) -> Scene:
    """Draw contrast-enhanced CT: thirteen organs, numbered as the task's labels."""
    between = canvas.between
    trunk = _trunk(canvas)
    phase = between(0, 1)  # arterial to venous
    hu = np.full(canvas.x.shape, -1000, np.float32)
    _lay(hu, trunk.body, 40.0)
    _lay(hu, trunk.body + 0.006, -100 + canvas.cloud(20, 2) * 6)
    _lay(hu, trunk.cavity - between(0.012, 0.03), 55 + canvas.cloud(24, 2) * 10)
    _lay(hu, trunk.cavity, -95 + np.maximum(canvas.cloud(22, 3) - 1, 0) * 90)
    if trunk.level < 0.3:  # the lungs reach down behind the dome
        lung = np.maximum(trunk.cavity, -trunk.cavity - (0.32 - trunk.level) * 0.4)
        _lay(hu, lung, -850.0)
    _lay(hu, trunk.muscle, 58 + canvas.cloud(24, 2) * 14)
    _lay(hu, trunk.bowel, between(120, 400) if canvas.chance(0.4) else 35.0)
    _lay(hu, np.maximum(trunk.bowel + 0.008, (1.0 - canvas.field(6)) * 0.03), -700.0)  # gas
    _lay(hu, trunk.ribs, 330 + canvas.cloud(30, 2) * 60)
    mottle = canvas.cloud(12, 3)
    for name, organ in trunk.organs.items():
        value = float(np.interp(phase + canvas.rng.normal(0, 0.12), (0, 1), _SIGNAL[name][0]))
        _lay(hu, organ, value + mottle * 4)
        if name == "liver":
            hu += inside(organ + 0.02, 0.01) * _branches(canvas) * (phase * 60)
        if name == "stomach":
            _fill_stomach(canvas, hu, organ)
        if name.endswith("kidney"):
            _lay(hu, organ + between(0.04, 0.055) + canvas.field(16) * 0.012, between(-60, 120), 0.008)
    _lay(hu, trunk.bone, 190 + canvas.cloud(40, 2) * 40)
    _lay(hu, np.abs(trunk.bone) - 0.004, 420.0)
    _lay(hu, trunk.canal, 30.0)
    if canvas.chance(0.8):  # the table
        dip = canvas.y - between(0.9, 0.97) + (canvas.x - 0.5) ** 2 * between(0.1, 0.5)
        hu += np.exp(-((dip / 0.003) ** 2)) * (trunk.body > 0.01) * between(700, 1100)
    hu += canvas.field(256) * between(3, 14) + canvas.field(120) * between(2, 9)
    return _scene((hu + 125) / 400, trunk, TASKS["abdomen-ct"].labels, between(0.005, 0.012))


def abdomen_mr(canvas: Canvas) -> Scene:
    """Draw fat-suppressed T2: liver, kidneys and spleen, numbered as the task's labels."""
    between = canvas.between
    trunk = _trunk(canvas)
    grey = np.full(canvas.x.shape, 0.02, np.float32)
    _lay(grey, trunk.body, between(0.12, 0.24) + canvas.cloud(24, 3) * 0.02)
    _lay(grey, trunk.cavity - 0.018, 0.12 + canvas.cloud(30, 2) * 0.02)
    _lay(grey, trunk.cavity, between(0.05, 0.13) + np.maximum(canvas.cloud(16, 3) - 0.5, 0) * between(0.03, 0.12))
    _lay(grey, trunk.muscle, 0.1 + np.maximum(canvas.cloud(30, 2), 0) * 0.05)
    _lay(grey, trunk.bowel, np.clip(0.55 + canvas.field(6) * 0.35, 0.12, 1.1))
    _lay(grey, trunk.ribs, 0.2)
    mottle = 1 + canvas.cloud(16, 3) * 0.04
    for name, organ in trunk.organs.items():
        _lay(grey, organ, between(*_SIGNAL[name][1]) * mottle)
        if name == "liver":
            grey += inside(organ + 0.02, 0.01) * _branches(canvas) * between(-0.12, 0.3)
        if name.endswith("kidney"):
            _lay(grey, organ + between(0.04, 0.055) + canvas.field(18) * 0.014, between(0.35, 0.75), 0.008)
    _lay(grey, trunk.bone, between(0.2, 0.42) + canvas.cloud(30, 2) * 0.03)
    _lay(grey, trunk.canal, between(0.6, 1.1))
    coil = 1 + canvas.field(2) * 0.12 + np.exp(np.minimum(trunk.body, 0) / 0.1) * between(0, 0.5)
    noise = canvas.field(200) * between(0.008, 0.03)
    shown = np.abs(grey * coil * between(0.75, 1.15) + noise)
    return _scene(shown, trunk, TASKS["abdomen-mr"].labels, between(0.006, 0.015))


def _lay(
    sheet: Float[ndarray, "h w"],
    distance: Float[ndarray, "h w"],
    value: Float[ndarray, "h w"] | float,
    edge: float = 0.005,
) -> None:
    """Draw a shape over an image, in place."""
    sheet += inside(distance, edge) * (value - sheet)


def _scene(grey: Float[ndarray, "h w"], trunk: _Trunk, names: Sequence[str], softness: float) -> Scene:
    """Return the label image; where organs overlap, the one drawn later counts."""
    labels = np.zeros(grey.shape, np.uint8)
    for name, organ in trunk.organs.items():
        labels[organ < 0] = names.index(name) + 1 if name in names else 0
    return Scene(grey[..., None].repeat(3, -1), labels, softness)


def _trunk(canvas: Canvas) -> _Trunk:
    """Generate the anatomy of one slice."""
    between = canvas.between
    level = between(0, 1)
    x, y = canvas.rng.normal(0.5, 0.015), canvas.rng.normal(0.53, 0.02)
    a = between(0.34, 0.47)
    b = a * between(0.62, 0.8)
    body = canvas.blob(x, y, a, b, rough=0.03, lobes=4)
    fat = between(0.02, 0.085)
    cavity = body + (fat + 0.02) + canvas.field(5) * 0.006
    a, b = a - fat, b - fat  # from here on, the frame inside the fat
    organs = {
        name: np.maximum(_organ(canvas, organ, share, (x, y), (a, b)), cavity + 0.004)
        for name, organ in _ORGANS.items()
        if (share := _share(canvas, organ, level)) > 0.25
    }
    bone, canal, muscle = _spine(canvas, x, y + b * 0.48, a * between(0.13, 0.155), level)
    ribs = np.full_like(body, 1.0)
    if level < 0.85:
        angle = np.arctan2(canvas.y - y, canvas.x - x)
        beads = np.cos(angle * canvas.whole(9, 14) + between(0, 2 * pi)) - 0.35
        ribs = np.maximum(np.abs(cavity - 0.012) - 0.007, -beads * 0.05)
        ribs = np.maximum(ribs, y - b * between(0.3, 0.8) - canvas.y)
    loops = (between(0.3, 1.2) + 1.2 * max(0.0, 0.6 - level) - canvas.cloud(9, 2)) * 0.03
    bowel = np.maximum.reduce([loops, cavity + 0.015, canvas.y - (y + b * 0.35)])
    return _Trunk(level, body, cavity, bone, canal, ribs, np.maximum(muscle, body + 0.02), bowel, organs)


def _spine(
    canvas: Canvas, x: float, y: float, size: float, level: float
) -> tuple[Float[ndarray, "h w"], Float[ndarray, "h w"], Float[ndarray, "h w"]]:
    """Return the distances to a vertebra with its arch, its canal, and the muscles beside it."""
    arch = [(x - size * 0.8, y + size * 0.7), (x, y + size * 2), (x + size * 0.8, y + size * 0.7)]
    process = [(x, y + size * 1.9), (x, y + size * 2.5)]
    bone = [
        canvas.ellipse(x, y, size * 1.15, size * 0.9),
        canvas.tube(np.array(arch), np.full(3, 0.013)),
        canvas.tube(np.array(process), np.full(2, 0.014)),
    ]
    muscle = []
    for side in (-1, 1):
        muscle.append(
            canvas.blob(x + side * size * 1.7, y + size * 1.6, size * 1.25, size * 0.85, side * 0.3, rough=0.06)
        )
        muscle.append(canvas.ellipse(x + side * size * 1.6, y, size * 0.75, size * (0.3 + 0.7 * level)))  # psoas
    canal = canvas.ellipse(x, y + size * 1.25, size * 0.42, size * 0.36)
    return np.minimum.reduce(bone), canal, np.minimum.reduce(muscle)


def _share(canvas: Canvas, organ: _Organ, level: float) -> float:
    """Return the relative size of an organ at this level, as of an ellipsoid's section: near 1 halfway, 0 beyond its ends."""
    low, high = organ.levels
    return canvas.between(0.85, 1.15) * sqrt(max(1 - (2 * (level - low) / (high - low) - 1) ** 2, 0))


def _organ(
    canvas: Canvas, organ: _Organ, share: float, centre: tuple[float, float], half: tuple[float, float]
) -> Float[ndarray, "h w"]:
    """Return the distance to one organ, scaled to a share of its full size."""
    path = np.array(organ.path) + canvas.rng.normal(0, 0.025, 2)
    size = np.array(organ.size) * half[0]
    if len(path) > 1:
        path += canvas.rng.normal(0, 0.018, path.shape)
        middle = path.mean(0)
        path = (middle + (path - middle) * (0.45 + 0.55 * share)) * half + centre
        return canvas.tube(path, size * (0.4 + 0.6 * share)) + canvas.field(14) * float(size.max() * organ.rough)
    x, y = (path[0] * half + centre).tolist()
    wide, tall = (size * share).tolist()
    return canvas.blob(x, y, wide, tall, organ.angle + canvas.rng.normal(0, 0.15), rough=organ.rough, lobes=5)


def _branches(canvas: Canvas) -> Float[ndarray, "h w"]:
    """Draw vessels of the liver: thin lines along the zero crossings of a field, in some places."""
    return np.exp(-((canvas.field(9) / 0.1) ** 2)) * np.clip(canvas.field(6), 0, 1)


def _fill_stomach(canvas: Canvas, hu: Float[ndarray, "h w"], stomach: Float[ndarray, "h w"]) -> None:
    """Fill the lumen of an organ, in place: fluid or contrast below a level, air above it."""
    lumen = stomach + canvas.between(0.01, 0.02)
    fluid = canvas.between(5, 60) if canvas.chance(0.6) else canvas.between(100, 400)
    _lay(hu, lumen, fluid + canvas.cloud(16, 2) * 12)
    if canvas.chance(0.55) and (stomach < 0).any():
        rows = canvas.y[stomach < 0]
        surface = float(rows.min()) + float(np.ptp(rows)) * canvas.between(0.1, 0.5)
        _lay(hu, np.maximum(lumen, canvas.y - surface), -900.0)
