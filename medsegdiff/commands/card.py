"""Write a checkpoint's model card, and the tables of results, from recorded and measured facts.

The facts come from the checkpoint's config.json. One folder per checkpoint holds the results (JSON files written by
`evaluate --json`) and the training curve (curve.jsonl). Nothing in a card is edited by hand.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from medsegdiff.atomic import write_text
from medsegdiff.checkpoint import CARD, Checkpoint, load
from medsegdiff.commands import options, recipe
from medsegdiff.config import Domain, ModelConfig, RunSettings, UNetConfig, V1Config, V2Config
from medsegdiff.data.tasks import TASKS
from medsegdiff.evaluation import FEW
from medsegdiff.shipped import FOLDER

__all__ = ["add", "around", "distance", "fill", "main"]

_LICENCES = {
    "CC0": "cc0-1.0",
    "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY 3.0": "cc-by-3.0",
}
# Name and link of the terms of data sets that have no licence of the Hub's list, by task.
_TERMS = {
    "abdomen-ct": ("synapse-research-use", "https://doi.org/10.7303/syn3193805"),
    "breast-ultrasound": ("busi-cc0-or-cc-by-4.0", "https://doi.org/10.1016/j.dib.2019.104863"),
    "optic-disc-cup": ("drishti-gs-research-use", "https://doi.org/10.1109/ISBI.2014.6867807"),
    "thyroid-nodule": ("ddti-research-use", "https://doi.org/10.1117/12.2073532"),
}
_OTHER_TERMS = ("terms-of-the-data", "README.md")
_EXAMPLE = """```python
from medsegdiff import RunSettings, Segmenter

segmenter = Segmenter.from_pretrained("{name}")
result = segmenter("image.png", RunSettings(members=5, steps=10, seed=0))  # or DICOM, NIfTI ...
print(result.areas())  # of each class; result.labels is the mask, at the size of the image
```"""
_TITLES: dict[type[ModelConfig], tuple[str, str]] = {
    V1Config: ("MedSegDiff (V1)", "A diffusion model"),
    V2Config: ("MedSegDiff-V2", "A diffusion model"),
    UNetConfig: ("Plain U-Net", "A plain U-Net (no diffusion)"),
}
_CHOSEN = " Settings and stopping times were also chosen on `val`, so these figures are somewhat optimistic."
_HELD = " The stopping time was chosen on training images held out; the recipe was found on `val` too."
_OWN_HELD = " The stopping time was chosen on training images held out."
_DEFAULT_SPLITS = ("val", "all")  # of `evaluate` without --split
_DIFFUSION_ONLY = ("draws", "alpha", "dice", "unroll")  # entries of a recipe that a plain U-Net's training does not use
_RULES = {"staple": "STAPLE", "anchored": "the mean of members and anchor", "mean": "the mean", "vote": "a vote"}
_FUSED = {
    "staple": "STAPLE",
    "anchored": "fused with the anchor",
    "mean": "mean of the members",
    "vote": "vote of the members",
}
_VIEWS = {
    "none": "the image alone",
    "horizontal": "the image and its mirror image",
    "both": "the image and three mirror images",
}
_MEMBERS = (
    " A member is one sample from the model, so the Dice of a single member is usually below the ensemble's. "
    "Disagreement between members is not error."
)


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the `card` command."""
    verb = verbs.add_parser(
        "card",
        help="write a checkpoint's model card from its recorded facts and measured results",
        description="Write README.md, the model card, into a checkpoint's folder.",
        formatter_class=options.Help,
    )
    verb.add_argument("folder", type=Path, help="folder of the checkpoint")
    verb.add_argument(
        "--results",
        type=Path,
        help="folder with the JSON files of evaluate --json and, optionally, the training's curve.jsonl",
    )
    verb.add_argument(
        "--readme", type=Path, metavar="FILE", help="also write the table of results into FILE's block `results NAME`"
    )
    verb.add_argument(
        "--summary",
        type=Path,
        metavar="FILE",
        help="also write one row for every measured checkpoint in the same parent folder into FILE's block `results`",
    )
    verb.set_defaults(main=main)


