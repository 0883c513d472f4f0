"""Segment pictures and volumes from files.

OUT/NAME_mask.png            label image, 0 background, 1..K   (NAME_mask.nii.gz with the input's geometry for a volume)
OUT/NAME_probability.png     16-bit, probability of any foreground, 65535 is 1            (pictures)
OUT/NAME_disagreement.png    16-bit, standard deviation over members, 65535 is 1          (pictures)
OUT/NAME.json                everything needed to obtain the mask again, and the areas
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medsegdiff.commands import options
from medsegdiff.config import RunSettings
from medsegdiff.imaging import read, read_volume, write_labels, write_probability, write_volume
from medsegdiff.pipeline import Segmentation, Segmenter

__all__ = ["add", "main"]

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")


def add(verbs: argparse._SubParsersAction) -> None:
    """Describe the verb."""
    verb = verbs.add_parser(
        "segment",
        help="segment pictures and volumes",
        description="Segment PNG, JPEG, TIFF and DICOM pictures, and NIfTI, NRRD and MHA volumes slice by slice.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    verb.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    verb.add_argument("--out", type=Path, required=True, help="folder for the results")
    verb.add_argument(
        "--axis", type=int, choices=(0, 1, 2), default=2, help="volumes: 0 sagittal, 1 coronal, 2 axial slices"
    )
    options.add_run_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Segment every file, refusing before the first if two results would share a name."""
    twice = [name for name, n in Counter(map(_name, arguments.images)).items() if n > 1]
    if twice:
        raise ValueError(f"two inputs are called {twice[0]!r} and would overwrite each other's results; rename one")
    segmenter, settings = options.segmenter(arguments), options.settings(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in tqdm(arguments.images, desc="segmenting", unit="file"):
        try:
            results = _volume if path.name.lower().endswith(_VOLUMES) else _picture
            results(segmenter, settings, path, arguments)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def _picture(segmenter: Segmenter, settings: RunSettings, path: Path, arguments: argparse.Namespace) -> None:
    result = segmenter(read(path), settings)
    stem = arguments.out / _name(path)
    write_labels(f"{stem}_mask.png", result.labels)
    write_probability(f"{stem}_probability.png", 1 - result.probability[0])
    write_probability(f"{stem}_disagreement.png", result.disagreement)
    _sidecar(Path(f"{stem}.json"), result.sidecar())


def _volume(segmenter: Segmenter, settings: RunSettings, path: Path, arguments: argparse.Namespace) -> None:
    volume = read_volume(path)
    first = volume.slice(arguments.axis)
    results: list[Segmentation] = [
        segmenter(volume.slice(arguments.axis, index), settings)
        for index in tqdm(range(first.slice_count), desc=path.name, unit="slice", leave=False)
    ]
    stem = arguments.out / _name(path)
    labels = volume.stack(arguments.axis, [result.labels for result in results])
    write_volume(labels, volume, f"{stem}_mask.nii.gz")
    voxel = float(np.prod(volume.spacing)) if volume.measured else None
    counts = {name: int((labels == i).sum()) for i, name in enumerate(segmenter.domain.labels, 1)}
    facts = results[0].sidecar() | {
        "axis": arguments.axis,
        "slices": len(results),
        "areas": {},
        "volumes": {k: {"voxels": n} | ({"mm3": n * voxel} if voxel else {}) for k, n in counts.items()},
        "seconds": round(sum(result.seconds for result in results), 4),
    }
    _sidecar(Path(f"{stem}.json"), facts)


def _sidecar(path: Path, facts: dict) -> None:
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
