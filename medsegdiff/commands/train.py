"""Train a network on a folder of images and masks.

OUT/state.safetensors      state for --resume
OUT/curve.jsonl            losses, and every few minutes Dice on a few validation images
OUT/previews/NNNNNN.png    those images: input, ground truth, anchor, mask after one step, mask after ten; for a plain U-Net
                           input, ground truth, mask
OUT/checkpoint/            the moving average of the weights, as a checkpoint
OUT/best/                  with --held: the state with the best score on the training images held out: the lowest energy
                           distance to several readers, else the highest Dice of ten steps; not while only the condition
                           network is trained (--anchor-first), for which the denoiser of a stage before is no match

A resumed run keeps the data that OUT/checkpoint records: classes, patients, which images are for validation or held out. A run
that is not resumed replaces what an earlier one left in OUT: the curve at once, checkpoint/ and best/ at its first save.
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from PIL import Image
from tqdm import tqdm

from medsegdiff.atomic import replacing, write_text
from medsegdiff.checkpoint import CONFIG, load, read_config, save
from medsegdiff.commands import options, recipe
from medsegdiff.config import PRESETS, Domain, Preset, UNetConfig, V2Config
from medsegdiff.data.adaptors import LAYOUTS, cases, unpaired
from medsegdiff.data.batches import Draws, Pool
from medsegdiff.data.dataset import MIRRORS, Dataset, Split, describe
from medsegdiff.data.folders import Case, evenly_spaced, is_flat
from medsegdiff.data.synthetic import TASKS as PAINTED
from medsegdiff.device import precision
from medsegdiff.domain import load_encoder
from medsegdiff.hub import resolve
from medsegdiff.losses import Objective
from medsegdiff.metrics import dice, mean
from medsegdiff.multi_reader import diversity, energy_distance
from medsegdiff.nn.build import Network, build
from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.processes import Share
from medsegdiff.sampling import MemberNoise, denoise, spaced
from medsegdiff.schedule import Diffusion
from medsegdiff.training import Run, TrainStep, train

__all__ = ["add", "main"]

_STATE = "state.safetensors"  # of a run, in its folder
_CURVE = "curve.jsonl"


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `train` command."""
    verb = verbs.add_parser(
        "train",
        help="train a network on a folder of images and masks",
        description="Train a network. For several processes, start it with `accelerate launch -m medsegdiff train`.",
        formatter_class=options.Help,
    )
    verb.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with images/ and masks/, or with train/ and val/ that have them",
    )
    verb.add_argument("--out", type=Path, required=True, help="folder for state, curve, previews and checkpoint")
    verb.add_argument("--layout", choices=("auto", "plain", *LAYOUTS), default="auto", help="layout of the data folder")
    verb.add_argument("--recipe", type=Path, metavar="FILE", help="TOML file with options of the three groups below")
    verb.add_argument("--resume", action="store_true", help="continue the run in --out, with bit-identical results")
    verb.add_argument(
        "--every", type=float, default=4.0, help="minutes between saves, each with a preview of validation images"
    )
    verb.add_argument("--workers", type=int, default=1, help="processes that load and augment images")
    recipe.add_options(verb)
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Train, saving every few minutes, and write a checkpoint."""
    stages = recipe.completed(arguments, arguments.recipe)
    outs = [arguments.out / f"stage-{n}" for n in range(1, len(stages))] + [arguments.out]
    for stage, out in zip(stages, outs, strict=True):
        stage.out, stage.split, stage.held_out = out, None, ()
    for stage, before in zip(stages[1:], stages, strict=False):
        stage.init = str(before.out / ("best" if before.held else "checkpoint"))
        stage.resume, before.resume = (arguments.resume and (one.out / _STATE).exists() for one in (stage, before))
    for stage, before in zip(stages, [None, *outs], strict=False):
        stage.begun_in = stage.out if stage.resume else before
    # Any error in the file is found here, before the first stage is trained.
    parts = [(data := _data(stage), *_described(stage, data)) for stage in stages]
    for stage, (data, _, _) in zip(stages, parts, strict=True):
        stage.flips = next(name for name, axes in MIRRORS.items() if axes == data.task.mirror)
    if Share.here().first:
        data, _, domain = parts[0]
        print(f"{data.name}: {', '.join(domain.labels)}. Source: {domain.source}. Licence: {domain.licence}.")
        print(f"Flips of training images: {stages[0].flips} (--mirror chooses others).")
        if is_flat(arguments.data):
            print(f"{arguments.data} has no train/ and val/, so it is split: {data.split}.")
    begun = max((n for n, stage in enumerate(stages) if stage.resume), default=0)
    for number, (stage, (data, preset, domain)) in list(enumerate(zip(stages, parts, strict=True)))[begun:]:
        if len(stages) > 1 and Share.here().first:
            print(f"Stage {number + 1} of {len(stages)}, in {stage.out}")
        with _claimed(stage.out) if Share.here().first else nullcontext():
            _train(stage, preset, domain, data)


def _data(arguments: argparse.Namespace) -> Dataset:
    given = {name: getattr(arguments, name) for name in recipe.DATA}
    return describe(arguments.data, arguments.layout, arguments.task, given)


def _train(arguments: argparse.Namespace, preset: Preset, domain: Domain, data: Dataset) -> None:
    accelerator = Accelerator(
        mixed_precision=_mixed_precision(),
        gradient_accumulation_steps=arguments.accumulate,
        # While the anchor is trained alone, the denoiser has no gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=preset.training.anchor_first > 0)],
    )
    torch.manual_seed(arguments.seed)
    started = _cpu_minutes()
    data, held_out = _kept(data, domain, arguments.begun_in)
    model, earlier = _network(preset, arguments.init)
    diffusion = Diffusion(preset.diffusion, preset.model.classes)
    config, side = preset.training, preset.model.image_size
    size = round(side / config.field)  # of the whole image
    objective = Objective(
        model,
        diffusion,
        alpha=config.alpha,
        beta=config.beta,
        dice=config.dice,
        anchor_dice=config.anchor_dice,
        balance=config.balance,
    )
    found = tqdm(_paired(arguments, data, "train"), desc="reading", disable=not accelerator.is_local_main_process)
    pool = Pool.of(
        found,
        preset.model.classes,
        size,
        task=data.task,
        empty=arguments.empty,
        phantoms=config.phantoms,
        drawn=data.name,
        seed=config.seed,
    )
    mean, std = pool.statistics()
    domain = replace(domain, mean=mean, std=std)
    if config.held:
        pool, held = pool.set_aside(config.held, data.task.patient, held_out)
        arguments.held_out = held.patients(data.task.patient)
    else:
        held = evenly_spaced(_paired(arguments, data, "val"), 24)
        held = Pool.of(held, preset.model.classes, size, task=data.task, split="val").few(24)
    held = held.middle(side)
    draws = Draws(pool, task=data.task, seed=config.seed, augment=config.augment, strong=config.strong, crop=side)
    run = Run(objective, draws, config, accelerator)
    if arguments.resume:
        run.resume(arguments.out)
    elif (arguments.out / _STATE).exists():
        raise ValueError(f"{arguments.out} holds a run already; continue it with --resume or choose another --out")
    if accelerator.is_main_process and run.done:  # without a row that was cut short
        write_text(arguments.out / _CURVE, "".join(f"{json.dumps(row)}\n" for row in _rows(arguments.out)))
    elif accelerator.is_main_process:
        (arguments.out / _CURVE).unlink(missing_ok=True)
    earlier = (_spent(arguments.out) if run.done else earlier) - started
    _loop(run, held, preset, domain, arguments, earlier)


def _kept(data: Dataset, domain: Domain, folder: Path | None) -> tuple[Dataset, tuple[str, ...]]:
    """Return the data set with the split that the run in a folder recorded, and the hashes of the patients that it held out.

    Raises:
        ValueError: classes, patients, slices or rule are not those it began with.
    """
    if folder is None or not (folder / "checkpoint" / CONFIG).exists():
        return data, ()
    config = read_config(folder / "checkpoint")
    begun, training = config["domain"], config["training"]
    pairs = {name: (getattr(begun, name), getattr(domain, name)) for name in ("labels", "patient", "axis")}
    pairs["window"] = (begun.intensity and begun.intensity.window, domain.intensity and domain.intensity.window)
    if (rule := Split.recorded(training)) is not None:
        pairs |= {"val-share": (rule.share, data.split.share), "split-seed": (rule.seed, data.split.seed)}
    for name, (before, given) in pairs.items():
        if before is not None and before != given:
            raise ValueError(f"{folder} was begun with {name} {before!r}, not {given!r}; go on with what it began with")
    return replace(data, split=rule or data.split), tuple(training.get("held_out", ()))


def _paired(arguments: argparse.Namespace, data: Dataset, split: str) -> list[Case]:
    """List the cases of a split; a flat folder is split by the rule of the data set.

    Raises:
        ValueError: there are images without a mask or masks without an image.
    """
    found = cases(arguments.data, split, arguments.layout)
    if left := unpaired(arguments.data, split, arguments.layout, found):
        raise ValueError(f"{arguments.data}: {left}; rename, add or remove them")
    if not is_flat(arguments.data):
        return found
    rule = data.split.fixed(found)
    parts = {name: rule.of(found, name) for name in ("train", "val")}
    arguments.split = {**asdict(rule), "rule": str(rule)} | {name: len(part) for name, part in parts.items()}
    return parts[split]


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Make the folder of a training this process's own, and clear what a killed one left half-written.

    Raises:
        ValueError: another training is writing there.
        OSError: it cannot be made or written, or is a file.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "training.lock"
    with path.open("a") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            pass
        except OSError:
            raise ValueError(f"another training is writing to {out}; wait for it or choose another --out") from None
        (out / "state.partial").unlink(missing_ok=True)
        for draft in (*out.glob(".checkpoint-*"), *out.glob(".best-*")):
            shutil.rmtree(draft, ignore_errors=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # there is something in it
                out.rmdir()


def _loop(run: Run, held: Pool, preset: Preset, domain: Domain, arguments: argparse.Namespace, earlier: float) -> None:
    """Train and save; `earlier` is added to the minutes of this process to give those of the whole training."""
    out: Path = arguments.out
    main_process = run.accelerator.is_main_process
    (out / "previews").mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=run.config.iterations, initial=run.done, desc="training", disable=not main_process, mininterval=2)
    recent: list[TrainStep] = []
    fresh, saved = run.done == 0, time.monotonic()
    if main_process and run.done >= run.config.iterations:
        bar.write(f"{out} has done its {run.done} iterations; to go on, resume with more --iterations")
        for folder in _outputs(run, out):
            if not (folder / CONFIG).exists() or read_config(folder)["training"]["iterations_done"] != run.done:
                _checkpoint(run, preset, domain, folder, arguments, round(earlier + _cpu_minutes(), 4))
    for step in train(run, workers=arguments.workers):
        recent.append(step)
        bar.update()
        last = step.index == run.config.iterations
        if step.index % 20 == 0 or last:
            row = {
                k: float(np.mean([getattr(s, k) for s in recent]))
                for k in ("loss", "noise", "anchor_dice", "anchor_ce", "gradient")
            }
            bar.set_postfix({k: f"{v:.4f}" for k, v in row.items()})
            recent.clear()
            if main_process:
                _note(out, {"iteration": step.index, "time": round(time.time(), 1), **row})
        if main_process and (last or time.monotonic() - saved > 60 * arguments.every):
            minutes = round(earlier + _cpu_minutes(), 4)
            run.save(out)
            if fresh:
                shutil.rmtree(out / "best", ignore_errors=True)
                fresh = False
            row = _preview(run, held, out / "previews" / f"{step.index:06}.png")
            bar.write(f"iteration {step.index}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items()))
            _note(out, {"iteration": step.index, "time": round(time.time(), 1), "cpu_minutes": minutes, **row})
            for folder in _outputs(run, out):
                _checkpoint(run, preset, domain, folder, arguments, minutes)
            saved = time.monotonic()


def _outputs(run: Run, out: Path) -> list[Path]:
    """Return the checkpoints to write of the present iteration: with best/ if none was better, by the previews in the curve."""
    judged = [row for row in _previews(out) if row["iteration"] > run.config.anchor_first]
    present = [_standing(row) for row in judged if row["iteration"] == run.done]
    best = run.config.held and present and present[-1] >= max(map(_standing, judged))
    return [out / "checkpoint", *([out / "best"] if best else [])]


def _cpu_minutes() -> float:
    """Return the CPU time of this process and its workers."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True))) / 60