def main(arguments: argparse.Namespace) -> None:
    """Write the card, and the tables if asked for."""
    checkpoint = load(arguments.folder)
    results, curve = _measured(arguments.results, checkpoint) if arguments.results else ([], [])
    if not results and (arguments.readme or arguments.summary):
        raise ValueError("--readme and --summary show what was measured; name its folder with --results")
    write_text(arguments.folder / CARD, _card(checkpoint, results, curve))
    if arguments.readme:
        fill(
            arguments.readme,
            f"results {checkpoint.name}",
            "\n\n".join([_table(results), *_reader_tables(results)]),
        )
    if arguments.summary:
        fill(arguments.summary, "results", _summary(checkpoint.folder.resolve().parent, arguments.results.parent))


def _measured(folder: Path, checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a checkpoint's evaluations and training curve; the anchor's evaluation comes first, then the main setting.

    Raises:
        ValueError: there is no evaluation, or one was measured on other weights.
    """
    results = []
    for path in folder.glob("*.json"):
        match _read(path):
            case {"settings": {"sha256": str(measured)}} as result:
                if measured != checkpoint.digest:
                    raise ValueError(
                        f"{path} was measured on weights {measured[:8]}, those of {checkpoint.folder} are "
                        f"{checkpoint.digest[:8]}; measure again or delete it"
                    )
                results.append(result)
            case _:
                print(f"left out: {path}, which `evaluate --json` did not write", file=sys.stderr)
    if not results:
        raise ValueError(f"{folder} holds no JSON file of `evaluate --json`; measure the checkpoint first")
    curve = folder / "curve.jsonl"
    rows = curve.read_text(encoding="utf-8").splitlines() if curve.exists() else []
    ordered = sorted(results, key=lambda found: _place(found, checkpoint.domain), reverse=True)
    return ordered, [json.loads(row) for row in rows]


def _summary(checkpoints: Path, measured: Path) -> str:
    """Return a markdown table with one row per checkpoint: 5 members of 10 steps, the anchor, `other`, and MONAI's U-Net."""
    rows = [
        "| checkpoint | minutes | Dice | 95 % interval | ECE | anchor only | by STAPLE: Dice, ECE | N "
        "| `other`: Dice, ECE, N | MONAI U-Net: minutes, Dice, ECE |",
        f"|---{'|---:' * 9}|",
    ]
    for config in sorted(checkpoints.glob("*/config.json")):
        folder = measured / config.parent.name
        found = next((path for name in ("5x10", "1x0", "16x10") if (path := folder / f"{name}.json").exists()), None)
        if found is None:
            continue
        result = _read(found)
        anchor, staple = folder / "anchor.json", found.with_name(f"{found.stem}-staple.json")
        alone = _number(_read(anchor)["mean_dice"], 3) if anchor.exists() else ""
        fused = _dice_and_ece(_read(staple)) if staple.exists() else ""
        each = [f"{name} {_number(scores['dice'], 3)}" for name, scores in result["per_class"].items()]
        name = f"`{config.parent.name}`" + (f", {', '.join(each)}" if 1 < len(each) <= 4 else "")
        n = next(iter(result["per_class"].values()))["n"]
        elsewhere = ""
        if (other := folder / "other-5x10.json").exists():
            far = _read(other)
            elsewhere = f"{_dice_and_ece(far)}, {next(iter(far['per_class'].values()))['n']}"
        facts = _read(config)
        took = f"{minutes:.0f}" if (minutes := facts["training"].get("cpu_minutes")) else ""
        rows.append(
            f"| {name} | {took} | {_number(result['mean_dice'], 3)} | {_interval(result, 3)} | {_number(result['ece'], 4)} "
            f"| {alone} | {fused} | {n} | {elsewhere} | {_plain(measured / 'compare' / facts['domain']['task'])} |"
        )
    return "\n".join(rows)


def _dice_and_ece(result: dict[str, Any]) -> str:
    return f"{_number(result['mean_dice'], 3)}, {_number(result['ece'], 4)}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(compared: Path) -> str:
    """Return minutes, Dice and ECE (means over seeds) of a task's best plain U-Net from `make compare`, or ""."""
    seeds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in compared.glob("unet-*.json"):
        result = _read(path)
        seeds[result["settings"]["baseline"]].append(result)
    if not seeds:
        return ""
    best = max(seeds.values(), key=lambda results: fmean(result["mean_dice"] for result in results))
    minutes = fmean(result["settings"]["minutes"] for result in best)
    return f"{minutes:.0f}, {fmean(r['mean_dice'] for r in best):.3f}, {fmean(r['ece'] for r in best):.4f}"


def _interval(result: dict[str, Any], digits: int) -> str:
    """Format the interval of the mean Dice; older files with one class have only the interval of the class."""
    return _range(result, result.get("interval") or next(iter(result["per_class"].values()))["interval"], digits)


def _range(result: dict[str, Any], ends: Sequence[float | None] | None, digits: int) -> str:
    """Format an interval of a result; "" if it is unknown, or over fewer than FEW cases."""
    over = result.get("intervals_over") or next(iter(result["per_class"].values()))
    known = [f"{end:.{digits}f}" for end in ends or () if end is not None]
    return " to ".join(known) if over["n"] >= FEW else ""


def _number(value: float | None, digits: int) -> str:
    """Format a score; a dash where it is unknown, as of a class that no ground truth has."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _table(results: list[dict[str, Any]]) -> str:
    """Return a markdown table of one checkpoint's evaluations, in the order given."""
    several = [name for name in results[0]["per_class"] if len(results[0]["per_class"]) > 1]
    heads = ["setting", "Dice", "95 % interval", *several, "IoU", "HD95", "ECE", "N"]
    rows = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for result in results:
        settings, classes = result["settings"], result["per_class"]
        scores = next(iter(classes.values()))
        each = "".join(f" {_number(classes[name]['dice'], 3)} |" for name in several)
        rows.append(
            f"| {_setting(settings)} | {_number(result['mean_dice'], 4)} | {_interval(result, 4)} |{each} "
            f"{_number(result['mean_iou'], 4)} | {distance(result['mean_hd95'], result['hd95_unit'])} "
            f"| {_number(result['ece'], 4)} | {scores['n']} |"
        )
    return "\n".join(rows)


def distance(value: float | None, unit: str) -> str:
    """Write an HD95 with its unit; a dash where it is not known."""
    return text if (text := _number(value, 1)) == "-" else f"{text} {unit}"


def _reader_tables(results: list[dict[str, Any]]) -> list[str]:
    """Lay out how members compare with several readers, where there are any, and with readers of whom so many marked."""
    several = [result for result in results if "ged" in result]
    if not several:
        return []
    heads = [
        "what",
        "GED^2",
        "95 % interval",
        "HM-IoU",
        "majority Dice",
        "best-match Dice",
        "diversity",
        "ECE",
        "Brier",
    ]
    rows = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for result in several:
        names = ("hm_iou", "dice_majority", "dice_best_match", "diversity")
        scores = " | ".join(_number(result[name], 3) for name in names)
        rows.append(
            f"| {_setting(result['settings'])} | {result['ged']:.3f} | {_range(result, result['reader_intervals']['ged'], 3)} "
            f"| {scores} | {result['ece_share']:.4f} | {result['brier']:.4f} |"
        )
    main = _main(several)
    parts = [
        "| readers who marked | images | GED^2 | HM-IoU | diversity | of the readers |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    parts += [
        f"| {count} | {g['n']} | {g['ged']:.3f} | {g['hm_iou']:.3f} | {g['diversity']:.3f} | {g['reader_diversity']:.3f} |"
        for count, g in main["by_readers_who_marked"].items()
    ]
    return [
        f"Members beside the readers (formulas: `medsegdiff/multi_reader.py`; intervals over {_over(main)}; the readers' own "
        f"diversity is {main['reader_diversity']:.3f}):",
        "\n".join(rows),
        f"{_setting(main['settings'])}, by how many readers marked anything:",
        "\n".join(parts),
    ]


def fill(file: Path, block: str, table: str) -> None:
    """Replace what stands between `<!-- BLOCK -->` and `<!-- end -->` in a file.

    Raises:
        ValueError: the file has no such block.
    """
    before, after = around(file, block)
    write_text(file, f"{before}\n\n{table}\n\n{after}")


def around(file: Path, block: str) -> tuple[str, str]:
    """Return the text of a file up to the content of a block and from its end, both with their markers.

    Raises:
        ValueError: the file has no such block.
    """
    begin, end = f"<!-- {block} -->", "<!-- end -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{file} has no block {begin} ... {end} to put the results in; add one")
    return before + begin, end + after


