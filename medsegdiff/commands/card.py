"""Write a checkpoint's model card from what was recorded and measured: nothing in it is typed by hand.

The facts are those of config.json; the results are the JSON files of `evaluate`, the curve is the training's own, and
both lie in one folder per checkpoint.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from medsegdiff.checkpoint import CARD, Checkpoint, load
from medsegdiff.config import ModelConfig, UNetConfig, V1Config, V2Config

__all__ = ["add", "fill", "main"]

_LICENCES = {
    "CC0": "cc0-1.0",
    "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY 4.0": "cc-by-4.0",
}
_TITLES: dict[type[ModelConfig], tuple[str, str]] = {
    V1Config: ("MedSegDiff (V1)", "A diffusion model"),
    V2Config: ("MedSegDiff-V2", "A diffusion model"),
    UNetConfig: ("Plain U-Net", "A plain U-Net, no diffusion model,"),
}
_OF_NOISE = ("draws", "alpha", "dice", "unroll")  # what a recipe says that a plain U-Net's training does not ask
_FEW = 5  # drawing again from fewer cases says nothing of what others would give
_MEMBERS = (
    " One member is one draw from what the network holds possible; its Dice lies below the ensemble's by nature. "
    "Disagreement between members is not error."
)


def add(verbs: argparse._SubParsersAction) -> None:
    """Describe the verb."""
    verb = verbs.add_parser(
        "card",
        help="write a checkpoint's model card from its recorded facts and measured results",
        description="Write README.md beside the weights.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    verb.add_argument("folder", type=Path, help="the checkpoint")
    verb.add_argument(
        "--results",
        type=Path,
        help="what was measured: a folder with the JSON files of evaluate --json and the training's curve.jsonl, if any",
    )
    verb.add_argument(
        "--readme", type=Path, help="also put the results into this file's block named after the checkpoint"
    )
    verb.add_argument(
        "--summary",
        type=Path,
        help="also list every checkpoint that was measured, this one and its neighbours, in this file's block `results`",
    )
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Write it."""
    checkpoint = load(arguments.folder)
    results, curve = _measured(arguments.results, checkpoint) if arguments.results else ([], [])
    if not results and (arguments.readme or arguments.summary):
        raise ValueError("--readme and --summary show what was measured; name its folder with --results")
    (arguments.folder / CARD).write_text(_card(checkpoint, results, curve), encoding="utf-8")
    if arguments.readme:
        fill(arguments.readme, f"results {checkpoint.folder.name}", _table(results))
    if arguments.summary:
        fill(arguments.summary, "results", _summary(checkpoint.folder.resolve().parent, arguments.results.parent))