def _spent(out: Path) -> float:
    """Return the CPU time of a resumed run until it was saved."""
    return max((row.get("cpu_minutes", 0.0) for row in _rows(out)), default=0.0)


def _rows(out: Path) -> list[dict]:
    """Return the rows of the curve, without a last line that was cut short."""
    path = out / _CURVE
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}: line {number} is no JSON ({error}); delete it") from error
    return rows


def _standing(row: dict) -> float:
    """Return a sort key of previews; a nan, where no validation image has a target, comes last."""
    score = -row["ged"] if "ged" in row else row.get("dice_steps_10", row.get("dice_mask", 0.0))
    return -math.inf if math.isnan(score) else score


def _previews(out: Path) -> list[dict]:
    return [row for row in _rows(out) if "cpu_minutes" in row]


def _described(arguments: argparse.Namespace, data: Dataset) -> tuple[Preset, Domain]:
    """Return the configuration, and what the checkpoint says of its data."""
    plain = isinstance(PRESETS[arguments.preset].model, UNetConfig)
    if plain and any((arguments.draws, arguments.unroll, arguments.dice)):
        raise ValueError(f"{arguments.preset} is a plain U-Net without noise; leave out --draws, --unroll and --dice")
    if arguments.frozen and not arguments.init:
        raise ValueError("--frozen keeps the condition network as --init gives it; name a checkpoint with --init")
    if data.own and arguments.phantoms:
        raise ValueError("--phantoms adds synthetic images of a known task; leave it out for classes of one's own")
    preset = recipe.preset_of(arguments, len(data.task.labels))
    if arguments.phantoms is None and (data.own or data.name not in PAINTED):
        preset = replace(preset, training=replace(preset.training, phantoms=0.0))
    domain = Domain(
        task=data.name,
        modality=data.task.modality,
        labels=data.task.labels,
        source=data.task.source,
        licence=data.task.licence,
        field=preset.training.field,
        patient=data.task.patient,
        channels=data.task.channels,
        may_be_absent=data.task.may_be_absent,
        axis=data.task.axis,
        intensity=data.task.intensity,
    )
    return preset, domain


