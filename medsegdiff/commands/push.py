"""Send a trained checkpoint, with its card, to a Hub repository."""

import argparse
from pathlib import Path

from medsegdiff.commands import options
from medsegdiff.hub import push

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Describe the verb."""
    verb = verbs.add_parser(
        "push",
        help="send a checkpoint folder to the Hub",
        description="Send model.safetensors, config.json and the card README.md; log in with `hf auth login` first.",
        formatter_class=options.Help,
    )
    verb.add_argument("folder", type=Path)
    verb.add_argument("repository", help="owner/name")
    verb.add_argument("--private", action="store_true")
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Send it and say where it is."""
    print(push(arguments.folder, arguments.repository, private=arguments.private))