def _setting(settings: dict[str, Any]) -> str:
    where = "" if settings["split"] in _DEFAULT_SPLITS else f" **on `{settings['split']}`**"
    mirrored = "" if settings.get("mirror", "none") == "none" else ", with mirror images"
    if settings["anchor"]:
        return f"anchor only, no diffusion{mirrored}{where}"
    if settings["steps"] == 0:
        return f"single forward pass{mirrored}{where}"
    steps, members = settings["steps"], settings["members"]
    plural = "s" if steps > 1 else ""
    fusion = f" members, {_FUSED[settings['fuse']]}" if members > 1 else " member"
    how = f", eta {eta:g}" if (eta := settings.get("eta")) else ""
    how += f", anchor weight {w:g}" if (w := settings.get("anchor_weight")) else ""
    how += ", stratified noise" if settings.get("noise") == "stratified" else ""
    how += mirrored
    off = "".join(f", without {name}" for name in _bypassed(settings))
    off += ", NBP surfaces flattened" if settings.get("switches", {}).get("flatten_nbp") else ""
    return f"{steps} step{plural} ({settings['sampler']}), {members}{fusion}{how}{off}{where}"


def _bypassed(settings: dict[str, Any]) -> list[str]:
    return [name for name, value in settings.get("switches", {}).items() if value is False and name != "flatten_nbp"]