def _measured(folder: Path, checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a checkpoint's evaluations, the anchor's first and then from the quoted setting on, and its curve.

    Raises:
        ValueError: there is no evaluation, or one is of other weights than these.
    """
    results = {path: _read(path) for path in folder.glob("*.json")}
    if not results:
        raise ValueError(f"{folder} holds no JSON file of `evaluate --json`; measure the checkpoint first")
    for path, result in results.items():
        if (measured := result["settings"]["sha256"]) != checkpoint.digest:
            raise ValueError(
                f"{path} was measured on weights {measured[:8]}, those of {checkpoint.folder} are {checkpoint.digest[:8]}; "
                "measure again or delete it"
            )
    curve = folder / "curve.jsonl"
    rows = curve.read_text(encoding="utf-8").splitlines() if curve.exists() else []
    ordered = sorted(results.values(), key=lambda found: (found["settings"]["anchor"], _standing(found)), reverse=True)
    return ordered, [json.loads(row) for row in rows]


def _summary(checkpoints: Path, measured: Path) -> str:
    """Lay out what each checkpoint reaches with 5 members of 10 steps, a plain U-Net in its one pass, and others' U-Net."""
    rows = [
        "| checkpoint | minutes | Dice | 95 % interval | ECE | anchor alone | both at half weight: Dice, ECE | N "
        "| MONAI U-Net: minutes, Dice, ECE |",
        f"|---{'|---:' * 8}|",
    ]
    for config in sorted(checkpoints.glob("*/config.json")):
        folder = measured / config.parent.name
        found = next((path for path in (folder / "5x10.json", folder / "1x0.json") if path.exists()), None)
        if found is None:
            continue
        result = _read(found)
        anchor, half = folder / "anchor.json", folder / "5x10-half.json"
        alone = f"{_read(anchor)['mean_dice']:.3f}" if anchor.exists() else ""
        both = f"{_read(half)['mean_dice']:.3f}, {_read(half)['ece']:.4f}" if half.exists() else ""
        each = [f"{name} {scores['dice']:.3f}" for name, scores in result["per_class"].items()]
        name = f"`{config.parent.name}`" + (f", {', '.join(each)}" if 1 < len(each) <= 4 else "")
        n = next(iter(result["per_class"].values()))["n"]
        facts = _read(config)
        took = f"{minutes:.0f}" if (minutes := facts["training"].get("cpu_minutes")) else ""
        rows.append(
            f"| {name} | {took} | {result['mean_dice']:.3f} | {_interval(result, 3)} | {result['ece']:.4f} | {alone} | {both} "
            f"| {n} | {_plain(measured / 'compare' / facts['domain']['task'])} |"
        )
    return "\n".join(rows)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(compared: Path) -> str:
    """Say what the best plain U-Net of `make compare` reached on a task, where one was trained; the mean of its seeds."""
    seeds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in compared.glob("unet-*.json"):
        result = _read(path)
        seeds[result["settings"]["peer"]].append(result)
    if not seeds:
        return ""
    best = max(seeds.values(), key=lambda results: fmean(result["mean_dice"] for result in results))
    minutes = fmean(result["settings"]["minutes"] for result in best)
    return f"{minutes:.0f}, {fmean(r['mean_dice'] for r in best):.3f}, {fmean(r['ece'] for r in best):.4f}"


def _interval(result: dict[str, Any], digits: int) -> str:
    """Write the interval of the mean Dice; with one class, older files have only the class's own."""
    scores = next(iter(result["per_class"].values()))
    if scores["n"] < _FEW:
        return ""
    low, high = result.get("interval") or scores["interval"]
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _table(results: list[dict[str, Any]]) -> str:
    """Lay out several evaluations of one checkpoint as a markdown table, in the order given."""
    several = [name for name in results[0]["per_class"] if len(results[0]["per_class"]) > 1]
    heads = ["what", "Dice", "95 % interval", *several, "IoU", "HD95", "ECE", "N"]
    rows = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for result in results:
        settings, classes = result["settings"], result["per_class"]
        scores = next(iter(classes.values()))
        each = "".join(f" {classes[name]['dice']:.3f} |" for name in several)
        rows.append(
            f"| {_setting(settings)} | {result['mean_dice']:.4f} | {_interval(result, 4)} |{each} {result['mean_iou']:.4f} "
            f"| {result['mean_hd95']:.1f} {result['hd95_unit']} | {result['ece']:.4f} | {scores['n']} |"
        )
    return "\n".join(rows)


def fill(file: Path, block: str, table: str) -> None:
    """Put a table between `<!-- BLOCK -->` and `<!-- end -->`.

    Raises:
        ValueError: the file has no such block.
    """
    begin, end = f"<!-- {block} -->", "<!-- end -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{file} has no block {begin} ... {end} to put the results in; add one")
    file.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")


def _setting(settings: dict[str, Any]) -> str:
    if settings["anchor"]:
        return "anchor alone (the condition network)"
    if settings["steps"] == 0:
        return "one pass, no steps"
    steps, members = settings["steps"], settings["members"]
    plural = "s" if steps > 1 else ""
    fusion = f" members, {settings['fuse'].upper()}" if members > 1 else " member"
    weight = f", the anchor's weight {w:g}" if (w := settings.get("anchor_weight")) else ""
    return f"{steps} step{plural} ({settings['sampler']}), {members}{fusion}{weight}"


def _command(checkpoint: Checkpoint, settings: dict[str, Any]) -> str:
    words = f"python -m medsegdiff evaluate --checkpoint {checkpoint.folder.name} --data DATA/{settings['data']}"
    if settings.get("limit"):
        words += f" --limit {settings['limit']}"
    if settings.get("cases"):
        words += f" --cases '{settings['cases']}'"
    if settings["anchor"]:
        return f"{words} --anchor"
    if settings["steps"] == 0:
        return words if isinstance(checkpoint.model_config, UNetConfig) else f"{words} --steps 0"
    weight = f" --anchor-weight {w:g}" if (w := settings.get("anchor_weight")) else ""
    return f"{words} --members {settings['members']} --steps {settings['steps']}{weight}"


