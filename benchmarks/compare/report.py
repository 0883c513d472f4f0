"""The table of a task: every peer measured, and the shipped checkpoints' own results beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["table"]

_OWN = {
    "5x10": "5 members, 10 steps",
    "5x10-half": "5 members, 10 steps, the anchor's weight 0.5",
    "1x10": "1 member, 10 steps",
    "anchor": "anchor alone",
    "1x0": "one pass",
}


def table(peers: Path, results: Path, checkpoints: Path, task: str) -> str:
    """Lay out PEERS/*.json, and RESULTS/TASK-v*/*.json of the checkpoints there are, as markdown, the best Dice first.

    Raises:
        ValueError: nothing of this task has been measured.
    """
    rows = [*_peers(peers), *_own(results, checkpoints, task)]
    if not rows:
        raise ValueError(f"{peers} and {results}/{task}-* hold no results; measure something first, with --data")
    rows.sort(key=lambda row: -row[0])
    head = "| what | parameters | iterations | CPU minutes | Dice | 95 % interval | IoU | HD95 | ECE | N |"
    return "\n".join([head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|", *(line for _, line in rows)])


def _peers(folder: Path) -> Iterator[tuple[float, str]]:
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        facts = result["settings"]
        drawn = f"; {facts['members']} members, {facts['steps']} steps" if facts["steps"] else ""
        seed = f", seed {facts['seed']}" if facts["seed"] else ""
        what = f"{facts['title']} at {facts['size']}{seed}{drawn}"
        yield _row(what, facts["parameters"], facts["iterations"], f"{facts['minutes']:.0f}", result)


def _own(results: Path, checkpoints: Path, task: str) -> Iterator[tuple[float, str]]:
    for config in sorted(checkpoints.glob(f"{task}-*/config.json")):
        folder = results / config.parent.name
        facts = json.loads(config.read_text(encoding="utf-8"))
        if facts["domain"]["task"] != task:  # optic-disc-cup-v2 is no optic-disc
            continue
        for name, words in _OWN.items():
            path = folder / f"{name}.json"
            if path.exists():
                result = json.loads(path.read_text(encoding="utf-8"))
                size, training = facts["model"]["image_size"], facts["training"]
                what = f"**`{folder.name}`** as shipped, at {size}; {words}"
                minutes = f"{training['cpu_minutes']:.0f}" if "cpu_minutes" in training else ""
                yield _row(what, facts["weights"]["parameters"], training["iterations_done"], minutes, result)


def _row(what: str, parameters: int, iterations: int, minutes: str, result: dict[str, Any]) -> tuple[float, str]:
    classes = list(result["per_class"].values())
    interval = "{:.3f} to {:.3f}".format(*classes[0]["interval"]) if len(classes) == 1 else ""
    n = max(c["n"] for c in classes)
    return result["mean_dice"], (
        f"| {what} | {parameters / 1e6:.1f} M | {iterations} | {minutes} | {result['mean_dice']:.3f} | {interval} "
        f"| {result['mean_iou']:.3f} | {result['mean_hd95']:.1f} {result['hd95_unit']} | {result['ece']:.4f} | {n} |"
    )