def _command(checkpoint: Checkpoint, settings: dict[str, Any]) -> str:
    words = f"python -m medsegdiff evaluate --checkpoint {checkpoint.name} --data DATA/{settings['data']}"
    if settings["split"] != "val":
        words += f" --split {settings['split']}"
    if settings.get("limit"):
        words += f" --limit {settings['limit']}"
    if settings.get("cases"):
        words += f" --cases '{settings['cases']}'"
    if (size := settings.get("size")) not in (None, checkpoint.model_config.image_size):
        words += f" --size {size}"
    domain = checkpoint.domain
    if settings["anchor"] or settings["steps"] == 0:
        mirror = settings.get("mirror", "none")
        words += "" if mirror == domain.mirror else f" --mirror {mirror}"
        if settings["anchor"]:
            return f"{words} --anchor"
        return words if isinstance(checkpoint.model_config, UNetConfig) else f"{words} --steps 0"
    by_domain = ("anchor_weight", "fuse", "noise", "mirror")
    default = asdict(RunSettings()) | {name: getattr(domain, name) for name in by_domain}
    used = (
        default | {"anchor_weight": 0.0, "noise": "independent", "mirror": "none"} | settings
    )  # of files without them
    names = ("sampler", "spacing", "tolerance", "eta", *by_domain, "seed")
    changed = {name.replace("_", "-"): used[name] for name in names if used[name] != default[name]}
    how = "".join(f" --{name} {v:g}" if isinstance(v, float) else f" --{name} {v}" for name, v in changed.items())
    off = f" --without {' '.join(_bypassed(settings))}" if _bypassed(settings) else ""
    off += " --flatten-nbp" if settings.get("switches", {}).get("flatten_nbp") else ""
    return f"{words} --members {settings['members']} --steps {settings['steps']}{how}{off}"


