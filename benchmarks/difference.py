"""Print the paired difference of two evaluations of the same images, with 95 % intervals.

    python -m medsegdiff evaluate --checkpoint polyp-v2 --data DATA/polyp --json ONE.json
    python -m medsegdiff evaluate --checkpoint polyp-v2 --data DATA/polyp --anchor --json OTHER.json
    python -m benchmarks.difference ONE.json OTHER.json

Positive: the first is higher. Only images (for volumes, cases) that both have count, each by its own difference, so their
difficulty does not widen the interval. Images of one patient are resampled together, where the task's file names tell
patients apart; fewer than five have no interval. Both files may also come from `benchmarks.compare`.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.compare.report import paired_difference
from medsegdiff.data.tasks import patients_of

__all__ = ["differences", "main"]

_OF_CASES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95"}
_OF_PICTURES = {
    "ged": "GED^2",
    "hm_iou": "HM-IoU",
    "dice_majority": "Dice to the majority",
    "dice_best_match": "best-match Dice",
    "diversity": "diversity",
}


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return the markdown table of every measure that both evaluations have.

    Raises:
        ValueError: they have no image in common.
    """
    tasks = {result.get("settings", {}).get("data", "") for result in (one, other)}
    patient = patients_of(tasks.pop()) if len(tasks) == 1 else ""
    rows = ["| measure | first | second | difference | 95 % interval | N |", "|---|---:|---:|---:|---:|---:|"]
    measured = [("cases", key, said) for key, said in _OF_CASES.items()]
    measured += [("pictures", key, said) for key, said in _OF_PICTURES.items()]
    for part, key, said in measured:
        first, second = (_values(result.get(part, []), key) for result in (one, other))
        paired = paired_difference(first, second, patient)
        if not paired.names:
            continue
        numbers = [f"{paired.first:.4f}", f"{paired.second:.4f}", f"{paired.difference:+.4f}"]
        interval = "" if math.isnan(paired.low) else f"{paired.low:+.4f} to {paired.high:+.4f}"
        rows.append(f"| {' | '.join([said, *numbers, interval, str(len(paired.names))])} |")
    if len(rows) == 2:
        raise ValueError("the two evaluations have no image in common; give two of the same task and split")
    return "\n".join(rows)


def _values(entries: list[dict[str, Any]], key: str) -> dict[str, Float[np.ndarray, " _"]]:
    """Return a measure by name, one value for each class; nan where it is not defined."""
    return {entry["name"]: np.atleast_1d(np.array(entry.get(key, math.nan), float)) for entry in entries}


def main(words: list[str] | None = None) -> int:
    """Run the comparison; bad input gives one sentence on standard error and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.difference", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("one", type=Path, metavar="ONE.json")
    parser.add_argument("other", type=Path, metavar="OTHER.json")
    arguments = parser.parse_args(words)
    try:
        print(differences(*(_read(path) for path in (arguments.one, arguments.other))))
    except (ValueError, OSError) as error:
        print(f"difference: {error}", file=sys.stderr)
        return 2
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("cases"), list):
            return found
    except ValueError:
        pass
    raise ValueError(f"{path} is no result of an evaluation; write one with `evaluate --json`")


if __name__ == "__main__":
    sys.exit(main())
