"""What `segment` and `evaluate` are asked alike: which checkpoint, and how to run it."""

import argparse
from pathlib import Path

from medsegdiff.config import RunSettings
from medsegdiff.ensemble import FUSIONS
from medsegdiff.pipeline import Segmenter
from medsegdiff.sampling import SAMPLERS, SPACINGS

__all__ = ["add_run_options", "segmenter", "settings"]

_DEFAULT = RunSettings()


def add_run_options(verb: argparse.ArgumentParser, *, checkpoint: bool = True) -> None:
    """Add the shared options; with `checkpoint` one must be named."""
    verb.add_argument("--checkpoint", required=checkpoint, help="shipped name, folder, or Hub id owner/name[@revision]")
    verb.add_argument("--members", type=int, default=_DEFAULT.members, help="masks drawn per picture")
    verb.add_argument("--steps", type=int, default=_DEFAULT.steps, help="denoising steps; 0 none")
    verb.add_argument(
        "--tolerance",
        type=float,
        default=_DEFAULT.tolerance,
        help="stop where the steps left, at the last one's pace, change the mask by less in 1 - Dice; 0: never",
    )
    verb.add_argument("--sampler", choices=sorted(SAMPLERS), default=_DEFAULT.sampler)
    verb.add_argument("--spacing", choices=SPACINGS, default=_DEFAULT.spacing, help="which training steps are visited")
    verb.add_argument("--eta", type=float, default=_DEFAULT.eta, help="DDIM: 0 deterministic, 1 as noisy as DDPM")
    verb.add_argument(
        "--anchor-weight",
        type=float,
        default=_DEFAULT.anchor_weight,
        help="V2: the anchor's share in the mask of every step, 0 (the paper) to 1",
    )
    verb.add_argument("--fuse", choices=sorted(FUSIONS), default=_DEFAULT.fuse, help="how members become one mask")
    verb.add_argument("--seed", type=int, default=_DEFAULT.seed)
    verb.add_argument("--size", type=int, default=_DEFAULT.size, help="network resolution; 0 is the size trained at")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")


def settings(arguments: argparse.Namespace) -> RunSettings:
    """Read the run settings."""
    names = ("members", "steps", "tolerance", "sampler", "spacing", "eta", "anchor_weight", "fuse", "seed", "size")
    return RunSettings(**{name: getattr(arguments, name) for name in names})


def segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Load the checkpoint; a folder is one only if it looks like a path or exists."""
    source = arguments.checkpoint
    return Segmenter.from_pretrained(Path(source) if Path(source).is_dir() else source, device=arguments.device)
