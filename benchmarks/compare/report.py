"""Tables of a comparison: all baselines and shipped checkpoints of a task, and V2 against a plain U-Net on all tasks.

Networks are compared by paired differences on the same cases, with bootstrap intervals over cases, so the difficulty of a
case does not widen the interval. A network trained with several seeds has one row with their mean, and its interval is
also over seeds; networks that share seeds are compared on those, which were run on the same day and machine.

For images marked by several readers the table is sorted by GED^2, and intervals are bootstrapped over patients.
"""

import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from medsegdiff.commands.card import distance
from medsegdiff.data.tasks import patients_of
from medsegdiff.evaluation import FEW
from medsegdiff.metrics import bootstrap_interval

__all__ = ["Paired", "equal", "overview", "paired_difference", "table"]

_OWN = {
    "5x10": "5 members, 10 steps",
    "5x10-staple": "5 members, 10 steps, STAPLE",
    "5x10-half": "5 members, 10 steps, STAPLE, anchor weight 0.5",
    "1x10": "1 member, 10 steps",
    "16x1": "16 members, 1 step",
    "16x10": "16 members, 10 steps",
    "16x25": "16 members, 25 steps",
    "anchor": "anchor only",
    "1x0": "single forward pass",
}
_OF_V2 = {
    "v2/5x10": "shipped V2",
    "v2/5x10-staple": "shipped V2, STAPLE",
    "v2-averaged": "retrained V2, anchor weight 0.5",
    "condition": "condition network alone",
}


@dataclass(frozen=True, slots=True)
class Paired:
    """The difference of two evaluations on the cases that both have."""

    names: list[str]  # of those cases
    first: float
    second: float
    difference: float
    low: float  # of the 95 % interval; nan if there are fewer than five patients
    high: float

    def text(self, digits: int, times: float = 1) -> str:
        """Format the difference with its interval, if it has one."""
        said, low, high = (f"{times * value:+.{digits}f}" for value in (self.difference, self.low, self.high))
        return said if math.isnan(self.low) else f"{said} ({low} to {high})"


