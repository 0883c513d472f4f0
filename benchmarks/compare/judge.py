"""Any baseline's masks, scored as `evaluate` scores ours: at the picture's own size, members fused by STAPLE."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.compare.baselines import Baseline
from medsegdiff.data.adaptors import cases
from medsegdiff.data.batches import Pool
from medsegdiff.data.experts import experts
from medsegdiff.data.folders import SLICES, Case
from medsegdiff.data.tasks import TASKS, axis_of, cases_of, patients_of
from medsegdiff.ensemble import fuse
from medsegdiff.evaluation import Evaluation, Scored, case_of, evaluate
from medsegdiff.image_ref import to_network, to_original
from medsegdiff.metrics import dice, mean

__all__ = ["held_out", "judged", "preview"]


def held_out(data: Path, classes: int, size: int, task: str) -> Pool:
    """Read the 24 validation pictures that `train` watches its curve on."""
    found = cases(data, "val")
    return Pool.of(found[:: max(len(found) // 24, 1)][:24], classes, size, task=task).few(24)


@torch.no_grad()
def preview(baseline: Baseline, held: Pool, steps: int) -> float:
    """Mean Dice of one mask for each of those pictures, at the network's size."""
    classes, scores = int(held.labels.max()), []
    for picture, truth in zip(held.pictures, held.labels, strict=True):
        image = torch.from_numpy(picture).movedim(-1, 0)[None].float() / 127.5 - 1
        labels = baseline.masks(image, members=1, steps=steps, seed=0)[0].argmax(0).numpy().astype(np.uint8)
        scores.append(mean(dice(labels, truth, classes)))
    return mean(scores)


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
    """Score a trained baseline on the `val` split; `facts` are kept, and members and steps are read from them."""
    found = [case for case in cases(data, "val") if case.mask]
    volumes = any(case.is_volume for case in found)
    pattern = pattern or cases_of(task) or (SLICES if volumes else "")
    group = re.compile(pattern) if pattern else None
    if not volumes:
        found.sort(key=lambda case: case_of(case.name, group))
    if limit:
        found = found[:: max(len(found) // limit, 1)][:limit]
    bar = tqdm(found, desc="scoring", unit="volume" if volumes else "picture", mininterval=5)
    scored = _scored(baseline, size, bar, task, facts)
    patient = patients_of(task)
    return evaluate(scored, TASKS[task].labels, group=group, settings=facts, patient=patient)


def _scored(
    baseline: Baseline, size: int, found: Iterable[Case], task: str, facts: Mapping[str, object]
) -> Iterator[Scored]:
    members, steps = int(str(facts["members"])), int(str(facts["steps"]))
    for case in found:
        for sample in case.samples(len(TASKS[task].labels), axis_of(task)):
            began = time.perf_counter()
            image, geometry = to_network(sample.picture, size)
            with torch.no_grad():
                masks = baseline.masks(image, members=members, steps=steps, seed=0)
            masks_home = to_original(masks, geometry).numpy()
            fusion = fuse(masks_home, "staple")
            yield Scored(
                name=sample.name,
                labels=fusion.labels,
                probability=fusion.probability,
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
