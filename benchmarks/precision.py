"""Measure how much a lower precision changes masks: each image is run twice with the same noise, also in float32.

    python -m benchmarks.precision --data DATA/skin-lesion --checkpoint skin-lesion-v2 --dtype bfloat16

A precision is acceptable as default (`medsegdiff.device.precision`) if the mean Dice between the two masks is at least
0.995; otherwise the exit status is 1. Ground truth is not used.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from medsegdiff import Segmenter
from medsegdiff.checkpoint import load
from medsegdiff.commands import options
from medsegdiff.data.adaptors import cases
from medsegdiff.data.folders import evenly_spaced
from medsegdiff.data.tasks import axis_of, intensity_of
from medsegdiff.hub import resolve
from medsegdiff.metrics import dice, mean

__all__ = ["main"]

ENOUGH = 0.995  # mean Dice between the two masks


def main(words: list[str] | None = None) -> int:
    """Compare both precisions and print the result; bad input gives one sentence on standard error and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with val/images and val/masks")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--limit", type=int, default=40, help="so many pictures, evenly chosen; 0 is all")
    options.add_run_options(parser)
    arguments = parser.parse_args(words)
    try:
        agreement = _agreement(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"precision: {error}", file=sys.stderr)
        return 2
    worst = np.sort(agreement)[:3].round(4).tolist()
    print(
        f"{arguments.checkpoint}, {arguments.dtype} against float32: mean Dice {mean(agreement):.4f} "
        f"over {len(agreement)} pictures with a mask, the lowest {worst}; {ENOUGH} is asked for"
    )
    return int(mean(agreement) < ENOUGH)


def _agreement(arguments: argparse.Namespace) -> list[float]:
    """Return the Dice (mean over classes) between the two masks of each image; empty float32 masks are left out."""
    folder, settings = resolve(arguments.checkpoint), options.settings(arguments)
    exact, fast = (
        Segmenter(load(folder), arguments.device, dtype) for dtype in (torch.float32, getattr(torch, arguments.dtype))
    )
    classes = len(exact.domain.labels)
    found = cases(arguments.data, "val")
    found = evenly_spaced(found, arguments.limit) if arguments.limit else found
    scores = []
    for case in tqdm(found, unit="picture"):
        for sample in case.samples(classes, axis_of(exact.domain), intensity_of(exact.domain)):
            truth, labels = (segmenter(sample.picture, settings).labels for segmenter in (exact, fast))
            scores.append(mean(dice(labels, truth, classes)))
    return [score for score in scores if not np.isnan(score)]


if __name__ == "__main__":
    sys.exit(main())
