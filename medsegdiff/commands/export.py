"""Write a checkpoint for the browser: ONNX networks and a JSON description (see `medsegdiff.export`)."""

import argparse
from pathlib import Path

from medsegdiff.checkpoint import load
from medsegdiff.export import export
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
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Export every checkpoint."""
    for source in arguments.checkpoints:
        checkpoint = load(resolve(source))
        several = len(arguments.checkpoints) > 1
        folder = arguments.onnx / checkpoint.folder.name if several else arguments.onnx
        files = export(checkpoint, folder, float16=arguments.float16)["files"]
        print(f"{folder}: " + ", ".join(f"{name} {facts['bytes'] / 1e6:.1f} MB" for name, facts in files.items()))