def _card(checkpoint: Checkpoint, results: list[dict[str, Any]], curve: list[dict[str, Any]]) -> str:
    domain, facts, (title, _) = checkpoint.domain, checkpoint.training, _TITLES[type(checkpoint.model_config)]
    parts = [f"# {title}: {domain.task}", _use(checkpoint), _EXAMPLE.format(name=checkpoint.name)]
    parts += ["## Data", _data(checkpoint), "## Training"]
    command, state, tuned = facts["command"], "", checkpoint.folder.resolve().parent == FOLDER
    if found := facts.get("recipe_file"):
        name, content = found["name"], found["content"]
        stages, here = len(content.get("stage", [{}])), recipe.is_shipped(name, content)
        if here or stages > 1:
            file = f"recipes/{name}" if here else name
            command = recipe.command_with_file(command, content, file, domain.task)
        state = f" of the last of {stages} stages" if stages > 1 else ""
        state += "" if here or stages == 1 else f" (`config.json` has the content of {name})"
        tuned |= here and _is_published(domain)
    parts.append(f"```\n{command}\n```")
    plain = isinstance(checkpoint.model_config, UNetConfig)
    values = [f"{name} {value}" for name, value in facts["recipe"].items() if not (plain and name in _DIFFUSION_ONLY)]
    values += ["loss soft Dice + beta x cross-entropy"] if plain else []
    took = f", {facts['cpu_minutes']:.0f} minutes of one CPU core" if facts.get("cpu_minutes") else ""
    parts.append(
        f"{facts['iterations_done']} iterations{state} on {facts['pictures']} images{took}. Recipe: {', '.join(values)}."
    )
    parts.append(_curve(curve, facts["iterations_done"], facts["recipe"].get("held", 0)))
    parts.append(_calibration(facts.get("calibration"), domain))
    if results:
        main = _main(results)
        held = facts["recipe"].get("held")
        chosen = (_HELD if held else _CHOSEN) if tuned else (_OWN_HELD if held else "")
        parts += [
            "## Results on all images"
            if (split := main["settings"]["split"]) == "all"
            else f"## Results on the {split} split",
            _table(results),
            *_reader_tables(results),
            f"Measured on the weights with sha256 {main['settings']['sha256'][:12]}, in {main['settings']['dtype']}."
            f"{chosen if main['settings']['split'] == 'val' else ''} Each row is one command:",
            "```\n" + "\n".join(_command(checkpoint, r["settings"]) for r in results) + "\n```",
            _other(domain) if any(r["settings"]["split"] == "other" for r in results) else "",
            f"Intervals are bootstrapped over {_over(main)}.{_MEMBERS if main['settings']['steps'] else ''}",
            f"Lowest Dice (a tenth of the cases){_row(main['settings'])}: {', '.join(main['worst'])}.",
        ]
    text = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{_metadata(checkpoint, results).to_yaml()}\n---\n\n{text}\n"))


def _calibration(fit: dict[str, Any] | None, domain: Domain) -> str:
    if fit is None:
        return ""
    rules = " and ".join(f"{value:.3f} with {_RULES[rule]}" for rule, value in fit["dice"].items())
    (before, after), (ece_before, ece_after) = fit["nll"], fit["ece"]
    distances = ", ".join(f"{value:.3f} at {weight}" for weight, value in fit.get("ged", {}).items())
    weighed = (
        f" GED² by anchor weight: {distances}, so it is {domain.anchor_weight:g} unless a run says otherwise."
        if distances
        else ""
    )
    if mirrors := fit.get("mirror", {}):
        scores = ", ".join(f"{value:.3f} with {_VIEWS[name]}" for name, value in mirrors.items())
        what = "GED²" if fit.get("mirror_by") == "ged" else "Dice"
        weighed += f" {what} by mirror images (F43): {scores}, so members see {_VIEWS[domain.mirror]}."
    return (
        f"By `python -m medsegdiff calibrate` on {fit['images']} training images held out, with {fit['members']} members of "
        f"{fit['steps']} steps: Dice {rules}, so members are fused by {_RULES[domain.fuse]} unless a run says otherwise. "
        f"Probabilities are read at temperature {fit['temperature']:g}, which takes the negative log-likelihood there from "
        f"{before:.4f} to {after:.4f} and the calibration error from {ece_before:.4f} to {ece_after:.4f}.{weighed}"
    )


def _other(domain: Domain) -> str:
    named = f": {source}" if _is_published(domain) and (source := TASKS[domain.task].other) else ""
    return f"`other` is another source of the same task{named}. Recipe and state were chosen without it."


def _is_published(domain: Domain) -> bool:
    """Return whether a checkpoint was trained on the published data of its task, not on one's own."""
    return domain.task in TASKS and domain.licence == TASKS[domain.task].licence


def _over(result: dict[str, Any]) -> str:
    """Return what the intervals of a result are over; older files do not record it."""
    return result.get("intervals_over", {}).get("what", "cases")


def _row(settings: dict[str, Any]) -> str:
    return f" with {settings['members']} members and {settings['steps']} steps" if settings["steps"] else ""


