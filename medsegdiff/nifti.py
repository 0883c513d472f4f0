"""Read and write NIfTI-1 and NIfTI-2 with nibabel.

A NIfTI header describes the position of its voxels twice, as a rotation (qform) and as a matrix (sform), each with a code
that states its coordinate system. Programs disagree about which of the two counts, so a mask repeats both, with their
codes, exactly as the image has them: wherever a program shows the image, it shows the mask.

For display the voxels are turned to LPS by permuting and flipping axes only. The affine is the one that nibabel chooses: the
sform if its code is above 0, else the qform if its code is, else the voxel sizes alone. It may be sheared.

Reference:
    NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov
"""

import gzip
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from medsegdiff.atomic import replacing
from medsegdiff.image_ref import NiftiSpace, PictureError, Volume, check_sides, check_voxels, robust_window
from medsegdiff.orientation import axes_of, place_of, turn, turn_affine

__all__ = ["read_nifti", "write_map", "write_volume"]

_COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_MILLIMETRES = {1: 1e3, 3: 1e-3}  # metres and micrometres; other codes are taken as mm
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's world is RAS
_SLAB = 2**22  # voxels scaled at once


def read_nifti(path: Path, head: bytes, most: int) -> Volume:
    """Read a NIfTI file, zipped or not.

    Arguments:
        path: of the file, whatever its name.
        head: its first bytes, inflated.
        most: bytes that its voxels may take as float32.

    Raises:
        PictureError: it is too large, or neither grey nor 8-bit RGB, or no volume. Damaged files raise other errors.
    """
    kind = Nifti2Header if head[4:8] == b"n+2\0" else Nifti1Header
    start = head[: kind.template_dtype.itemsize]
    header, raw = _header(kind, start), kind(start, check=False)
    header["vox_offset"] = max(header["vox_offset"], kind.single_vox_offset)  # some writers leave it at 0
    stored, voxel = header.get_data_shape(), header.get_data_dtype()
    shape: tuple[int, ...] = tuple(stored)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise PictureError(
            "volume.dimensions", "the file has {count} dimensions; extract one 3-D volume", count=len(shape)
        )
    colour = voxel.names is not None and len(tuple(voxel.names)) == len(_COLOUR.names or ())
    if (voxel.names and not colour) or np.issubdtype(voxel, np.complexfloating):
        what = "RGBA" if voxel.names else f"{voxel}"
        raise PictureError("volume.voxel_type", "a voxel holds {what}; give grey or 8-bit RGB", what=what)
    sides = list(shape)
    check_sides(sides[1], sides[0], least=0)
    check_voxels(shape, 3 if colour else 1, most=most)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        values = ArrayProxy(file, header, mmap=False).get_unscaled()
        file.read(1)  # to the end, where gzip compares its checksum
    values = values.reshape((*shape, 1)[:3], order="F")
    if colour:
        values = np.stack([values[name] for name in _COLOUR.names or ()], -1)
    else:
        values = _scaled(values, *header.get_slope_inter())
    affine = _LPS @ header.get_best_affine()
    affine[:3] *= _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    known = bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)
    affine = affine if known else _LPS.copy()
    matrix, rotation = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    file_axes = axes_of(affine)
    # The plane of a flat file is shown as it is stored, unless it is axial.
    axes = file_axes if len(shape) == 2 and file_axes[2] not in "SI" else "LPS"
    spacing, origin, direction = place_of(turn_affine(affine, values.shape[:3], file_axes, axes))
    array = turn(np.moveaxis(values, (0, 1, 2), (2, 1, 0)), file_axes, axes)
    return Volume(
        array=array,
        spacing=spacing,
        origin=origin,
        direction=direction,
        orientation=file_axes,
        axes=axes,
        window=(0.0, 255.0) if colour else robust_window(array),
        source_kind="nifti",
        # Without a matrix the distances are the voxel sizes, of which nibabel takes 0 as 1.
        measured=known and bool(matrix or raw["pixdim"][1 : len(shape) + 1].all()),
        oriented=known and bool(matrix or rotation),
        nifti=_space(raw, len(shape)),
    )


