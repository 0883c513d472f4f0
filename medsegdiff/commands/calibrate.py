"""Choose how members are sampled and fused, and fit the temperature of their probabilities, on images that training held out."""

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from medsegdiff.atomic import write_text
from medsegdiff.commands import options
from medsegdiff.config import Domain, Mirror, RunSettings, UNetConfig, V1Config
from medsegdiff.data.adaptors import LAYOUTS, cases
from medsegdiff.data.batches import Pool
from medsegdiff.data.dataset import MIRRORS, Split
from medsegdiff.data.folders import is_flat
from medsegdiff.data.tasks import TASKS, Task, axis_of, intensity_of
from medsegdiff.ensemble import fuse
from medsegdiff.metrics import dice, mean
from medsegdiff.multi_reader import energy_distance
from medsegdiff.pipeline import Segmenter
from medsegdiff.shipped import CONFIG
from medsegdiff.temperature import TemperatureFit, TemperatureFitter

__all__ = ["add", "main"]

_WEIGHTS = (0.0, 0.2, 0.4, 0.6)  # of the anchor, of which one is chosen


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `calibrate` command."""
    verb = verbs.add_parser(
        "calibrate",
        help="choose how members are fused, and fit the temperature of their probabilities",
        description="On the training images that `train --held` held out, choose STAPLE or the mean with the anchor, and "
        "whether members take turns with mirror images, whichever has the highest Dice (unless --fuse and --mirror name "
        "one), fit a temperature, and write all into config.json. Where several readers marked the images, choose the anchor "
        "weight and the mirror images with the lowest energy distance.",
        formatter_class=options.Help,
    )
    verb.add_argument("--data", type=Path, required=True, help="the folder that the checkpoint was trained on")
    verb.add_argument("--layout", choices=("auto", "plain", *LAYOUTS), default="auto", help="layout of the data folder")
    options.add_run_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Choose the fusion rule and the anchor weight, fit the temperature, write them to config.json and print them."""
    segmenter = options.segmenter(arguments)
    if isinstance(segmenter.checkpoint.model_config, UNetConfig):
        raise ValueError("a plain U-Net has no members; a temperature is fitted for V1 and V2")
    settings = segmenter.resolve_settings(options.settings(arguments))
    if settings.steps == 0:
        raise ValueError("--steps is 0, which samples no members; give the number of steps that runs will take")
    held = _held(arguments, segmenter, settings.size)
    has_anchor = not isinstance(segmenter.checkpoint.model_config, V1Config)
    rules = (("staple", "anchored") if has_anchor else ("staple",)) if arguments.fuse == "auto" else (settings.fuse,)
    several = held.readers is not None
    weighed = has_anchor and several and arguments.anchor_weight is None
    weights = _WEIGHTS if weighed else (settings.anchor_weight or 0.0,)
    mirrors = (settings.mirror,) if arguments.mirror != "auto" else dict.fromkeys(("none", _allowed(segmenter)))
    trials = {
        (mirror, weight): _trial(segmenter, held, replace(settings, mirror=mirror, anchor_weight=weight), rules)
        for mirror in mirrors
        for weight in weights
    }
    scores = {
        of: -mean(trial.ged) if several else max(mean(found) for found in trial.dice.values())
        for of, trial in trials.items()
    }
    mirror, weight = chosen = max(scores, key=lambda of: scores[of])  # in a tie the first, as in the paper
    best = trials[chosen]
    means = {rule: mean(found) for rule, found in best.dice.items()}
    rule = max(rules, key=lambda rule: means[rule])  # the paper's in a tie
    fit = best.fitters[rule].fit()
    tried = len(mirrors) > 1
    alternatives: dict[str, Any] = {
        "ged": {f"{other:g}": mean(trials[mirror, other].ged) for other in weights} if weighed else {},
        "mirror": {other: abs(scores[other, weight]) for other in mirrors} if tried else {},
        "mirror_by": ("ged" if several else "dice") if tried else "",
    }
    _write(segmenter, fit, {"fuse": rule, "anchor_weight": weight, "mirror": mirror}, means, alternatives, settings)
    found = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    titles = {"ged": "GED^2 by anchor weight", "mirror": f"{'GED^2' if several else 'Dice'} by mirror images"}
    for name, title in titles.items():
        if values := alternatives[name]:
            print(f"{title}: {', '.join(f'{value:.4f} at {other}' for other, value in values.items())}.")
    print(
        f"Fitted on {fit.images} images held out. Dice by fusion rule: {found}. Temperature {fit.temperature:g}: negative "
        f"log-likelihood {fit.nll[0]:.4f} to {fit.nll[1]:.4f}, calibration error {fit.ece[0]:.4f} to {fit.ece[1]:.4f}."
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    """Scores of the images held out with one anchor weight and one choice of mirror images."""

    fitters: dict[str, TemperatureFitter]  # by fusion rule
    dice: dict[str, list[float]]
    ged: list[float]  # of images with several readers


def _trial(segmenter: Segmenter, held: Pool, settings: RunSettings, rules: tuple[str, ...]) -> _Trial:
    trial = _Trial({rule: TemperatureFitter(segmenter.diffusion) for rule in rules}, {rule: [] for rule in rules}, [])
    for i in tqdm(range(len(held.pictures)), desc="calibrating"):
        image = torch.from_numpy(held.pictures[i]).to(segmenter.device).movedim(-1, 0)[None].float() / 127.5 - 1
        condition = segmenter.encode(image.contiguous(memory_format=torch.channels_last), settings)
        *_, last = segmenter.denoise(condition, settings)
        members = segmenter.diffusion.probability(last.x_0.float()).cpu().numpy()
        logits = condition.anchor_logits
        anchor = segmenter.diffusion.probability_of_logits(logits[0].float())[0] if logits else None
        truth = held.labels[i][None] if held.readers is None else held.readers[i]
        if held.readers is not None:
            trial.ged.append(energy_distance(members.argmax(1), held.readers[i]))
        for rule in rules:
            beside = anchor if rule == "anchored" else None
            trial.fitters[rule].add(last.x_0, truth, beside)
            labels = fuse(members, rule, None if beside is None else beside.cpu().numpy()).labels
            trial.dice[rule].append(mean(dice(labels, held.labels[i], segmenter.diffusion.classes)))
    return trial


def _write(
    segmenter: Segmenter,
    fit: TemperatureFit,
    chosen: dict[str, Any],
    means: dict[str, float],
    alternatives: dict[str, Any],
    settings: RunSettings,
) -> None:
    path = segmenter.checkpoint.folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    for name, value in (chosen | {"temperature": fit.temperature}).items():
        config["domain"].pop(name, None)
        if value != Domain.__dataclass_fields__[name].default:
            config["domain"][name] = value
    config["training"]["calibration"] = asdict(fit) | {
        "dice": means,
        **{name: values for name, values in alternatives.items() if values},  # by anchor weight and mirror images
        "members": settings.members,
        "steps": settings.steps,
    }
    write_text(path, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _held(arguments: argparse.Namespace, segmenter: Segmenter, side: int) -> Pool:
    """Return the images that training held out, at the size of the runs.

    Raises:
        ValueError: training held out none.
    """
    checkpoint, domain = segmenter.checkpoint, segmenter.domain
    facts = checkpoint.training.get("recipe") or {}
    count = int(facts.get("held") or 0)
    if not count:
        raise ValueError(
            "this checkpoint was trained on all images (its recipe has held 0), so none is left to fit a temperature on; "
            "train with --held"
        )
    found = cases(arguments.data, "train", arguments.layout)
    if is_flat(arguments.data) and (rule := Split.recorded(checkpoint.training)) is not None:
        found = rule.of(found, "train")
    pool = Pool.of(
        tqdm(found, desc="reading"),
        len(domain.labels),
        round(side / domain.field),
        task=_task(domain),
        empty=checkpoint.training.get("empty"),
    )
    recorded = checkpoint.training.get("held_out", ())
    return pool.set_aside(count, domain.patient, recorded)[1].middle(side)


def _allowed(segmenter: Segmenter) -> Mirror:
    """Return the flips of the training images, which keep the anatomy; older checkpoints record none, but their task has some."""
    if (recorded := segmenter.checkpoint.training.get("mirror")) in MIRRORS:
        return recorded
    task = TASKS.get(segmenter.domain.task)
    return next(name for name, axes in MIRRORS.items() if axes == (task.mirror if task else ()))


def _task(domain: Domain) -> Task:
    """Return the task of a checkpoint, which may be trained on classes of one's own; sliced and windowed as in training."""
    known = TASKS.get(domain.task) or Task(
        modality=domain.modality, labels=domain.labels, source=domain.source, licence=domain.licence
    )
    return replace(known, axis=axis_of(domain), intensity=intensity_of(domain))
