"""Train one baseline on its budget, evaluate it and write the JSON file; resumes an interrupted run."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.compare.base import Baseline
from benchmarks.compare.budgeted_training import BudgetedTraining, race
from benchmarks.compare.judge import held_out, judged, preview
from medsegdiff.config import Mirror
from medsegdiff.data.adaptors import cases
from medsegdiff.data.batches import Draws, Pool
from medsegdiff.data.synthetic import TASKS as PAINTED
from medsegdiff.data.tasks import TASKS
from medsegdiff.device import channels_last

__all__ = ["Terms", "enter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Settings shared by all baselines of a comparison."""

    task: str
    data: Path
    minutes: float  # of CPU time
    members: int
    steps: int
    phantoms: float
    cases: str | None  # pattern of the case in file names
    field: float  # share of the images' sides, about their centre, that networks see
    fuse: str  # fusion rule of `ensemble`
    mirror: Mirror  # mirror images over which a network without sampling is averaged, as V2's anchor is
    limit: int
    seed: int
    every: float  # minutes between saves
    out: Path
    runs: Path


def enter(name: str, make: Callable[[int, int], Baseline], size: int, terms: Terms) -> Iterator[str]:
    """Train and evaluate one baseline, unless its results exist; yield messages."""
    entry = name.replace("@", "-") + (f"-seed{terms.seed}" if terms.seed else "")
    result = terms.out / terms.task / f"{entry}.json"
    if result.exists():
        yield f"{result} is there already; delete it to measure {name} again"
        return
    task, run = terms.task, terms.runs / terms.task / entry
    classes = len(TASKS[task].labels)
    torch.manual_seed(terms.seed)
    baseline = channels_last(make(size, classes))
    found = cases(terms.data, "train")
    drawn = terms.phantoms if task in PAINTED and not found[0].readers else 0.0
    reading = tqdm(found, desc=f"{name}: reading", mininterval=5)
    pool = Pool.of(reading, classes, round(size / terms.field), task=task, phantoms=drawn, seed=terms.seed)
    draws = Draws(pool, task=task, seed=terms.seed, augment=True, strong=baseline.recipe.strong, crop=size)
    training = BudgetedTraining(baseline, draws, terms.minutes, terms.seed)
    if (run / "state.safetensors").exists():
        training.resume(run / "state.safetensors")
    held = held_out(terms.data, classes, size, task, terms.field)
    for row in _trained(training, run, name, held, terms):
        with (run / "curve.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    averaged = terms.mirror if baseline.averages else "none"
    facts = {
        "baseline": name,
        "title": baseline.title,
        "parameters": sum(p.numel() for p in baseline.parameters()),
        "size": size,
        "minutes": round(training.spent / 60, 2),
        "iterations": training.done,
        "pictures": len(pool.pictures),
        "members": baseline.count(terms.members),
        "steps": terms.steps if baseline.denoises else 0,
        "fuse": terms.fuse,
        "mirror": averaged,
        "strong": baseline.recipe.strong,
        "field": terms.field,
        "readers": 1 if pool.readers is None else pool.readers.shape[1],
        "phantoms": drawn,
        "seed": terms.seed,
        "data": terms.data.resolve().name,
        "limit": terms.limit,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    for split in ("other", "val"):  # the latter last: its file says that the entry is complete
        if split == "val" or ((terms.data / split).is_dir() and any(case.mask for case in cases(terms.data, split))):
            said = facts | {"split": split}
            evaluation = judged(training.ema, size, terms.data, task, said, limit=terms.limit, pattern=terms.cases)
            path = result if split == "val" else result.with_name(f"{split}-{result.name}")
            path.write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", encoding="utf-8")


def _trained(training: BudgetedTraining, run: Path, name: str, held: Pool, terms: Terms) -> Iterator[dict]:
    """Train until the budget is spent; save every few minutes and yield rows for the curve."""
    run.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []
    saved = time.monotonic()
    bar = tqdm(
        total=round(60 * training.minutes),
        initial=round(training.spent),
        desc=f"{name}: training",
        unit=" CPU s",
        mininterval=5,
    )
    for step in race(training):
        losses.append(step.loss)
        bar.update(round(60 * step.minutes) - bar.n)
        last = step.minutes >= training.minutes
        if step.iteration % 20 == 0 or last:
            row = {"iteration": step.iteration, "minutes": round(step.minutes, 3), "loss": float(np.mean(losses))}
            losses.clear()
            bar.set_postfix(iteration=step.iteration, loss=f"{row['loss']:.4f}")
            yield row
        if last or time.monotonic() - saved > 60 * terms.every:
            score = preview(training.ema, held, terms.steps)
            told = ", ".join(f"{key} {value:.4f}" for key, value in score.items())
            bar.write(f"{name}: iteration {step.iteration}, {step.minutes:.1f} minutes, {told}")
            yield {"iteration": step.iteration, "minutes": round(step.minutes, 3), **score}
            training.save(run / "state.safetensors")
            saved = time.monotonic()
    bar.close()