def _card(checkpoint: Checkpoint, results: list[dict[str, Any]], curve: list[dict[str, Any]]) -> str:
    domain, facts, (title, _) = checkpoint.domain, checkpoint.training, _TITLES[type(checkpoint.model_config)]
    parts = [f"# {title}, {domain.task}", _use(checkpoint), "## Data", _data(checkpoint), "## Training"]
    parts.append(f"```\n{facts['command']}\n```")
    plain = isinstance(checkpoint.model_config, UNetConfig)
    recipe = [f"{name} {value}" for name, value in facts["recipe"].items() if not (plain and name in _OF_NOISE)]
    recipe += ["loss soft Dice + beta x cross-entropy"] if plain else []
    told = ", ".join(recipe)
    took = f" in {facts['cpu_minutes']:.0f} minutes of one processor core" if facts.get("cpu_minutes") else ""
    parts.append(f"{facts['iterations_done']} iterations on {facts['pictures']} pictures{took}. Recipe: {told}.")
    parts.append(_curve(curve))
    if results:
        main = max(results, key=_standing)
        parts += [
            f"## Results on the {main['settings']['split']} split",
            _table(results),
            f"Weights {main['settings']['sha256'][:12]}, arithmetic in {main['settings']['dtype']}. Each row is one command:",
            "```\n" + "\n".join(_command(checkpoint, r["settings"]) for r in results) + "\n```",
            f"Intervals are bootstrapped over pictures.{_MEMBERS if main['settings']['steps'] else ''}",
            f"Worst tenth of the pictures by Dice{_row(main['settings'])}: {', '.join(main['worst'])}.",
        ]
    text = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{_metadata(checkpoint, results).to_yaml()}\n---\n\n{text}\n"))


def _row(settings: dict[str, Any]) -> str:
    return f" in the row of {settings['members']} members and {settings['steps']} steps" if settings["steps"] else ""


def _standing(result: dict[str, Any]) -> tuple[float, ...]:
    """Order evaluations by how near they are to the setting that is quoted: most members, ten steps, as in the paper."""
    settings = result["settings"]
    members = 0 if settings["anchor"] else settings["members"]
    return (members, -abs(settings["steps"] - 10), -settings.get("anchor_weight", 0.0))


def _use(checkpoint: Checkpoint) -> str:
    domain, size = checkpoint.domain, checkpoint.model_config.image_size
    _, what = _TITLES[type(checkpoint.model_config)]
    parameters = sum(p.numel() for p in checkpoint.model.parameters()) / 1e6
    return (
        f"{what} of {parameters:.1f} M parameters that segments {', '.join(domain.labels)} in {domain.modality}, "
        f"trained at {size} x {size}; other sizes run, less well. Pictures are squeezed to a square before the network and "
        "the mask is stretched back.\n\n**For research and teaching only. Not a medical device, not for diagnosis.** "
        "How it behaves on other devices, populations or picture kinds than the data below is unknown."
    )


def _data(checkpoint: Checkpoint) -> str:
    domain, share = checkpoint.domain, checkpoint.training["recipe"]["phantoms"]
    drawn = (
        f" {share:.0%} of the training pictures are drawn phantoms (`medsegdiff/data/synthetic.py`)." if share else ""
    )
    return f"{domain.source}. Licence of the data: {domain.licence}.{drawn}"


def _curve(curve: list[dict[str, Any]]) -> str:
    rows = [row for row in curve if "dice_steps_1" in row or "dice_mask" in row]
    if not rows:
        return ""
    chosen = [rows[i] for i in sorted(set(np.linspace(0, len(rows) - 1, 10).astype(int)))]
    names = [name for name in ("dice_mask", "dice_anchor", "dice_steps_1", "dice_steps_10") if name in rows[0]]
    words = {"dice_mask": "Dice", "dice_anchor": "anchor", "dice_steps_1": "1 step", "dice_steps_10": "10 steps"}
    lines = [f"| iteration | {' | '.join(words[n] for n in names)} |", "|---:|" + "---:|" * len(names)]
    lines += [f"| {row['iteration']} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |" for row in chosen]
    whose = "Dice" if "dice_mask" in names else "Dice of one member"
    return whose + " on 24 validation pictures while it trained:\n\n" + "\n".join(lines)


def _metadata(checkpoint: Checkpoint, results: list[dict[str, Any]]) -> ModelCardData:
    domain, plain = checkpoint.domain, isinstance(checkpoint.model_config, UNetConfig)
    licence = next((name for words, name in _LICENCES.items() if domain.licence.startswith(words)), "other")
    evaluations = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=domain.task,
            dataset_name=domain.source,
            dataset_split=r["settings"]["split"],
            metric_type="dice",
            metric_name=f"Dice, {_setting(r['settings'])}",
            metric_value=round(r["mean_dice"], 4),
        )
        for r in results
    ]
    return ModelCardData(
        license=licence,
        library_name="medsegdiff",
        pipeline_tag="image-segmentation",
        tags=["medical", *([] if plain else ["diffusion"]), "segmentation", domain.task],
        model_name=checkpoint.folder.name,
        eval_results=evaluations or None,
    )