def paired_difference(
    one: Mapping[str, Float[np.ndarray, " classes"]], other: Mapping[str, Float[np.ndarray, " classes"]], pattern: str
) -> Paired:
    """Compare a measure by case, a value for each class; the mean is over cases, then over classes.

    Arguments:
        one: values of the first evaluation, nan where they are not defined.
        other: those of the second, which are subtracted.
        pattern: of the patient in a case's name; the interval is bootstrapped over patients.
    """
    names = sorted(name for name in one.keys() & other.keys() if not np.isnan(one[name] - other[name]).all())
    if not names:
        return Paired([], *[math.nan] * 5)
    rows = [one[name] - other[name] for name in names]
    undefined = np.isnan(rows)
    first, second, difference = (
        float(np.nanmean(np.nanmean(np.where(undefined, np.nan, values), 0)))
        for values in ([one[name] for name in names], [other[name] for name in names], rows)
    )
    patients = [_patient(name, pattern) for name in names]
    enough = len(set(patients)) >= FEW
    interval = (
        bootstrap_interval([row.tolist() for row in rows], seed=0, groups=patients) if enough else (math.nan,) * 2
    )
    return Paired(names, first, second, difference, *interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    key: str  # baseline's name without its size, or v2/5x10
    what: str
    parameters: int
    iterations: int
    minutes: float | None  # of CPU time; not recorded for older checkpoints
    results: Sequence[dict[str, Any]]  # of `evaluate`, one per seed
    seeds: Sequence[int] = ()  # of the training, in the same order; unused for shipped checkpoints

    def on(self, seeds: set[int]) -> "_Entry":
        """Select these seeds, or all if none of them is present."""
        kept = [i for i, seed in enumerate(self.seeds) if seed in seeds] or range(len(self.results))
        return replace(self, results=[self.results[i] for i in kept])

    def of(self, name: str) -> list[float]:
        """Return the values of a key, one per seed."""
        return [result[name] for result in self.results]

    def mean(self, name: str) -> float:
        """Return the mean of a key over seeds."""
        return float(np.mean([math.nan if value is None else value for value in self.of(name)]))

    @property
    def dice(self) -> float:
        return self.mean("mean_dice")

    @property
    def cases(self) -> set[str]:
        """Names of the cases that all seeds were evaluated on."""
        return set.intersection(*({case["name"] for case in result["cases"]} for result in self.results))


def table(baselines: Path, results: Path, checkpoints: Path, task: str) -> str:
    """Return the markdown table of a task, from BASELINES/*.json and RESULTS/TASK-*/*.json, sorted by Dice.

    Raises:
        ValueError: there are no results for this task.
    """
    entries = _entries(baselines, results, checkpoints, task)
    if not entries:
        raise ValueError(f"{baselines} and {results}/{task}-* hold no results; measure something first, with --data")
    if any(_readers(entry) for entry in entries):
        return _reader_table([entry for entry in entries if "ged" in entry.results[0]], patients_of(task))
    plain = _plain(entries)
    heads = [
        "network",
        "parameters",
        "iterations",
        "CPU minutes",
        "Dice",
        "95 % interval",
        "minus plain U-Net, Dice points",
    ]
    heads += ["IoU", "HD95", "ECE", "regions found", "false regions", "painted though empty", "N"]
    rows = [_row(entry, plain) for entry in sorted(entries, key=lambda entry: -entry.dice)]
    return "\n".join([f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|", *rows])


def overview(compared: Path, results: Path, checkpoints: Path) -> str:
    """Return the markdown table of V2 minus the plain U-Net, in Dice points, for every task with a plain U-Net."""
    heads = ["task", "N", *_OF_V2.values(), "ECE: U-Net, then these four", "CPU minutes: U-Net, shipped V2"]
    rows: list[tuple[float, str]] = []
    for folder in sorted(path for path in compared.iterdir() if path.is_dir()):
        entries = _entries(folder, results, checkpoints, folder.name)
        plain = _plain(entries)
        if plain is None or _readers(plain):
            continue
        of = {entry.key: entry for entry in entries}
        ours = [of.get(key) for key in _OF_V2]
        shipped = _minutes(of["v2/5x10"]) if "v2/5x10" in of else ""
        cells = [folder.name, str(_n(plain)), *(_ahead(entry, plain) if entry else "" for entry in ours)]
        cells += [", ".join(f"{entry.mean('ece'):.4f}" if entry else "-" for entry in (plain, *ours))]
        cells += [f"{_minutes(plain)}, {shipped or 'not recorded'}"]
        best = max((entry.dice - plain.dice for entry in ours if entry), default=-math.inf)
        rows.append((best, f"| {' | '.join(cells)} |"))
    rows.sort(reverse=True)
    return "\n".join([f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|", *(line for _, line in rows)])


def equal(compared: Path, results: Path, checkpoints: Path) -> str:
    """Return the markdown table of the shipped V2 beside networks trained with its augmentation, by task and split."""
    heads = ["task", "split", "N", "U-Net: Dice", "condition network alone: Dice", "V2: Dice"]
    heads += [
        "V2 minus U-Net, points",
        "V2 minus condition network, points",
        "ECE of the three",
        "CPU minutes of the three",
    ]
    rows = []
    for folder in sorted(path for path in compared.iterdir() if path.is_dir()):
        for split in ("val", "other"):
            of = {entry.key: entry for entry in _entries(folder, results, checkpoints, folder.name, split)}
            trio = [of.get(key) for key in ("unet-strong", "pretrained", "v2/5x10")]
            unet, alone, ours = trio
            if not ours or not (unet or alone):
                continue
            cells = [folder.name, split, str(_n(ours)), *(f"{entry.dice:.3f}" if entry else "" for entry in trio)]
            cells += [_over_patients(ours, entry, patients_of(folder.name)) if entry else "" for entry in (unet, alone)]
            cells += [", ".join(f"{entry.mean('ece'):.4f}" if entry else "-" for entry in trio)]
            cells += [", ".join((entry and _minutes(entry)) or "-" for entry in trio)]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| {' | '.join(heads)} |", f"|---|---{'|---:' * (len(heads) - 2)}|", *rows])


def _entries(
    baselines: Path, results: Path, checkpoints: Path, task: str, split: Literal["val", "other"] = "val"
) -> list[_Entry]:
    return [*_baselines(baselines, split), *_own(results, checkpoints, task, "" if split == "val" else f"{split}-")]


def _baselines(folder: Path, split: str) -> Iterator[_Entry]:
    seeds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        result = _read(path)
        if result["settings"].get("split", "val") != split:
            continue
        seeds[result["settings"]["baseline"]].append(result)
    for baseline, results in seeds.items():
        results.sort(key=lambda result: result["settings"]["seed"])
        settings = [result["settings"] for result in results]
        facts = settings[0]
        drawn = f"; {facts['members']} members, {facts['steps']} steps" if facts["steps"] else ""
        one = f", seed {facts['seed']}" if facts["seed"] else ""
        yield _Entry(
            key=baseline.partition("@")[0],
            what=f"{facts['title']} at {facts['size']}{one if len(results) == 1 else f', {len(results)} seeds'}{drawn}",
            parameters=facts["parameters"],
            iterations=round(np.mean([each["iterations"] for each in settings])),
            minutes=float(np.mean([each["minutes"] for each in settings])),
            results=results,
            seeds=[each["seed"] for each in settings],
        )


def _own(results: Path, checkpoints: Path, task: str, prefix: str) -> Iterator[_Entry]:
    for config in sorted(checkpoints.glob(f"{task}-*/config.json")):
        facts, name = _read(config), config.parent.name
        if facts["domain"]["task"] != task:  # optic-disc-cup-v2 also starts with optic-disc
            continue
        for grid, words in _OWN.items():
            path = results / name / f"{prefix}{grid}.json"
            if path.exists():
                yield _Entry(
                    key=f"{name.removeprefix(f'{task}-')}/{grid}",
                    what=f"**`{name}`** as shipped, at {facts['model']['image_size']}; {words}",
                    parameters=facts["weights"]["parameters"],
                    iterations=facts["training"]["iterations_done"],
                    minutes=facts["training"].get("cpu_minutes"),
                    results=[_read(path)],
                )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(entries: Sequence[_Entry]) -> _Entry | None:
    """Return the best plain U-Net, if there is one."""
    return max((e for e in entries if e.key == "unet"), key=lambda entry: entry.dice, default=None)


def _ahead(entry: _Entry, plain: _Entry) -> str:
    """Format the difference of two networks in Dice points on the cases they share, with a 95 % interval."""
    seeds = set(entry.seeds) & set(plain.seeds)
    pair = entry.on(seeds), plain.on(seeds)
    shared = set.intersection(*(each.cases for each in pair))
    ours, theirs = (100 * _dice(each, shared) for each in pair)
    if not ours.size:
        return ""
    said = f"{_mean(ours) - _mean(theirs):+.1f}"
    if ours.shape[1] < FEW:
        return said
    low, high = _interval(ours, theirs)
    return f"{said} ({low:+.1f} to {high:+.1f})"


def _over_patients(entry: _Entry, other: _Entry, pattern: str) -> str:
    """Format the difference of two networks in Dice points on the cases they share, with a 95 % interval over patients."""
    paired = paired_difference(_class_dice(entry), _class_dice(other), pattern)
    return paired.text(1, 100) if paired.names else ""


def _class_dice(entry: _Entry) -> dict[str, Float[np.ndarray, " classes"]]:
    """Return the Dice of each class by case, the mean over seeds; nan where the ground truth lacks the class."""
    by_name: defaultdict[str, list[list[float | None]]] = defaultdict(list)
    for result in entry.results:
        for case in result["cases"]:
            by_name[case["name"]].append(case["dice"])
    return {name: np.array(rows, float).mean(0) for name, rows in by_name.items()}


def _dice(entry: _Entry, names: set[str]) -> Float[np.ndarray, "seeds cases classes"]:
    """Return the Dice of all cases whose ground truth has any class."""
    by_name = [{case["name"]: case["dice"] for case in result["cases"]} for result in entry.results]
    dice = np.array([[of[name] for name in sorted(names)] for of in by_name], float)
    return dice[:, ~np.isnan(dice).all((0, 2))] if dice.size else dice


def _mean(dice: Float[np.ndarray, "seeds cases classes"]) -> float:
    """Average over seeds, then cases, then classes."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a class may be absent from a resample
        return float(np.nanmean(np.nanmean(np.nanmean(dice, 0), 0)))


def _interval(
    ours: Float[np.ndarray, "seeds cases classes"], theirs: Float[np.ndarray, "_ cases classes"], resamples: int = 1000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the difference of means, over cases and the seeds of each."""
    generator = np.random.default_rng(0)

    def again(dice: np.ndarray, cases: np.ndarray) -> float:
        return _mean(dice[generator.integers(0, len(dice), len(dice))][:, cases])

    count = ours.shape[1]
    drawn = (generator.integers(0, count, count) for _ in range(resamples))
    low, high = np.quantile([again(ours, cases) - again(theirs, cases) for cases in drawn], [0.025, 0.975])
    return float(low), float(high)


def _readers(entry: _Entry) -> bool:
    """Return whether the images were marked by several readers."""
    return entry.results[0].get("settings", {}).get("readers", 1) > 1


def _reader_table(entries: Sequence[_Entry], patient: str) -> str:
    """Return the markdown table of multi-reader scores, sorted by GED^2, with paired differences between V2 and the others."""
    ours = next((e for key in ("v2-readers", "v2/16x10") for e in entries if e.key == key), None)
    heads = ["network", "parameters", "iterations", "CPU minutes", "members", "GED^2", "95 % interval", "HM-IoU"]
    heads += ["Dice to the majority", "ECE", "diversity"]
    if ours:
        heads += ["V2 minus this: GED^2", "HM-IoU", "Dice points"]
    rows = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for entry in sorted(entries, key=lambda entry: entry.mean("ged")):
        low, high = entry.results[0]["reader_intervals"]["ged"]
        cells = [entry.what, f"{entry.parameters / 1e6:.1f} M", str(entry.iterations), _minutes(entry)]
        cells += [str(entry.results[0]["members"]), f"{entry.mean('ged'):.3f}", f"{low:.3f} to {high:.3f}"]
        cells += [f"{entry.mean('hm_iou'):.3f}", f"{entry.mean('dice_majority'):.3f}"]
        cells += [f"{entry.mean('ece_share'):.4f}", f"{entry.mean('diversity'):.3f}"]
        if ours:
            measures = (("ged", 1, 3), ("hm_iou", 1, 3), ("dice_majority", 100, 1))
            cells += ["" if entry is ours else _paired(ours, entry, *measure, patient) for measure in measures]
        rows.append(f"| {' | '.join(cells)} |")
    pictures = entries[0].results[0]["pictures"]
    patients = {_patient(each["name"], patient) for each in pictures}
    ours_is = f"V2 is {ours.what}. " if ours else ""
    rows += [
        "",
        f"{ours_is}{len(pictures)} images of {len(patients)} patients; intervals are bootstrapped over patients. The "
        f"readers' own diversity is {entries[0].mean('reader_diversity'):.3f}.",
    ]
    return "\n".join(rows)


def _patient(name: str, pattern: str) -> str:
    """Return the patient in an image's name; the name itself where the pattern finds none."""
    found = re.search(pattern, name) if pattern else None
    return found[1] if found else name


def _paired(ours: _Entry, other: _Entry, measure: str, times: float, digits: int, patient: str) -> str:
    """Format the mean difference, ours minus other, over the images of both, with a 95 % interval over patients."""
    return paired_difference(_by_picture(ours, measure), _by_picture(other, measure), patient).text(digits, times)


def _by_picture(entry: _Entry, measure: str) -> dict[str, Float[np.ndarray, " _"]]:
    """Return the mean over seeds of a measure of every image; nan if it is not defined."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for result in entry.results:
        for each in result["pictures"]:
            found[each["name"]].append(math.nan if each[measure] is None else each[measure])
    return {name: np.array([np.mean(values)]) for name, values in found.items()}


def _row(entry: _Entry, plain: _Entry | None) -> str:
    first, *others = entry.results
    low, high = first.get("interval") or next(iter(first["per_class"].values()))["interval"]
    dice = f"{entry.dice:.3f}"
    if others:
        dice += f" ({', '.join(f'{of_seed:.3f}' for of_seed in entry.of('mean_dice'))})"
        cases = _dice(entry, entry.cases)
        low, high = _interval(cases, np.zeros_like(cases))
    interval = f"{low:.3f} to {high:.3f}" if _n(entry) >= FEW else ""
    ahead = _ahead(entry, plain) if plain and entry is not plain else ""
    return (
        f"| {entry.what} | {entry.parameters / 1e6:.1f} M | {entry.iterations} | {_minutes(entry)} "
        f"| {dice} | {interval} | {ahead} | {entry.mean('mean_iou'):.3f} "
        f"| {distance(entry.mean('mean_hd95'), first['hd95_unit'])} | {entry.mean('ece'):.4f} "
        f"| {_detection(first)} | {_n(entry)} |"
    )


def _detection(result: dict[str, Any]) -> str:
    """Format regions found, false regions and cases painted though empty; results from before they were counted have none."""
    classes = result["per_class"].values()

    def total(key: str) -> int:
        return sum(scores.get(key, 0) for scores in classes)

    painted = f"{total('false_positives')} of {total('empty')}" if total("empty") else ""
    if not all("regions" in scores for scores in classes):
        return f" |  | {painted}"
    return f"{total('regions_found')} of {total('regions')} | {total('false_regions')} | {painted}"


def _minutes(entry: _Entry) -> str:
    return "" if entry.minutes is None else f"{entry.minutes:.0f}"


def _n(entry: _Entry) -> int:
    return max(scores["n"] for scores in entry.results[0]["per_class"].values())
