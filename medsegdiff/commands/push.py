"""Upload a checkpoint and its model card to a Hugging Face Hub repository."""

import argparse
from pathlib import Path

from medsegdiff.commands import options
from medsegdiff.hub import push

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `push` command."""
    verb = verbs.add_parser(
        "push",
        help="upload a checkpoint folder to the Hub",
        description="Upload model.safetensors, config.json and README.md (the model card). Log in with `hf auth login` first.",
        formatter_class=options.Help,
    )
    verb.add_argument("folder", type=Path, help="folder of the checkpoint")
    verb.add_argument("repository", help="owner/name")
    verb.add_argument("--private", action="store_true", help="create the repository as private")
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Upload it and print its address."""
    print(push(arguments.folder, arguments.repository, private=arguments.private or None))