def _header(kind: type[Nifti1Header], start: bytes) -> Nifti1Header:
    """Read a header, as far as nibabel can repair it."""
    try:
        header = kind(start)
        _ = header.get_best_affine(), header.get_data_dtype(), header.get_slope_inter()
        if min(header.get_data_shape(), default=0) < 0:
            raise ValueError("a negative number of voxels")
    except Exception:  # nibabel's own errors share no base
        raise PictureError(
            "volume.nifti_header", "this NIfTI header is damaged or of an unknown voxel type; export it again"
        ) from None
    return header


def _scaled(values: np.ndarray, slope: float | None, intercept: float | None) -> np.ndarray:
    """Return slope * values + intercept as float32, computed in float64 a slab at a time."""
    if slope is None or (slope, intercept) == (1, 0):
        return values.astype(np.float32)
    scaled = np.empty(values.shape, np.float32, order="F")
    step = max(1, _SLAB // max(1, math.prod(values.shape[:-1])))
    for first in range(0, values.shape[-1], step):
        part = slice(first, first + step)
        scaled[..., part] = values[..., part].astype(np.float64) * slope + (intercept or 0.0)
    return scaled


def _space(header: Nifti1Header, rank: int) -> NiftiSpace:
    def numbers(*names: str) -> tuple[float, ...]:
        return tuple(float(value) for name in names for value in np.ravel(header[name]))

    return NiftiSpace(
        version=2 if isinstance(header, Nifti2Header) else 1,
        rank=rank,
        pixdim=numbers("pixdim"),
        codes=(int(header["qform_code"]), int(header["sform_code"])),
        qform=numbers("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
        sform=numbers("srow_x", "srow_y", "srow_z"),
        units=int(header["xyzt_units"]),
    )


def write_map(values: Float[np.ndarray, "z y x"], like: Volume, path: str | PathLike[str]) -> None:
    """Write a map as float32 NIfTI (.nii.gz) on the voxels of the file that `like` was read from, without any text."""
    _write(values.astype(np.float32), like, path)


def write_volume(labels: Integer[np.ndarray, "z y x"], like: Volume, path: str | PathLike[str]) -> None:
    """Write labels 0..255 as NIfTI (.nii.gz) on the voxels of the file that `like` was read from, without any text."""
    if not str(path).endswith(".nii.gz"):
        raise ValueError("label volumes are written as NIfTI; end the name in .nii.gz")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; a label volume holds 0 to 255")
    _write(labels.astype(np.uint8), like, path)


def _write(values: np.ndarray, like: Volume, path: str | PathLike[str]) -> None:
    if values.shape != like.array.shape[:3]:
        raise ValueError(f"the labels are {values.shape} but the volume is {like.array.shape[:3]}; give one per voxel")
    array = turn(values, like.axes, like.orientation).transpose(2, 1, 0)
    space = like.nifti
    header = Nifti2Header() if space and space.version == 2 else Nifti1Header()
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    if space:
        header.set_data_shape(array.shape[: space.rank])
        _set(header, space)
    else:
        header.set_data_shape(array.shape)
        affine = _LPS @ turn_affine(like.affine, values.shape[::-1], like.axes, like.orientation)
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        header.set_xyzt_units("mm" if like.measured else "unknown")
    with (
        replacing(path) as draft,
        draft.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
    ):
        zipped.write(header.binaryblock + bytes(4))
        zipped.write(array.tobytes("F"))


def _set(header: Any, space: NiftiSpace) -> None:
    """Repeat what another header states about space."""
    header["pixdim"] = space.pixdim
    header["qform_code"], header["sform_code"] = space.codes
    names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for name, value in zip(names, space.qform, strict=True):
        header[name] = value
    for i, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = space.sform[4 * i : 4 * i + 4]
    header["xyzt_units"] = space.units