def _network(preset: Preset, init: str | None) -> tuple[Network, float]:
    """Return the network to train, and the minutes that the checkpoint it starts from has taken."""
    model, minutes = build(preset.model), 0.0
    if not isinstance(model, MedSegDiffV1) and (encoder := model.condition.encoder) and not init:
        encoder.backbone.load_state_dict(load_encoder(maps=encoder.used.stop).state_dict())
    if init:
        checkpoint = load(resolve(init))
        resized = replace(checkpoint.model_config, image_size=preset.model.image_size)
        weights, shapes = checkpoint.model.state_dict(), {k: v.shape for k, v in model.state_dict().items()}
        if isinstance(resized, V2Config) and isinstance(preset.model, V2Config) and resized.gate == "shared":
            resized = replace(resized, gate=preset.model.gate)
        if (resized, checkpoint.diffusion) != (preset.model, preset.diffusion):
            raise ValueError(
                f"{init} holds another network or diffusion than this preset and task; choose those it began with"
            )
        for name, one in weights.items():
            if ".reduce." in name:
                weights[name] = one.expand(shapes[name])  # every channel begins with the gate that all shared
        if {k: v.shape for k, v in weights.items()} != shapes:  # V1: the FF-Parser's filters have a fixed size
            raise ValueError(
                f"{init} was trained at {checkpoint.model_config.image_size} pixels, and weights of V1 belong to one size; "
                f"begin with --size {checkpoint.model_config.image_size}"
            )
        model.load_state_dict(weights)
        minutes = float(checkpoint.training.get("cpu_minutes") or 0.0)
    return model, minutes


