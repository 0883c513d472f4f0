"""Fit the temperature of a checkpoint's probabilities on the training images that training held out."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from medsegdiff.atomic import write_text
from medsegdiff.commands import options
from medsegdiff.config import Domain, UNetConfig
from medsegdiff.data.adaptors import LAYOUTS, cases
from medsegdiff.data.batches import Pool
from medsegdiff.data.dataset import Split
from medsegdiff.data.folders import is_flat
from medsegdiff.data.tasks import TASKS, Task, axis_of, intensity_of
from medsegdiff.pipeline import Segmenter
from medsegdiff.shipped import CONFIG
from medsegdiff.temperature import fit_temperature

__all__ = ["add", "main"]


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `calibrate` command."""
    verb = verbs.add_parser(
        "calibrate",
        help="fit the temperature of a checkpoint's probabilities",
        description="Fit a temperature on the training images that `train --held` held out, and write it into config.json.",
        formatter_class=options.Help,
    )
    verb.add_argument("--data", type=Path, required=True, help="the folder that the checkpoint was trained on")
    verb.add_argument("--layout", choices=("auto", "plain", *LAYOUTS), default="auto", help="layout of the data folder")
    options.add_run_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Fit it, write it and print what it does."""
    segmenter = options.segmenter(arguments)
    if isinstance(segmenter.checkpoint.model_config, UNetConfig):
        raise ValueError("a plain U-Net has no members; a temperature is fitted for V1 and V2")
    held = _held(arguments, segmenter)
    settings = segmenter.resolve_settings(options.settings(arguments))

    def images() -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        for i in tqdm(range(len(held.pictures)), desc="calibrating"):
            image = torch.from_numpy(held.pictures[i]).to(segmenter.device).movedim(-1, 0)[None].float() / 127.5 - 1
            condition = segmenter.model.encode(image.contiguous(memory_format=torch.channels_last))
            *_, last = segmenter.denoise(condition, settings)
            yield last.x_0, held.labels[i][None] if held.readers is None else held.readers[i]

    fit = fit_temperature(images(), segmenter.diffusion)
    path = segmenter.checkpoint.folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config["domain"].pop("temperature", None)
    if fit.temperature != 1:
        config["domain"]["temperature"] = fit.temperature
    config["training"]["temperature"] = asdict(fit) | {"members": settings.members, "steps": settings.steps}
    write_text(path, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    print(
        f"temperature {fit.temperature:g}, fitted on {fit.images} images held out: "
        f"negative log-likelihood {fit.nll[0]:.4f} to {fit.nll[1]:.4f}, calibration error {fit.ece[0]:.4f} to {fit.ece[1]:.4f}"
    )


def _held(arguments: argparse.Namespace, segmenter: Segmenter) -> Pool:
    """Return the images that training held out, at the network's size.

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
    side = checkpoint.model_config.image_size
    pool = Pool.of(tqdm(found, desc="reading"), len(domain.labels), round(side / domain.field), task=_task(domain))
    return pool.set_aside(count, domain.patient)[1].middle(side)


def _task(domain: Domain) -> Task:
    """Return the task of a checkpoint, which may be trained on classes of one's own."""
    return TASKS.get(domain.task) or Task(
        modality=domain.modality,
        labels=domain.labels,
        source=domain.source,
        licence=domain.licence,
        axis=axis_of(domain),
        intensity=intensity_of(domain),
    )
