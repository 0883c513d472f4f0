"""Evaluate a checkpoint on images or volumes with masks: Dice, IoU, HD95 per class, calibration, seconds, worst cases."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from medsegdiff.atomic import write_text
from medsegdiff.commands import options
from medsegdiff.commands.figure import reliability_plot
from medsegdiff.config import RunSettings
from medsegdiff.data.adaptors import LAYOUTS, cases, unpaired
from medsegdiff.data.dataset import Split
from medsegdiff.data.experts import experts
from medsegdiff.data.folders import SLICES, Case, Sample, evenly_spaced, is_flat
from medsegdiff.data.tasks import axis_of, cases_of, intensity_of, patients_of
from medsegdiff.evaluation import Scored, case_of, evaluate, joined, table
from medsegdiff.image_ref import Windowing
from medsegdiff.pipeline import Segmenter
from medsegdiff.processes import Share

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `evaluate` command."""
    verb = verbs.add_parser(
        "evaluate",
        help="evaluate a checkpoint on images with masks",
        description="Print Dice, IoU and HD95 per class, calibration error and seconds per image.",
        formatter_class=options.Help,
    )
    verb.add_argument(
        "--data", type=Path, required=True, help="folder with images/ and masks/, or with splits that have them"
    )
    verb.add_argument("--layout", choices=("auto", "plain", *LAYOUTS), default="auto", help="layout of the data folder")
    verb.add_argument(
        "--split",
        help="split to evaluate (default: val; of a folder without splits that the checkpoint was trained on, the images that "
        "training held out, else all)",
    )
    verb.add_argument(
        "--cases",
        metavar="REGEX",
        help="compute Dice per case, the first group of this pattern in the file name (default: of the task); slices of a volume "
        "always belong to one case",
    )
    verb.add_argument(
        "--patient",
        metavar="REGEX",
        help="bootstrap intervals over patients, the first group of this pattern in the file name (default: of the task)",
    )
    verb.add_argument(
        "--axis", type=int, choices=(0, 1, 2), help="slice volumes along this axis (default: of the task)"
    )
    options.add_window(verb)
    verb.add_argument(
        "--skip-unpaired",
        action="store_true",
        help="evaluate only the images that have masks, and list the others (default: stop with an error)",
    )
    verb.add_argument("--limit", type=int, default=0, help="evaluate only so many images, evenly spaced; 0 is all")
    verb.add_argument("--anchor", action="store_true", help="evaluate the anchor only (V2), without diffusion")
    verb.add_argument("--json", type=Path, help="also write all results to this file")
    verb.add_argument("--plot", type=Path, help="also write a reliability diagram to this SVG file")
    options.add_overwrite(verb)
    options.add_run_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Evaluate, print the table and write the JSON file."""
    segmenter = options.segmenter(arguments)
    group = _pattern("--cases", arguments.cases or cases_of(segmenter.domain.task))
    settings = segmenter.resolve_settings(options.settings(arguments))
    options.require_new((arguments.json, arguments.plot), arguments.overwrite)
    share = Share.here()
    if arguments.limit < 0:
        raise ValueError(f"--limit is {arguments.limit}; it is a number of images, 0 for all")
    found = _paired(arguments, share, Split.recorded(segmenter.checkpoint.training))
    volumes = any(case.is_volume for case in found)
    group = re.compile(SLICES) if volumes and not arguments.cases else group
    axis = axis_of(segmenter.domain) if arguments.axis is None else arguments.axis
    if not volumes:
        found.sort(key=lambda case: case_of(case.name, group))
    if arguments.limit:
        found = evenly_spaced(found, arguments.limit)
    facts = (
        asdict(settings)
        | {
            "checkpoint": segmenter.checkpoint.folder.name,
            "sha256": segmenter.checkpoint.digest,
            "data": arguments.data.resolve().name,
            "split": arguments.split,
            "anchor": arguments.anchor,
            "limit": arguments.limit,
            "dtype": str(segmenter.model.dtype).removeprefix("torch."),
        }
        | ({"axis": axis} if volumes else {})
        | ({"cases": arguments.cases} if arguments.cases else {})
    )
    bar = tqdm(
        _mine(found, group, share),
        desc="evaluating",
        unit="volume" if volumes else "picture",
        disable=not share.first,
    )
    patient = arguments.patient or segmenter.domain.patient or patients_of(segmenter.domain.task)
    _pattern("--patient", patient, groups=1)
    failed: list[str] = []
    scored = _scored(segmenter, settings, bar, axis, options.window(arguments), arguments.anchor, failed)
    result = joined(
        share.gathered(evaluate(scored, segmenter.domain.labels, group=group, settings=facts, patient=patient))
    )
    failed = [name for some in share.gathered(failed) for name in some]
    if not share.first:
        return
    if failed:
        result = replace(result, settings={**result.settings, "failed": failed})
    print(table(result))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.json, json.dumps(result.to_json(), indent=1) + "\n")
    if arguments.plot:
        walked = f"{settings.members} x {settings.steps}" if settings.steps else "no steps"
        what = "anchor" if arguments.anchor else walked
        title = f"{facts['checkpoint']} on {facts['data']}/{facts['split']}, {what}"
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.plot, reliability_plot(result, title))
    if failed:
        raise ValueError(f"{len(failed)} of {len(found)} files could not be evaluated: {', '.join(failed)}")


def _paired(arguments: argparse.Namespace, share: Share, rule: Split | None) -> list[Case]:
    """List the cases to evaluate, and set `arguments.split`.

    Raises:
        ValueError: there are none, or images without a mask or masks without an image, and --skip-unpaired is not given.
    """
    whole = is_flat(arguments.data) and not (arguments.split and (arguments.data / arguments.split).is_dir())
    split = arguments.split or "val"  # of a flat folder every split is the same
    found = cases(arguments.data, split, arguments.layout)
    left = unpaired(arguments.data, split, arguments.layout, found)
    paired = [case for case in found if case.mask and not case.missing]
    if not paired:
        raise ValueError(
            f"{arguments.data} has pictures but no masks of the same names; evaluate needs masks/NAME.png for images/NAME.*"
            + (f" ({left})" if left.masks or left.lossy else "")
        )
    if left and not arguments.skip_unpaired:
        raise ValueError(f"{arguments.data}: {left}; rename or add them, or leave them out with --skip-unpaired")
    if left and share.first:
        print(f"left out: {left}", file=sys.stderr)
    if whole:
        return _chosen(paired, arguments, share, rule)
    arguments.split = split
    return paired


def _chosen(paired: list[Case], arguments: argparse.Namespace, share: Share, rule: Split | None) -> list[Case]:
    """Return the split of a flat folder that the rule of training makes; all cases of a folder that it was not made for."""
    if rule is not None and not rule.fits(paired):
        rule = None
        if share.first:
            print(f"{arguments.data}: other images than those of training, so all are evaluated", file=sys.stderr)
    if rule is None:
        if arguments.split not in (None, "all"):
            raise ValueError(
                f"{arguments.data} has no {arguments.split}/; leave out --split to evaluate all of its images"
            )
        arguments.split = "all"
        return paired
    arguments.split = arguments.split or "val"
    chosen = rule.of(paired, arguments.split)
    if not chosen:
        raise ValueError(
            f"{arguments.data}: none of the {len(paired)} images is in the {arguments.split} split of training ({rule}); "
            "evaluate all of them with --split all"
        )
    if share.first and len(chosen) < len(paired):
        print(
            f"{arguments.data}: {len(chosen)} of {len(paired)} images, the {arguments.split} split of training ({rule}); "
            "--split all evaluates every image",
            file=sys.stderr,
        )
    return chosen


def _pattern(option: str, text: str | None, groups: int = 0) -> re.Pattern[str] | None:
    try:
        pattern = re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"{option} {text!r} is no regular expression ({error}); try one like '(case\\d+)'") from error
    if pattern is not None and pattern.groups < groups:
        raise ValueError(
            f"{option} {text!r} has no group; put parentheses around the part to compare, as in '(case\\d+)'"
        )
    return pattern


def _mine(found: list[Case], group: re.Pattern[str] | None, share: Share) -> list[Case]:
    """Return the cases of this process."""
    names = [case.name if case.is_volume else case_of(case.name, group) for case in found]
    cases_of_all = list(dict.fromkeys(names))
    if len(cases_of_all) < share.world:
        raise ValueError(f"there are {len(cases_of_all)} cases for {share.world} processes; start fewer")
    mine = set(share.of(cases_of_all))
    return [case for case, name in zip(found, names, strict=True) if name in mine]


def _scored(
    segmenter: Segmenter,
    settings: RunSettings,
    found: Iterable[Case],
    axis: int,
    window: Windowing,
    anchor: bool,
    failed: list[str],
) -> Iterator[Scored]:
    """Segment all samples; a file that cannot be read is named, added to `failed` and left out."""
    for case in found:
        samples = case.samples(len(segmenter.domain.labels), axis, window or intensity_of(segmenter.domain))
        while True:
            try:
                sample = next(samples, None)
            except (ValueError, OSError) as error:
                tqdm.write(f"{error}", file=sys.stderr)
                failed.append(case.image.name)
                break
            if sample is None:
                break
            if case.is_volume and isinstance(found, tqdm):
                found.set_postfix_str(sample.name)
            result = segmenter.anchor(sample.picture, settings) if anchor else segmenter(sample.picture, settings)
            yield Scored(
                name=sample.name,
                labels=result.labels,
                probability=np.asarray(result.probability),
                truth=sample.labels,
                seconds=result.seconds,
                spacing_mm=sample.picture.spacing_mm,
                distance_mm=sample.distance_mm,
                members=result.members,
                readers=_readers(case, sample, len(segmenter.domain.labels)),
            )


def _readers(case: Case, sample: Sample, classes: int) -> UInt8[np.ndarray, "_ h w"] | None:
    """Return the readers' masks of an image, or those reconstructed from the shares of experts."""
    if sample.readers is not None or case.is_volume:
        return sample.readers
    return experts(case, classes)
