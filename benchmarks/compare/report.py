"""The table of a task, every peer measured and the shipped checkpoints beside them; and V2 beside a plain U-Net on all tasks.

Two networks are held against each other on the same cases: their difference is that of each case, and its interval is drawn
from cases, so what makes a picture hard for both does not widen it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsegdiff.metrics import bootstrap_interval

__all__ = ["overview", "table"]

_OWN = {
    "5x10": "5 members, 10 steps",
    "5x10-half": "5 members, 10 steps, the anchor's weight 0.5",
    "1x10": "1 member, 10 steps",
    "anchor": "anchor alone",
    "1x0": "one pass",
}
_OF_V2 = {
    "v2/5x10": "shipped, as in the paper",
    "v2/5x10-half": "shipped, half the anchor's say",
    "v2-pooled": "pooled from the start",
    "condition": "condition network alone",
}
_FEW = 5  # drawing again from fewer cases says nothing of what others would give


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entrant:
    key: str  # peer's name without its size, or v2/5x10
    what: str
    parameters: int
    iterations: int
    minutes: float | None  # of processor time; older checkpoints did not note it
    result: dict[str, Any]  # of `evaluate`

    @property
    def dice(self) -> float:
        return self.result["mean_dice"]


def table(peers: Path, results: Path, checkpoints: Path, task: str) -> str:
    """Lay out PEERS/*.json, and RESULTS/TASK-v*/*.json of the checkpoints there are, as markdown, the best Dice first.

    Raises:
        ValueError: nothing of this task has been measured.
    """
    entrants = _entrants(peers, results, checkpoints, task)
    if not entrants:
        raise ValueError(f"{peers} and {results}/{task}-* hold no results; measure something first, with --data")
    plain = _plain(entrants)
    heads = [
        "what",
        "parameters",
        "iterations",
        "CPU minutes",
        "Dice",
        "95 % interval",
        "above the plain U-Net, points",
    ]
    heads += ["IoU", "HD95", "ECE", "N"]
    rows = [_row(entrant, plain) for entrant in sorted(entrants, key=lambda entrant: -entrant.dice)]
    return "\n".join([f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|", *rows])


def overview(compared: Path, results: Path, checkpoints: Path) -> str:
    """Lay out, for every task of COMPARED that a plain U-Net was raced on, by how many points of Dice V2 is above it."""
    heads = ["task", "N", *_OF_V2.values(), "ECE: U-Net, then these four", "minutes: U-Net, shipped"]
    rows: list[tuple[float, str]] = []
    for folder in sorted(path for path in compared.iterdir() if path.is_dir()):
        entrants = _entrants(folder, results, checkpoints, folder.name)
        plain = _plain(entrants)
        if plain is None:
            continue
        of = {entrant.key: entrant for entrant in entrants}
        ours = [of.get(key) for key in _OF_V2]
        shipped = _minutes(of["v2/5x10"]) if "v2/5x10" in of else ""
        cells = [folder.name, str(_n(plain)), *(_ahead(entrant, plain) if entrant else "" for entrant in ours)]
        cells += [", ".join(f"{entrant.result['ece']:.4f}" if entrant else "-" for entrant in (plain, *ours))]
        cells += [f"{_minutes(plain)}, {shipped or 'not noted'}"]
        best = max((entrant.dice - plain.dice for entrant in ours if entrant), default=-math.inf)
        rows.append((best, f"| {' | '.join(cells)} |"))
    rows.sort(reverse=True)
    return "\n".join([f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|", *(line for _, line in rows)])


def _entrants(peers: Path, results: Path, checkpoints: Path, task: str) -> list[_Entrant]:
    return [*_peers(peers), *_own(results, checkpoints, task)]


def _peers(folder: Path) -> Iterator[_Entrant]:
    for path in sorted(folder.glob("*.json")):
        result = _read(path)
        facts = result["settings"]
        drawn = f"; {facts['members']} members, {facts['steps']} steps" if facts["steps"] else ""
        seed = f", seed {facts['seed']}" if facts["seed"] else ""
        yield _Entrant(
            key=facts["peer"].partition("@")[0],
            what=f"{facts['title']} at {facts['size']}{seed}{drawn}",
            parameters=facts["parameters"],
            iterations=facts["iterations"],
            minutes=facts["minutes"],
            result=result,
        )


def _own(results: Path, checkpoints: Path, task: str) -> Iterator[_Entrant]:
    for config in sorted(checkpoints.glob(f"{task}-*/config.json")):
        facts, name = _read(config), config.parent.name
        if facts["domain"]["task"] != task:  # optic-disc-cup-v2 is no optic-disc
            continue
        for grid, words in _OWN.items():
            path = results / name / f"{grid}.json"
            if path.exists():
                yield _Entrant(
                    key=f"{name.removeprefix(f'{task}-')}/{grid}",
                    what=f"**`{name}`** as shipped, at {facts['model']['image_size']}; {words}",
                    parameters=facts["weights"]["parameters"],
                    iterations=facts["training"]["iterations_done"],
                    minutes=facts["training"].get("cpu_minutes"),
                    result=_read(path),
                )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(entrants: Sequence[_Entrant]) -> _Entrant | None:
    """Find the best of others' plain U-Nets."""
    return max((e for e in entrants if e.key == "unet"), key=lambda entrant: entrant.dice, default=None)


def _ahead(entrant: _Entrant, plain: _Entrant) -> str:
    """Say by how many points of Dice one is above the other on the cases both were scored on, with a 95 % interval."""
    theirs = {case["name"]: case["dice"] for case in plain.result["cases"]}
    pairs = [(case["dice"], theirs[case["name"]]) for case in entrant.result["cases"] if case["name"] in theirs]
    points = 100 * (np.array([p[0] for p in pairs], float) - np.array([p[1] for p in pairs], float))
    known = points[~np.isnan(points).all(1)]  # a class that a case lacks has no Dice
    if not len(known):
        return ""
    said = f"{np.nanmean(np.nanmean(known, 0)):+.1f}"
    if len(known) < _FEW:
        return said
    low, high = bootstrap_interval(known.tolist(), seed=0)
    return f"{said} ({low:+.1f} to {high:+.1f})"


def _row(entrant: _Entrant, plain: _Entrant | None) -> str:
    result = entrant.result
    low, high = result.get("interval") or next(iter(result["per_class"].values()))["interval"]
    interval = f"{low:.3f} to {high:.3f}" if _n(entrant) >= _FEW else ""
    ahead = _ahead(entrant, plain) if plain and entrant is not plain else ""
    return (
        f"| {entrant.what} | {entrant.parameters / 1e6:.1f} M | {entrant.iterations} | {_minutes(entrant)} "
        f"| {entrant.dice:.3f} | {interval} | {ahead} | {result['mean_iou']:.3f} "
        f"| {result['mean_hd95']:.1f} {result['hd95_unit']} | {result['ece']:.4f} | {_n(entrant)} |"
    )


def _minutes(entrant: _Entrant) -> str:
    return "" if entrant.minutes is None else f"{entrant.minutes:.0f}"


def _n(entrant: _Entrant) -> int:
    return max(scores["n"] for scores in entrant.result["per_class"].values())
