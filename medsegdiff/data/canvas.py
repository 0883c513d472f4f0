"""Drawing primitives of synthetic images: smooth random fields, closed shapes and strokes, independent of the image size.

Coordinates run over [0, 1] x [0, 1], x to the right and y down; lengths are shares of the image's side. Random fields and
shapes are computed on grids of fixed size and then resampled, so a scene is the same at every image size. A closed shape
is a signed distance, negative inside,

    d = (|u| - R(theta)) / |grad |u||,    u = the point in the frame of the shape's ellipse,

with R = 1 plus a few random harmonics. Its sign is exact, its value approximate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

__all__ = ["Canvas", "Line", "Scene", "inside", "mix", "rgb"]

Line = tuple[Float[ndarray, "_ 2"], float]
"""The (x, y) points of a stroke, and its width."""

_SHAPES, _TUBES, _GRAIN = 128, 64, 1.25  # cells a side; what cubic resampling takes from a field's deviation


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn image with its labels."""

    image: Float[ndarray, "h w 3"]  # in [0, 1]; what lies outside is clipped
    labels: UInt8[ndarray, "h w"]
    softness: float  # width of the transition at borders, as a share of the side; scales the variation between raters
    # Label image of one reader, given a canvas with its own generator and the reader's number from 0, where readers disagree
    # about more than the position of a border.
    read: "Callable[[Canvas, int], UInt8[ndarray, 'h w']] | None" = None


