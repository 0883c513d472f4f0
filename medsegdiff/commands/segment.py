"""Segment images and volumes from files.

OUT/NAME_mask.png            label image, 0 background, 1..K       (NAME_mask.nii.gz with the input's geometry for a volume)
OUT/NAME_probability.png     16-bit, probability of any foreground, 65535 is 1            (.nii.gz, float32, for a volume)
OUT/NAME_disagreement.png    16-bit, standard deviation over members, 65535 is 1          (.nii.gz, float32, for a volume)
OUT/NAME_mask.dcm            DICOM SEG, with --seg
OUT/NAME.json                everything needed to reproduce the mask, and the areas

`--checkpoint auto` uses for each file the shipped checkpoint that was trained on such images, and stops if there is none.
An image unlike the training images of its checkpoint gives a warning; the report holds the level and the score.

Of several files, one that fails does not stop the others: it is named, and the exit status is 2 at the end. Results that exist
already are kept unless --overwrite is given.

`--replay NAME.json` repeats the run of a report on the same file and checks that the mask is the same.
"""

import argparse
import errno
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from medsegdiff import outputs
from medsegdiff.checkpoint import load
from medsegdiff.commands import options
from medsegdiff.commands.domain import choose
from medsegdiff.config import RunSettings
from medsegdiff.data.tasks import axis_of, intensity_of
from medsegdiff.dicom_seg import read_source
from medsegdiff.domain import Verdict, check_picture, check_volume
from medsegdiff.hub import find, resolve
from medsegdiff.image_ref import Intensity, Picture, PictureError, Volume, Windowing
from medsegdiff.imaging import Limits, Series, open, read, read_series, read_volume, series_in, stem
from medsegdiff.pipeline import Segmentation, Segmenter
from medsegdiff.processes import Share
from medsegdiff.records import Step
from medsegdiff.replay import Report
from medsegdiff.slices import VolumeSegmentation, segment_volume

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `segment` command."""
    verb = verbs.add_parser(
        "segment",
        help="segment images and volumes",
        description="Segment PNG, JPEG, TIFF, WebP, BMP and DICOM images, and NIfTI, NRRD, MHA and DICOM volumes slice by slice.",
        formatter_class=options.Help,
    )
    verb.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="image or volume file, or folder of DICOM series"
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for the results")
    verb.add_argument(
        "--axis",
        type=int,
        choices=(0, 1, 2),
        help="volumes: 0 sagittal, 1 coronal, 2 axial slices (default: of the task, or another if slices along it are too small; "
        "for DICOM 2, its frames)",
    )
    verb.add_argument("--index", type=int, help="volumes: segment only this slice, counted from 0 (default: all)")
    options.add_window(verb)
    verb.add_argument("--seg", action="store_true", help="for DICOM inputs, also write the mask as DICOM SEG")
    verb.add_argument(
        "--read-memory", type=int, default=8192, metavar="MIB", help="memory that reading a file may take"
    )
    verb.add_argument(
        "--read-seconds", type=int, default=600, metavar="S", help="processor time that reading a file may take"
    )
    options.add_overwrite(verb)
    verb.add_argument("--replay", type=Path, metavar="REPORT", help="repeat the run of this JSON report on one IMAGE")
    options.add_run_options(verb, checkpoint=False)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Segment every file; fail before the first if two results would have the same name."""
    if arguments.replay:
        _replay(arguments)
        return
    if arguments.checkpoint is None:
        raise ValueError("no checkpoint is named; add --checkpoint NAME or auto, or --replay with the report of a run")
    images = [one for path in arguments.images for one in _inputs(path)]
    twice = [name for name, n in Counter(map(_name, images)).items() if n > 1]
    if twice:
        raise ValueError(f"two inputs are called {twice[0]!r} and would overwrite each other's results; rename one")
    settings = options.settings(arguments)
    share = Share.here()
    mine = share.of(images)
    options.require_new((path for image in mine for path in _results(image, arguments.out)), arguments.overwrite)
    segmenter = None if arguments.checkpoint == "auto" else options.segmenter(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed: list[Path | Series] = []
    for path in tqdm(mine, desc="segmenting", unit="file", disable=not share.first):
        try:
            result = _segment(segmenter or _chosen(path, arguments), settings, path, arguments)
            for line in _lines(_name(path), result):
                tqdm.write(line)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # the disk is full or the limit on file sizes reached: other images would fail as well
            if len(images) == 1:
                raise error if isinstance(error, OSError) else ValueError(f"{path}: {error}") from error
            failed.append(path)
            tqdm.write(f"{path}: {error}", file=sys.stderr)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(mine)} files could not be segmented ({', '.join(map(str, failed))}); "
            f"the results of the others are in {arguments.out}"
        )


