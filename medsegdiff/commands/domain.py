"""Score how well images fit checkpoints.

Prints for every image the level, the score and the checkpoints that fit best; the score is at most 1 for images like the
training images of the checkpoint, higher for others. Without --checkpoint, the shipped checkpoint that fits best is judged.
The --json FILE holds a list of {"image", "score", "level", "ranking": [[name, score], ...]}, the best checkpoint first.
Of a volume, slices of the middle half are scored and the median counts.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from medsegdiff.atomic import write_text
from medsegdiff.checkpoint import read_config
from medsegdiff.commands import options
from medsegdiff.config import Domain
from medsegdiff.data.tasks import TASKS
from medsegdiff.domain import DomainCheck, Examined, Verdict, examine, rank
from medsegdiff.hub import resolve, shipped
from medsegdiff.image_ref import Windowing

__all__ = ["add", "choose", "main", "shipped_configs"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `domain` command."""
    verb = verbs.add_parser(
        "domain", help="score how well images fit the checkpoints", description=__doc__, formatter_class=_Formatter
    )
    verb.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    verb.add_argument(
        "--checkpoint", help="shipped name, folder, or Hub id owner/name[@revision]; default: the one that fits best"
    )
    verb.add_argument("--json", type=Path, metavar="FILE", help="write the scores here")
    options.add_overwrite(verb)
    verb.set_defaults(main=main)


class _Formatter(options.Help, argparse.RawDescriptionHelpFormatter):
    pass


def shipped_configs() -> dict[str, dict[str, Any]]:
    """Read the configuration of every shipped checkpoint."""
    return {name: read_config(resolve(name)) for name in shipped()}


def main(arguments: argparse.Namespace) -> None:
    """Score every image, and write what was found."""
    options.require_new((arguments.json,), arguments.overwrite)
    if arguments.json:  # before the images are scored
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
    check, configs = DomainCheck.load(), shipped_configs()
    if arguments.checkpoint and arguments.checkpoint not in configs:
        configs[arguments.checkpoint] = read_config(resolve(arguments.checkpoint))
    tasks = {name: config["domain"].task for name, config in configs.items()}
    if arguments.checkpoint and tasks[arguments.checkpoint] not in check.kinds:
        raise ValueError(
            f"{arguments.checkpoint} is for the task {tasks[arguments.checkpoint]!r}, whose images have no statistics; "
            f"tasks with statistics: {', '.join(check.kinds)}"
        )
    rows, failed = [], []
    for path in arguments.images:
        try:
            examined = examine(check, path)
        except ValueError as error:
            if len(arguments.images) == 1:
                raise ValueError(f"{path}: {error}") from error
            failed.append(str(path))
            print(f"{path}: {error}", file=sys.stderr)
            continue
        ranking = rank(examined.scores, tasks)
        name = arguments.checkpoint or ranking[0][0]
        judged = examined.verdict(configs[name]["domain"], configs[name]["model"].image_size)
        assert judged is not None
        rows.append({"image": str(path), "score": judged.score, "level": judged.level, "ranking": ranking})
        print(f"{path}: {judged.level} for {name}, score {judged.score:.2f}{_because(judged)}")
        best = ", ".join(f"{name} {score:.2f}" for name, score in ranking[:3])
        print(f"    ranking: {best}, ...")
    if arguments.json:
        write_text(arguments.json, json.dumps(rows, indent=1) + "\n")
    if failed:
        raise ValueError(f"{len(failed)} of {len(arguments.images)} files could not be scored: {', '.join(failed)}")


def _because(judged: Verdict) -> str:
    return f" ({'; '.join(map(str, judged.findings))})" if judged.findings else ""


def choose(path: Path, window: Windowing = None) -> tuple[str, Examined]:
    """Choose the shipped checkpoint that fits an image best.

    Raises:
        PictureError: the file is no image that can be read here.
        ValueError: no shipped checkpoint fits it.
    """
    configs = shipped_configs()
    examined = examine(DomainCheck.load(), path, window)
    ranking = rank(examined.scores, {name: config["domain"].task for name, config in configs.items()})
    if not ranking:
        raise ValueError("no shipped checkpoint is here to choose from; name one with --checkpoint")
    name, score = ranking[0]
    domain: Domain = configs[name]["domain"]
    judged = examined.verdict(domain, configs[name]["model"].image_size)
    assert judged is not None
    if judged.level == "other":
        nearest = f"the nearest is {name} ({TASKS[domain.task].image}, score {score:.2f}{_because(judged)})"
        raise ValueError(f"no shipped checkpoint fits the image closely enough: {nearest}; name one with --checkpoint")
    return name, examined