class Canvas:
    """A square of `size` pixels and its random generator."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.rng = rng
        self._angle = 0.0
        self.x, self.y = self._middles(size)

    def between(self, low: float, high: float) -> float:
        """Return a uniform random number from [low, high)."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """Return a uniform random integer from low ... high - 1."""
        return int(self.rng.integers(low, high))

    def side(self) -> int:
        """Return -1 or 1 at random."""
        return 1 if self.chance(0.5) else -1

    def resample(self, grid: Float[ndarray, "p q"]) -> Float[ndarray, "h w"]:
        """Resample a grid over the unit square to the canvas: cubic for coarse grids, averaged for fine ones."""
        return _resize(grid, self.size)

    def field(self, rows: int, columns: int = 0) -> Float[ndarray, "h w"]:
        """Return a smooth Gaussian field with mean 0 and standard deviation about 1, of `rows` x `columns` independent cells."""
        return self.resample(self.rng.standard_normal((rows, columns or rows), np.float32) * np.float32(_GRAIN))

    def cloud(self, cells: int, octaves: int = 3) -> Float[ndarray, "h w"]:
        """Return fractal noise: each octave has twice the cells and half the amplitude."""
        finest = cells << (octaves - 1)
        total = np.zeros((finest, finest), np.float32)
        for i in range(octaves):
            grid = self.rng.standard_normal((cells << i, cells << i), np.float32) * np.float32(_GRAIN / (1 << i))
            total += _resize(grid, finest)
        return self.resample(total)

    def ellipse(self, x: float, y: float, a: float, b: float, angle: float = 0.0) -> Float[ndarray, "h w"]:
        """Return the signed distance to an ellipse with half axes a and b, the first rotated by `angle` radians."""
        return self._distance(x, y, a, b, angle, None)

    def blob(
        self, x: float, y: float, a: float, b: float, angle: float = 0.0, *, rough: float = 0.1, lobes: int = 6
    ) -> Float[ndarray, "h w"]:
        """Return the signed distance to a random closed shape around an ellipse; `rough` is its relative deviation."""
        order = np.arange(2, 2 + lobes)
        height = self.rng.normal(size=lobes) * rough * 1.5 / order
        phase = self.rng.uniform(0, 2 * pi, lobes)
        theta = np.linspace(-pi, pi, 512)
        radius = np.exp((height[:, None] * np.cos(order[:, None] * theta + phase[:, None])).sum(0))
        radius /= np.sqrt(np.mean(radius[:-1] ** 2))  # keeps the area of the ellipse
        return self._distance(x, y, a, b, angle, radius)

    def _distance(
        self, x: float, y: float, a: float, b: float, angle: float, radius: Float[ndarray, " n"] | None
    ) -> Float[ndarray, "h w"]:
        px, py = self._middles(_SHAPES)
        dx, dy, c, s = px - float(x), py - float(y), cos(angle), sin(angle)
        u, v = (c * dx + s * dy) / float(a), (c * dy - s * dx) / float(b)
        length = np.sqrt(u * u + v * v) + 1e-6
        slope = np.sqrt((u / float(a)) ** 2 + (v / float(b)) ** 2) / length + 1e-6
        if radius is None:
            return self.resample((length - 1) / slope)
        turn = (np.arctan2(v, u) + pi) * ((len(radius) - 1) / (2 * pi))
        cell = np.clip(turn.astype(np.int32), 0, len(radius) - 2)
        table = radius.astype(np.float32)
        edge = table[cell] + (turn - cell.astype(np.float32)) * np.diff(table)[cell]
        return self.resample((length - edge) / slope)

    def tube(self, points: Float[ndarray, "n 2"], radii: Float[ndarray, " n"]) -> Float[ndarray, "h w"]:
        """Return the signed distance to a tube along a polyline of (x, y) points with a radius at each."""
        share, fine = np.linspace(0, 1, len(points)), np.linspace(0, 1, 24)
        beads = np.array([np.interp(fine, share, values) for values in (*np.asarray(points).T, radii)], np.float32)
        x, y = self._middles(_TUBES)  # a coarser grid, because there are many points
        away = [np.sqrt((x - bx) ** 2 + (y - by) ** 2) - radius for bx, by, radius in beads.T]
        return self.resample(np.minimum.reduce(away))

    def turn(self, angle: float) -> None:
        """Rotate the coordinates about the centre by `angle` radians, for all shapes that follow."""
        self._angle += angle
        self.x, self.y = self._middles(self.size)

    def strokes(self, lines: Sequence[Line]) -> Float[ndarray, "h w"]:
        """Return the coverage in [0, 1] of polylines of (x, y) points, each with a width; not affected by `turn`."""
        side = max(2 * self.size, 512)
        sheet = Image.new("L", (side, side))
        pen = ImageDraw.Draw(sheet)
        for points, width in lines:
            thick = max(1, round(width * side))
            ink = min(255, round(255 * width * side / thick))  # lines thinner than a pixel are drawn fainter
            pen.line([(x, y) for x, y in (points * side).tolist()], fill=ink, width=thick, joint="curve")
        return np.asarray(sheet.resize((self.size, self.size), Image.Resampling.BOX), np.float32) / 255

    def curve(
        self, x: float, y: float, angle: float, length: float, *, wobble: float = 0.2, turn: float = 0.0
    ) -> Float[ndarray, "n 2"]:
        """Return a random path from a point; its heading turns by `turn` radians in total, plus noise of about `wobble`."""
        share = np.linspace(0, 1, 24)
        height, phase = self.rng.normal(0, wobble, 3), self.rng.uniform(0, 2 * pi, 3)
        sway = (height[:, None] * np.sin(np.array([[3.0], [7.0], [15.0]]) * share + phase[:, None])).sum(0)
        heading = angle + turn * share + sway - sway[0]
        path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * (length / len(share)), 0)
        return np.concatenate([np.zeros((1, 2)), path]) + np.array([x, y])

    def _middles(self, cells: int) -> tuple[Float[ndarray, "s s"], Float[ndarray, "s s"]]:
        """Return x and y of the centre of every cell of a grid."""
        middle = (np.arange(cells, dtype=np.float32) + 0.5) / cells - 0.5
        x, y = np.meshgrid(middle, middle)
        c, s = cos(self._angle), sin(self._angle)
        return c * x + s * y + 0.5, c * y - s * x + 0.5


def _resize(grid: Float[ndarray, "p q"], size: int) -> Float[ndarray, "s s"]:
    if grid.shape == (size, size):
        return grid
    return np.array(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def inside(distance: Float[ndarray, "h w"], softness: float) -> Float[ndarray, "h w"]:
    """Return 1 inside a shape, 0 outside, with a transition of width `softness`; one half on the border."""
    return 0.5 - 0.5 * np.tanh(distance / softness)


def rgb(red: float, green: float, blue: float) -> Float[ndarray, " 3"]:
    """Return an array of one number per channel."""
    return np.array([red, green, blue], np.float32)


def mix(
    below: Float[ndarray, "h w c"], above: Sequence[float] | Float[ndarray, "... c"], share: Float[ndarray, "h w"]
) -> Float[ndarray, "h w c"]:
    """Blend a colour over an image with opacity `share`."""
    return below + share[..., None] * (np.asarray(above, np.float32) - below)