def _inputs(path: Path) -> Sequence[Path | Series]:
    """List the series of a folder; a folder without any stays in the list and fails in its turn."""
    with suppress(PictureError):
        return series_in(path) if path.is_dir() else [path]
    return [path]


def _lines(name: str, result: Segmentation | VolumeSegmentation) -> Iterator[str]:
    """Describe the size of every class, and how far the members agree on it."""
    flat = isinstance(result, Segmentation)
    confidence = result.confidence()
    for label, size in (result.areas() if flat else result.volumes()).items():
        unit, physical, shown = ("pixels", "mm2", "mm²") if flat else ("voxels", "mm3", "mm³")
        key, shown = (physical, shown) if physical in size else (unit, unit)
        text = f"{name}: {label} {size[key]:,.0f} {shown}"
        if known := confidence.get(label):
            low, high = known[key]
            dice = "none" if known["pairwise_dice"] is None else f"{known['pairwise_dice']:.3f}"
            text += f" (95 % of the members {low:,.0f} to {high:,.0f}, their pairwise Dice {dice})"
        yield text


def _name(image: Path | Series) -> str:
    """Return the name that the results of a file or series begin with."""
    return image.name if isinstance(image, Series) else stem(image)


def _results(image: Path | Series, out: Path) -> list[Path]:
    """Return every path that the results of a file may have."""
    name = _name(image)
    kinds = ("mask.png", "mask.nii.gz", "mask.dcm")
    maps = (f"{kind}.{ending}" for kind in ("probability", "disagreement") for ending in ("png", "nii.gz"))
    return [out / f"{name}.json", *(out / f"{name}_{end}" for end in (*kinds, *maps))]


