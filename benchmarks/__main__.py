"""Measure speed and memory, and write JSON, figure and tables (`make bench`)."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in the page and the command line

import torch

from benchmarks import alone, measure, report, visitors
from benchmarks.baselines import BASELINES
from medsegdiff.commands.card import fill
from medsegdiff.device import best_device

__all__ = ["main"]

_CROWDS = (1, 4, 16)


def main(argv: list[str] | None = None) -> int:
    """Measure all installed baselines on this machine."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="number of interleaved rounds")
    parser.add_argument("--only", default="", help="only baselines whose name contains this")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--threads", type=int, default=0, help="threads per operation; 0 is torch's default")
    parser.add_argument(
        "--quick", action="store_true", help="one round at 64 x 64 without fresh processes, to try the harness"
    )
    parser.add_argument("--json", type=Path, default=Path("results/bench/DEVICE.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/bench-DEVICE.svg"))
    parser.add_argument(
        "--readme", type=Path, help="put the tables into the blocks <!-- bench --> and <!-- visitors --> of this file"
    )
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        device = best_device(arguments.device)
        found = _measured(arguments, device)
        words = report.table(found)
        for path, text in (
            (arguments.json, json.dumps(found, indent=1) + "\n"),
            (arguments.figure, report.figure(found)),
        ):
            path = path.with_name(path.name.replace("DEVICE", device.type))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if arguments.readme:
            fill(arguments.readme, "bench", words)
            fill(arguments.readme, "visitors", report.visitors(found))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(words, report.visitors(found), sep="\n\n")
    return 0


def _told(words: str) -> None:
    print(words, file=sys.stderr)


def _measured(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    quick = arguments.quick
    rounds = 1 if quick else arguments.rounds
    wanted = [one for one in BASELINES if arguments.only in one.name]
    chosen = [one for one in wanted if measure.available(one)]
    if not chosen:
        raise ValueError(f"no baseline is called {arguments.only!r}, or what it needs is not installed; see --help")
    if quick:
        chosen = [replace(one, size=64, members=min(one.members, 2), steps=min(one.steps, 2)) for one in chosen]
    absent = [one.name for one in wanted if not measure.available(one)]
    if absent:
        _told(f"not installed, left out: {', '.join(absent)}")

    found = {"machine": measure.machine(device), "rounds": rounds, "left_out": absent}
    found |= measure.compare(chosen, device, rounds, _told)
    if quick:
        return found
    for row in found["baselines"]:
        _told(f"{row['name']} in a fresh process")
        row["alone"] = measure.fresh("serve", row["name"], device)
    found["training"] = []
    for name, size, batch in alone.TRAINED:
        if arguments.only in name and name not in absent:
            _told(f"{name}, training at {size}")
            found["training"].append({"name": name} | measure.fresh("train", name, size, batch, device))
    if arguments.only in BASELINES[0].name:
        _told("simultaneous visitors")
        found["visitors"] = _crowds(device)
        sizes = {5 * n: replace(BASELINES[0], members=5 * n) for n in _CROWDS[:2]}
        loaded = {n: one.load(one, device) for n, one in sizes.items()}
        found["batching"] = visitors.batching(loaded, device, rounds)
    return found


def _crowds(device: torch.device) -> list[dict[str, Any]]:
    """Measure simultaneous visitors, with one thread per operation and with all."""
    most, rows = torch.get_num_threads(), []
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        loaded = BASELINES[0].load(BASELINES[0], device)
        visitors.simultaneous(loaded, 1)
        rows += [visitors.simultaneous(loaded, n) for n in _CROWDS]
    torch.set_num_threads(most)
    return rows


if __name__ == "__main__":
    sys.exit(main())
