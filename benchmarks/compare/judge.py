"""Evaluate any baseline as `evaluate` does: at the size of the image, with members fused by the same rule."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.compare.base import Baseline
from medsegdiff.config import VIEWS, Mirror
from medsegdiff.data.adaptors import cases
from medsegdiff.data.batches import Pool
from medsegdiff.data.experts import experts
from medsegdiff.data.folders import SLICES, Case, evenly_spaced
from medsegdiff.data.tasks import TASKS, axis_of, cases_of, intensity_of, patients_of
from medsegdiff.ensemble import fuse
from medsegdiff.evaluation import Evaluation, Scored, case_of, evaluate
from medsegdiff.metrics import dice, mean
from medsegdiff.multi_reader import energy_distance
from medsegdiff.resize import to_network, to_original

__all__ = ["held_out", "judged", "preview"]


def held_out(data: Path, classes: int, size: int, task: str, field: float = 1.0) -> Pool:
    """Read 24 validation images for the training curve; nothing is chosen by them."""
    found = cases(data, "val")
    pool = Pool.of(evenly_spaced(found, 24), classes, round(size / field), task=task)
    return pool.few(24).middle(size)


@torch.no_grad()
def preview(baseline: Baseline, held: Pool, steps: int) -> dict[str, float]:
    """Score those images at the network's size: mean Dice of one mask, or with several readers the GED of eight."""
    classes, scores = max(int(held.labels.max()), 1), []
    for i, (picture, truth) in enumerate(zip(held.pictures, held.labels, strict=True)):
        image = torch.from_numpy(picture).movedim(-1, 0)[None].float() / 127.5 - 1
        members = 1 if held.readers is None else baseline.count(8)
        labels = baseline.masks(image, members=members, steps=steps, seed=0).argmax(1).numpy().astype(np.uint8)
        if held.readers is None:
            scores.append(mean(dice(labels[0], truth, classes)))
        else:
            scores.append(energy_distance(labels, held.readers[i]))
    return {"dice" if held.readers is None else "ged": mean(scores)}


def judged(
    baseline: Baseline,
    size: int,
    data: Path,
    task: str,
    facts: Mapping[str, object],
    *,
    limit: int = 0,
    pattern: str | None = None,
) -> Evaluation:
    """Evaluate a trained baseline; `facts` are stored, and contain split, members, steps, field, fusion and mirror images."""
    found = [case for case in cases(data, str(facts["split"])) if case.mask]
    volumes = any(case.is_volume for case in found)
    pattern = pattern or (SLICES if volumes else cases_of(task))
    group = re.compile(pattern) if pattern else None
    if not volumes:
        found.sort(key=lambda case: case_of(case.name, group))
    if limit:
        found = evenly_spaced(found, limit)
    bar = tqdm(found, desc="scoring", unit="volume" if volumes else "picture", mininterval=5)
    scored = _scored(baseline, size, bar, task, facts)
    patient = patients_of(task)
    return evaluate(scored, TASKS[task].labels, group=group, settings=facts, patient=patient)


def _masks(baseline: Baseline, image: Tensor, members: int, steps: int, mirror: Mirror) -> Tensor:
    """Return the masks, each the mean over the image and its mirror images, turned back."""
    found = [baseline.masks(image.flip(v), members=members, steps=steps, seed=0).flip(v) for v in VIEWS[mirror]]
    return torch.stack(found).mean(0)


def _scored(
    baseline: Baseline, size: int, found: Iterable[Case], task: str, facts: Mapping[str, object]
) -> Iterator[Scored]:
    members, steps = int(str(facts["members"])), int(str(facts["steps"]))
    field, fuse_by = float(str(facts["field"])), str(facts["fuse"])
    mirror = cast("Mirror", facts["mirror"])
    for case in found:
        for sample in case.samples(len(TASKS[task].labels), axis_of(task), intensity_of(task)):
            began = time.perf_counter()
            image, geometry = to_network(sample.picture, size, field=field)
            with torch.no_grad():
                masks = _masks(baseline, image, members, steps, mirror)
            masks_home = to_original(masks, geometry).numpy()
            fusion = fuse(masks_home, fuse_by)
            yield Scored(
                name=sample.name,
                labels=fusion.labels,
                probability=np.asarray(fusion.probability),
                truth=sample.labels,
                seconds=time.perf_counter() - began,
                spacing_mm=sample.picture.spacing_mm,
                distance_mm=sample.distance_mm,
                members=masks_home.argmax(1).astype(np.uint8),
                readers=sample.readers
                if sample.readers is not None
                else None
                if case.is_volume
                else experts(case, len(TASKS[task].labels)),
            )
