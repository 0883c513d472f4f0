"""Write a result to files, for the command line, the page and the course alike.

PREFIXmask.png             label image, 0 background, 1..K
PREFIXprobability.png      16-bit, probability of any foreground, 65535 is 1            (.nii.gz, float32, for a volume)
PREFIXdisagreement.png     16-bit, standard deviation over members, 65535 is 1          (.nii.gz, float32, for a volume)
PREFIXmask.nii.gz          the mask on the voxels of the volume, also of one slice
PREFIXmask.dcm             DICOM SEG
REPORT                     JSON: everything needed to obtain the mask again (`sidecar`), and what the caller adds
"""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medsegdiff.atomic import write_text
from medsegdiff.dicom_seg import write_seg
from medsegdiff.evaluation import plain
from medsegdiff.image_ref import Volume
from medsegdiff.imaging import write_labels, write_map, write_probability, write_volume
from medsegdiff.orientation import turn
from medsegdiff.pipeline import Segmentation
from medsegdiff.slices import VolumeSegmentation

__all__ = ["write", "write_dicom_seg"]


def write(
    result: Segmentation | VolumeSegmentation,
    prefix: str,
    report: str | PathLike[str],
    *,
    volume: Volume | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write everything but DICOM SEG; return the paths by name: mask, nifti, probability, disagreement, report.

    Arguments:
        result: of a picture or a volume.
        prefix: start of every file name but the report's, with its folder.
        report: path of the report.
        volume: the volume that was segmented, or that the picture is a slice of.
        facts: added to the report; what is not known (nan) becomes null.
    """
    if isinstance(result, Segmentation):
        paths = {name: Path(f"{prefix}{name}.png") for name in ("mask", "probability", "disagreement")}
        write_labels(paths["mask"], result.labels)
        write_probability(paths["probability"], np.clip(1 - result.probability[0], 0, 1))
        write_probability(paths["disagreement"], np.clip(result.disagreement, 0, 1))
    else:
        assert volume is not None
        paths = {name: Path(f"{prefix}{name}.nii.gz") for name in ("probability", "disagreement")}
        write_map(result.probability, volume, paths["probability"])
        write_map(result.disagreement, volume, paths["disagreement"])
    if volume is not None:
        paths["nifti"] = Path(f"{prefix}mask.nii.gz")
        write_volume(_on_voxels(result, volume), volume, paths["nifti"])
    paths["report"] = Path(report)
    text = json.dumps(plain(result.sidecar() | dict(facts or {})), indent=2, allow_nan=False)
    write_text(paths["report"], text + "\n")
    return paths


def write_dicom_seg(
    result: Segmentation | VolumeSegmentation, volume: Volume, source: Any, path: str | PathLike[str]
) -> None:
    """Write the mask as DICOM SEG.

    Arguments:
        result: of the volume, or of one of its slices.
        volume: read from a DICOM file or series.
        source: of the same file, or a list of those of the series, by `dicom_seg.read_source`.
        path: of the file to write.

    Raises:
        ValueError: frames of the file have no place that a segmentation could refer to.
    """
    labels = turn(_on_voxels(result, volume), volume.axes, volume.orientation)
    write_seg(path, labels, source, result.domain, result.digest)


def _on_voxels(result: Segmentation | VolumeSegmentation, volume: Volume) -> UInt8[np.ndarray, "z y x"]:
    if isinstance(result, Segmentation):
        return volume.fill(result.ref.axis, result.ref.index, result.labels)
    return result.labels