def _chosen(path: Path | Series, arguments: argparse.Namespace) -> Segmenter:
    """Load the shipped checkpoint that fits a file best."""
    name, _ = choose(path.files[len(path.files) // 2] if isinstance(path, Series) else path, options.window(arguments))
    tqdm.write(f"{path}: {name}", file=sys.stderr)
    return _loaded(name, arguments.device)


@lru_cache(maxsize=4)
def _loaded(name: str, device: str) -> Segmenter:
    return Segmenter.from_pretrained(name, device=device)


def _warn(judged: Verdict | None, segmenter: Segmenter, out: Path) -> dict[str, Any]:
    """Warn of an image unlike the training images, and return what the report says of it."""
    if judged is not None and judged.level != "fits":
        what = {"unusual": "unusual for", "other": "not the kind of image for"}[judged.level]
        reasons = "; ".join(map(str, judged.findings))
        tqdm.write(f"{out.name}: {what} a checkpoint of the task {segmenter.domain.task}: {reasons}", file=sys.stderr)
    return {"domain": None if judged is None else judged.facts()}


def _segment(
    segmenter: Segmenter, settings: RunSettings, path: Path | Series, arguments: argparse.Namespace
) -> Segmentation | VolumeSegmentation:
    """Segment one slice of a file, or all, and write the results."""
    out = arguments.out / _name(path)
    window = options.window(arguments) or intensity_of(segmenter.domain)
    if isinstance(path, Series):
        volume = read_series(path, limits=_limits(arguments))
    else:
        volume = open(path, page=arguments.index, window=window, stack=False, limits=_limits(arguments))
    source = _source(path, volume) if arguments.seg else []
    size = segmenter.checkpoint.model_config.image_size
    if isinstance(volume, Picture):
        facts = _warn(check_picture(volume, segmenter.domain, size), segmenter, out)
        result = _picture(segmenter, settings, volume)
        outputs.write(result, f"{out}_", f"{out}.json", facts=facts)
        return result
    axis = volume.slice_axis(axis_of(segmenter.domain)) if arguments.axis is None else arguments.axis
    _remark(volume, window, out)
    if arguments.index is None and volume.count(axis) > 1:
        facts = _warn(check_volume(volume, segmenter.domain, size, axis, window), segmenter, out)
        result = _volume(segmenter, settings, volume, axis, window)
    else:
        picture = volume.slice(axis, arguments.index, window)
        facts = _warn(check_picture(picture, segmenter.domain, size), segmenter, out)
        result = _picture(segmenter, settings, picture)
    facts |= {"remarks": list(volume.remarks)}
    outputs.write(result, f"{out}_", f"{out}.json", volume=volume, facts=facts)
    if source:
        outputs.write_dicom_seg(result, volume, source, f"{out}_mask.dcm")
    return result


def _source(path: Path | Series, volume: Picture | Volume) -> list[Any]:
    """Read the headers that a DICOM SEG of a file or series refers to."""
    if isinstance(volume, Picture) or volume.source_kind not in ("dicom", "series"):
        raise ValueError("this is no DICOM image, to which a DICOM SEG could refer; leave out --seg")
    return [read_source(file, names=True) for file in (path.files if isinstance(path, Series) else (path,))]


def _remark(volume: Volume, window: Windowing, out: Path) -> None:
    """Print what is unusual about the geometry, and if a checkpoint's window cannot be meant for these values."""
    remarks = list(volume.remarks)
    if isinstance(window, Intensity) and window.window and not volume.follows(window) and volume.array.ndim == 3:
        low, high = window.window
        remarks.append(
            f"no value is below 0, so these are not Hounsfield units; the checkpoint's window of {low:g} to {high:g} is not used"
        )
    for remark in remarks:
        tqdm.write(f"{out.name}: {remark}", file=sys.stderr)


def _limits(arguments: argparse.Namespace) -> Limits:
    return Limits(arguments.read_memory * 2**20, arguments.read_seconds, 2 * arguments.read_seconds)


def _picture(segmenter: Segmenter, settings: RunSettings, picture: Picture) -> Segmentation:
    """Segment an image, with a bar of its steps where they take more than a second."""
    with tqdm(total=settings.steps, desc="steps", leave=False, delay=1) as bar:
        for event in segmenter.run(picture, settings):
            if isinstance(event, Segmentation):
                return event
            if isinstance(event, Step):
                bar.update()
    raise AssertionError("a run ends with its result")


def _volume(
    segmenter: Segmenter, settings: RunSettings, volume: Volume, axis: int, window: Windowing
) -> VolumeSegmentation:
    with tqdm(total=volume.count(axis), unit="slice", leave=False) as bar:
        for event in segment_volume(segmenter, volume, settings, axis=axis, window=window):
            if isinstance(event, VolumeSegmentation):
                return event
            bar.update(event.done - bar.n)
    raise AssertionError("a volume's run ends with its result")


def _replay(arguments: argparse.Namespace) -> None:
    """Repeat the run of a report and compare the masks."""
    report = Report.read(arguments.replay)
    if len(arguments.images) != 1:
        raise ValueError(
            f"{len(arguments.images)} files were given to replay one report on; give the one it was made of"
        )
    [path] = arguments.images
    named = None if arguments.checkpoint == "auto" else arguments.checkpoint
    folder = resolve(named) if named else find(report.weights)
    if folder is None:
        raise ValueError(f"no checkpoint here has the sha256 {report.weights[:12]}...; name it with --checkpoint")
    device = arguments.device
    if report.arithmetic is not None and device in ("auto", "cpu") and report.arithmetic.device == "cpu":
        device = "cpu"
        torch.set_num_threads(report.arithmetic.threads)
    segmenter = Segmenter(report.checkpoint(load(folder)), device, report.dtype)
    report.require_weights(segmenter.checkpoint.digest)
    arguments.axis, arguments.window, arguments.file_window = report.axis, report.window, False
    arguments.index = None if report.whole else report.index
    if report.whole:
        report.require_source(read_volume(path, limits=_limits(arguments)).digest)
    else:
        where = {"axis": report.axis, "index": report.index, "window": report.window}
        report.require_source(read(path, **where, limits=_limits(arguments)).ref.sha256)
    options.require_new(_results(path, arguments.out), arguments.overwrite)
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = _segment(segmenter, report.settings, path, arguments)
    labels = result.labels if isinstance(result, Segmentation) else None
    dice = report.require_mask(result.sidecar()["mask"]["sha256"], labels, segmenter.arithmetic)
    print(
        f"the same mask, sha256 {report.mask}"
        if dice == 1
        else f"the same mask up to rounding: Dice {dice:.4f} with the report's, which was computed elsewhere"
    )