def _mixed_precision() -> str:
    return "bf16" if torch.cuda.is_available() and precision(torch.device("cuda")) == torch.bfloat16 else "no"


def _note(out: Path, row: dict) -> None:
    with (out / _CURVE).open("a") as file:
        file.write(json.dumps(row) + "\n")


@torch.no_grad()
def _preview(run: Run, held: Pool, path: Path) -> dict[str, float]:
    """Segment and score the validation images: anchor, one step, ten steps of one member; for a plain U-Net its mask.

    A schedule of fewer than ten timesteps takes them all.
    """
    device, diffusion = run.accelerator.device, run.objective.diffusion
    image = torch.from_numpy(held.pictures).to(device).movedim(-1, 1).float() / 127.5 - 1
    image = image.contiguous(memory_format=torch.channels_last)
    condition = run.ema.encode(image)
    columns = {}
    for logits in condition.anchor_logits:
        columns["mask" if run.plain else "anchor"] = diffusion.probability_of_logits(logits).argmax(1)
    n, (h, w) = len(image), image.shape[-2:]
    for steps in () if run.plain else (1, 10):
        noise = MemberNoise(run.config.seed, n)
        walk = denoise(
            run.ema,
            condition,
            diffusion,
            spaced(diffusion.schedule.timesteps, min(steps, diffusion.schedule.timesteps)),
            noise,
            (diffusion.channels, h, w),
        )
        *_, last = walk
        columns[f"steps_{steps}"] = diffusion.probability(last.x_0).argmax(1)
    truth = torch.from_numpy(held.labels).to(device)
    masks = torch.stack([truth, *columns.values()]).cpu().numpy() / diffusion.classes * 255
    rows = [
        np.concatenate([held.pictures[i], *(np.repeat(m[i, ..., None], 3, -1).astype(np.uint8) for m in masks)], 1)
        for i in range(min(n, 8))
    ]
    with replacing(path) as draft:
        Image.fromarray(np.concatenate(rows)).save(draft, "PNG")
    scores = {f"dice_{name}": _mean_dice(labels, truth, diffusion.classes) for name, labels in columns.items()}
    return scores | (_against_readers(run, held, image) if held.readers is not None and not run.plain else {})


