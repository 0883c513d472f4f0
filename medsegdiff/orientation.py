"""Turn volumes between the axes of their file and LPS, by permuting and flipping axes only.

Axes are named by where they point, as in nibabel and DICOM: "LPS" runs to the patient's left, posterior and superior side,
"RAS" is the usual order of NIfTI. An affine maps voxel indices x, y, z to millimetres in LPS.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from nibabel import orientations

__all__ = ["axes_of", "place_of", "turn", "turn_affine"]

_RAS = np.diag([-1.0, -1.0, 1.0])  # nibabel's world


def axes_of(affine: Float[np.ndarray, "_ _"]) -> str:
    """Name the axes of an affine (or of its upper left 3 x 3), each by the closest direction."""
    ras = np.eye(4)
    ras[:3, :3] = _RAS @ affine[:3, :3]
    return "".join(map(str, orientations.aff2axcodes(ras)))


def turn(array: Shaped[np.ndarray, "z y x *c"], before: str, after: str) -> Shaped[np.ndarray, "_ _ _ *c"]:
    """Turn a volume from one order of axes to another; the result is contiguous."""
    if before == after:
        return np.ascontiguousarray(array)
    turned = orientations.apply_orientation(np.moveaxis(array, (0, 1, 2), (2, 1, 0)), _transform(before, after))
    return np.ascontiguousarray(np.moveaxis(turned, (0, 1, 2), (2, 1, 0)))


def turn_affine(
    affine: Float[np.ndarray, "4 4"], shape: Sequence[int], before: str, after: str
) -> Float[np.ndarray, "4 4"]:
    """Return the affine of a turned volume, given its shape (x, y, z) before."""
    return affine @ orientations.inv_ornt_aff(_transform(before, after), tuple(shape))


def place_of(
    affine: Float[np.ndarray, "4 4"],
) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, ...]]:
    """Split an affine into spacing, origin and direction, as `Volume` holds them."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    (a, b, c), (x, y, z) = spacing.tolist(), affine[:3, 3].tolist()
    return (a, b, c), (x, y, z), tuple(direction.ravel().tolist())


def _transform(before: str, after: str) -> np.ndarray:
    return orientations.ornt_transform(orientations.axcodes2ornt(before), orientations.axcodes2ornt(after))
