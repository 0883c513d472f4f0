"""Score a checkpoint on pictures with masks: Dice, IoU, HD95 per class, calibration, seconds, worst cases by name."""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from medsegdiff.commands import options
from medsegdiff.config import RunSettings
from medsegdiff.data.folders import Case, cases
from medsegdiff.evaluation import Scored, case_of, evaluate, table
from medsegdiff.imaging import read
from medsegdiff.pipeline import Segmenter

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Describe the verb."""
    verb = verbs.add_parser(
        "evaluate",
        help="score a checkpoint on pictures with masks",
        description="Dice, IoU, HD95 per class, calibration and seconds per image.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    verb.add_argument(
        "--data", type=Path, required=True, help="folder with images/ and masks/, or with such splits in it"
    )
    verb.add_argument("--split", default="val", help="which split, where the folder has several")
    verb.add_argument(
        "--cases", metavar="REGEX", help="pool pictures of one case (first group, on the file name) before Dice"
    )
    verb.add_argument("--limit", type=int, default=0, help="score only so many pictures, evenly chosen; 0 is all")
    verb.add_argument("--anchor", action="store_true", help="score the condition network's own mask (V2), no denoising")
    verb.add_argument("--json", type=Path, help="also write everything to this file")
    options.add_run_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Score, print the table, write the JSON."""
    group = _pattern(arguments.cases)
    segmenter = options.segmenter(arguments)
    settings = segmenter.settings(options.settings(arguments))
    found = [case for case in cases(arguments.data, arguments.split) if case.mask]
    if not found:
        raise ValueError(f"{arguments.data} has pictures but no masks; evaluate needs masks/NAME.png for images/NAME.*")
    found.sort(key=lambda case: case_of(case.name, group))
    if arguments.limit:
        found = found[:: max(len(found) // arguments.limit, 1)][: arguments.limit]
    facts = asdict(settings) | {
        "checkpoint": segmenter.checkpoint.folder.name,
        "sha256": segmenter.checkpoint.digest,
        "data": arguments.data.resolve().name,
        "split": arguments.split,
        "anchor": arguments.anchor,
        "limit": arguments.limit,
        "dtype": str(segmenter.model.dtype).removeprefix("torch."),
    }
    bar = tqdm(found, desc="evaluating", unit="picture")
    result = evaluate(
        _scored(segmenter, settings, bar, arguments.anchor), segmenter.domain.labels, group=group, settings=facts
    )
    print(table(result))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"--cases {text!r} is no regular expression ({error}); try one like '(case\\d+)'") from error


def _scored(segmenter: Segmenter, settings: RunSettings, found: Iterable[Case], anchor: bool) -> Iterator[Scored]:
    for case in found:
        picture, truth = read(case.image), case.labels(len(segmenter.domain.labels))
        if truth.shape != picture.pixels.shape[:2]:
            size = picture.pixels.shape[:2]
            raise ValueError(f"{case.mask} is {truth.shape}, its picture {size}; make them one size")
        result = segmenter.anchor(picture, settings) if anchor else segmenter(picture, settings)
        yield Scored(
            name=case.name,
            labels=result.labels,
            probability=result.probability,
            truth=truth,
            seconds=result.seconds,
            spacing_mm=picture.spacing_mm,
        )