def _main(ordered: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result of the main setting, the first with members if there is one."""
    return next((result for result in ordered if not result["settings"]["anchor"]), ordered[0])


def _place(result: dict[str, Any], domain: Domain) -> tuple[float, ...]:
    """Return a sort key for the rows of a table: `val` before others, the anchor first in both, then the main setting.

    The main setting has most members, ten steps, the checkpoint's anchor weight, noise, mirror images and fusion rule.
    """
    settings = result["settings"]
    changed = len(_bypassed(settings)) + bool(settings.get("switches", {}).get("flatten_nbp"))
    return (
        settings["split"] in _DEFAULT_SPLITS,
        settings["anchor"],
        -changed,
        settings["members"],
        -abs(settings["steps"] - 10),
        -abs(settings.get("anchor_weight", 0.0) - domain.anchor_weight),
        -settings.get("eta", 0.0),
        settings.get("mirror", "none") == domain.mirror,
        settings.get("noise") == "stratified",
        settings["fuse"] == "anchored",
    )


def _use(checkpoint: Checkpoint) -> str:
    domain, size = checkpoint.domain, checkpoint.model_config.image_size
    field = (
        f" Only the central {domain.field:g} of each side is used; the target is expected there, and nothing is found outside."
        if domain.field < 1
        else ""
    )
    _, what = _TITLES[type(checkpoint.model_config)]
    parameters = sum(p.numel() for p in checkpoint.model.parameters()) / 1e6
    return (
        f"{what} with {parameters:.1f} M parameters.\n\n"
        f"- Input: {domain.modality}. Images are resized to {size} x {size} without keeping the aspect ratio; other sizes "
        f"work, but less well.{field}\n- Output: {', '.join(domain.labels)}, at the size of the input.\n\n"
        "**For research and teaching only. Not a medical device, not for diagnosis.** How well it works on other devices, "
        "populations or kinds of images than the data below is unknown."
    )


def _data(checkpoint: Checkpoint) -> str:
    domain, share = checkpoint.domain, checkpoint.training["recipe"]["phantoms"]
    drawn = f" {share:.0%} of the training images are synthetic (`medsegdiff/data/synthetic.py`)." if share else ""
    facts = checkpoint.training.get("split")
    split = (
        f" Split: {facts['train']} images for training, {facts['val']} for validation; {facts['rule']}."
        if facts
        else ""
    )
    return f"Source: {domain.source}. Licence of the data: {domain.licence}.{drawn}{split}"


def _curve(curve: list[dict[str, Any]], shipped: int, held: int = 0) -> str:
    """Return a markdown table of ten rows of a training curve, evenly spaced, and the row of the iteration shipped."""
    rows = [row for row in curve if "dice_steps_1" in row or "dice_mask" in row]
    if not rows:
        return ""
    places = {*np.linspace(0, len(rows) - 1, 10).astype(int)}
    places |= {i for i, row in enumerate(rows) if row["iteration"] == shipped}
    chosen = [rows[i] for i in sorted(places)]
    names = [name for name in ("dice_mask", "dice_anchor", "dice_steps_1", "dice_steps_10", "ged") if name in rows[0]]
    words = {"dice_mask": "Dice", "dice_anchor": "anchor", "dice_steps_1": "1 step", "dice_steps_10": "10 steps"}
    words["ged"] = "GED^2 of 8 members, 10 steps"
    lines = [f"| iteration | {' | '.join(words[n] for n in names)} |", "|---:|" + "---:|" * len(names)]
    lines += [f"| {row['iteration']} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |" for row in chosen]
    whose = "Dice" if "dice_mask" in names else "Dice of one member"
    where = "training images of patients held out" if held else "24 validation images"
    return f"{whose} on {where} during training:\n\n" + "\n".join(lines)


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
        if r["settings"]["split"] != "other" and r["mean_dice"] is not None
    ]
    name, link = _TERMS.get(domain.task, _OTHER_TERMS) if _is_published(domain) else _OTHER_TERMS
    terms: dict[str, Any] = {"license_name": name, "license_link": link} if licence == "other" else {}
    return ModelCardData(
        license=licence,
        **terms,
        library_name="medsegdiff",
        pipeline_tag="image-segmentation",
        tags=["medical", *([] if plain else ["diffusion"]), "segmentation", domain.task],
        model_name=checkpoint.name,
        eval_results=evaluations or None,
    )