def _against_readers(run: Run, held: Pool, image: torch.Tensor) -> dict[str, float]:
    """Compare eight members of ten steps with the readers, image by image."""
    diffusion, readers = run.objective.diffusion, held.readers
    assert readers is not None
    timesteps, (h, w) = diffusion.schedule.timesteps, image.shape[-2:]
    times = spaced(timesteps, min(10, timesteps))
    ged, spread = [], []
    for one, masks in zip(image.split(1), readers, strict=True):
        noise = MemberNoise(run.config.seed, 8)
        *_, last = denoise(run.ema, run.ema.encode(one), diffusion, times, noise, (diffusion.channels, h, w))
        members = diffusion.probability(last.x_0).argmax(1).cpu().numpy()
        ged.append(energy_distance(members, masks))
        spread.append(diversity(members))
    return {"ged": float(np.mean(ged)), "diversity": float(np.mean(spread))}


def _mean_dice(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> float:
    """Average the Dice over all images and the classes that occur in their ground truth."""
    pairs = zip(labels.cpu().numpy(), truth.cpu().numpy(), strict=True)
    return mean([score for one, other in pairs for score in dice(one, other, classes)])


def _checkpoint(
    run: Run, preset: Preset, domain: Domain, folder: Path, arguments: argparse.Namespace, minutes: float
) -> None:
    facts = {
        "command": recipe.command(arguments, domain.task),
        "preset": arguments.preset,
        "recipe": asdict(run.config),
        "iterations_done": run.done,
        "cpu_minutes": minutes,
        "pictures": len(run.draws.pool.pictures),
        "mirror": arguments.flips,
        "torch": torch.__version__,
    }
    if arguments.empty is not None:
        facts["empty"] = arguments.empty
    if arguments.recipe:
        facts["recipe_file"] = {"name": arguments.recipe.name, "content": arguments.recipe_content}
    if arguments.split:
        facts["split"] = arguments.split
    if arguments.held_out:
        facts["held_out"] = list(arguments.held_out)
    save(
        folder,
        run.ema,
        model_config=preset.model,
        diffusion=preset.diffusion,
        domain=domain,
        training=facts,
        dtype=torch.float16,
    )
