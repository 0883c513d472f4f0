"""Options that `segment` and `evaluate` share: the checkpoint, and how to run it."""

import argparse
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path

from medsegdiff.config import VIEWS, RunSettings
from medsegdiff.ensemble import RULES
from medsegdiff.hub import shipped
from medsegdiff.image_ref import FILE_WINDOW, Intensity, Windowing
from medsegdiff.pipeline import Segmenter
from medsegdiff.records import Interventions, Switches
from medsegdiff.sampling import SAMPLERS, SPACINGS

__all__ = ["Help", "add_overwrite", "add_run_options", "add_window", "require_new", "segmenter", "settings", "window"]

_DEFAULT = RunSettings()


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show a default after an option's help where there is one to show: not for None, nor for flags."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default is not None and action.default is not False
        return super()._get_help_string(action) if shown else action.help


def add_overwrite(verb: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    verb.add_argument("--overwrite", action="store_true", help="replace results that exist already")


def require_new(paths: Iterable[Path | None], overwrite: bool) -> None:
    """Raise ValueError if a file exists and may not be overwritten."""
    there = [] if overwrite else [path for path in paths if path and path.exists()]
    if there:
        more = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise ValueError(f"{there[0]}{more} already; add --overwrite to replace results, or choose another place")


def add_run_options(verb: argparse.ArgumentParser, *, checkpoint: bool = True) -> None:
    """Add the shared options; `checkpoint` makes --checkpoint required."""
    named = f"folder, Hub id owner/name[@revision], or shipped name: {', '.join(shipped())}"
    choice = named if checkpoint else f"auto (the shipped one that fits), {named}"
    verb.add_argument("--checkpoint", required=checkpoint, help=choice)
    verb.add_argument("--members", type=int, default=_DEFAULT.members, help="ensemble members, one sampled mask each")
    verb.add_argument("--steps", type=int, default=_DEFAULT.steps, help="denoising steps; 0 uses the anchor only (V2)")
    verb.add_argument(
        "--tolerance",
        type=float,
        default=_DEFAULT.tolerance,
        help="stop early once the remaining steps are expected to change the mask by less than this, in 1 - Dice; 0 never",
    )
    verb.add_argument("--sampler", choices=sorted(SAMPLERS), default=_DEFAULT.sampler, help="reverse process")
    verb.add_argument("--spacing", choices=SPACINGS, default=_DEFAULT.spacing, help="which timesteps are sampled at")
    verb.add_argument("--eta", type=float, default=_DEFAULT.eta, help="DDIM: 0 deterministic, 1 as noisy as DDPM")
    verb.add_argument(
        "--anchor-weight",
        type=float,
        default=_DEFAULT.anchor_weight,
        help="V2: weight of the anchor when it is averaged with the predicted mask at every step; 0 is the paper's "
        "method (default: the weight recorded in the checkpoint)",
    )
    verb.add_argument(
        "--without",
        nargs="+",
        choices=[field.name for field in fields(Switches)],
        default=[],
        help="components to bypass, as far as the network has them",
    )
    verb.add_argument(
        "--flatten-nbp", action="store_true", help="V2: replace the NBP-Filter's surfaces by their mean over frequency"
    )
    verb.add_argument(
        "--fuse",
        choices=("auto", *RULES),
        default=_DEFAULT.fuse,
        help="how members are fused; anchored: mean of members and anchor (V2); auto: the rule recorded in the checkpoint",
    )
    verb.add_argument(
        "--noise",
        choices=("auto", "independent", "stratified"),
        default=_DEFAULT.noise,
        help="V2: noise the members begin with; stratified: spread evenly along the anchor; auto: where the target may be absent",
    )
    verb.add_argument(
        "--mirror",
        choices=("auto", *VIEWS),
        default=_DEFAULT.mirror,
        help="mirror images of the input that the members take turns with, and the anchor is the mean of; auto: as recorded in "
        "the checkpoint",
    )
    verb.add_argument("--seed", type=int, default=_DEFAULT.seed, help="seed of the noise")
    verb.add_argument(
        "--size", type=int, default=_DEFAULT.size, help="network resolution in pixels; 0 is the training size"
    )
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... or mps")


def add_window(verb: argparse.ArgumentParser) -> None:
    """Add the options that replace the intensity window of the checkpoint."""
    verb.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="grey values that become black and white (default: as the checkpoint was trained)",
    )
    verb.add_argument(
        "--file-window",
        action="store_true",
        help="use the file's own window instead of the checkpoint's: DICOM's, else percentiles 0.5 and 99.5",
    )


def window(arguments: argparse.Namespace) -> Windowing:
    """Return the window that was asked for; None is the checkpoint's."""
    if arguments.file_window:
        return FILE_WINDOW
    return arguments.window if isinstance(arguments.window, Intensity) else tuple(arguments.window or ()) or None


def settings(arguments: argparse.Namespace) -> RunSettings:
    """Return the run settings of parsed arguments."""
    names = {field.name for field in fields(RunSettings)} - {"switches", "trace"}
    off = replace(Interventions(flatten_nbp=arguments.flatten_nbp), **dict.fromkeys(arguments.without, False))
    switches = Switches() if off == Interventions() else off
    return RunSettings(**{name: getattr(arguments, name) for name in names}, switches=switches)


def segmenter(arguments: argparse.Namespace) -> Segmenter:
    """Load the checkpoint that --checkpoint names; an existing folder takes precedence over a shipped name."""
    source = arguments.checkpoint
    return Segmenter.from_pretrained(Path(source) if Path(source).is_dir() else source, device=arguments.device)
