"""Write a checkpoint for the browser: ONNX networks and a JSON description (see `medsegdiff.export`)."""

import argparse
from collections import Counter
from pathlib import Path

from medsegdiff.checkpoint import load
from medsegdiff.commands import options
from medsegdiff.export import MODEL, export
from medsegdiff.hub import resolve

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `export` command."""
    verb = verbs.add_parser(
        "export",
        help="write a checkpoint as ONNX",
        description="Write condition.onnx, denoiser.onnx and model.json; of several checkpoints, each in a folder of its name.",
    )
    verb.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="shipped name, folder, or Hub id")
    verb.add_argument("--onnx", type=Path, required=True, metavar="DIR", help="folder for the files")
    verb.add_argument("--float16", action="store_true", help="store weights in half precision, for half the size")
    options.add_overwrite(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Export every checkpoint; fail before the first if two would be written to the same folder."""
    checkpoints = [load(resolve(source)) for source in arguments.checkpoints]
    twice = [name for name, n in Counter(checkpoint.name for checkpoint in checkpoints).items() if n > 1]
    if twice:
        raise ValueError(
            f"two checkpoints are called {twice[0]!r} and would overwrite each other; export one of them with another --onnx"
        )
    several = len(checkpoints) > 1
    folders = [arguments.onnx / checkpoint.name if several else arguments.onnx for checkpoint in checkpoints]
    options.require_new((folder / MODEL for folder in folders), arguments.overwrite)
    for checkpoint, folder in zip(checkpoints, folders, strict=True):
        files = export(checkpoint, folder, float16=arguments.float16)["files"]
        print(f"{folder}: " + ", ".join(f"{name} {facts['bytes'] / 1e6:.1f} MB" for name, facts in files.items()))
