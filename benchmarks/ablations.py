"""Train networks without one component at a time, with several seeds on equal budgets, and tabulate the differences.

    python -m benchmarks.ablations skin-lesion --data DATA/skin-lesion --minutes 30 --size 128

A task with several readers is scored by GED^2 instead of Dice, and trained with the recipe of its checkpoints (`of_readers`).
Two variants change the objective instead: they predict the noise of masks of scale 1 as in the papers (alpha 5, beta 10),
where ours predict x_0 of masks of scale 0.2, V2's condition network alone at first.

OUT/TASK/VARIANT-SIZE[-seedN].json and RUNS as in `benchmarks.compare`, resumable in the same way. Differences to the full network
are per seed, with their standard error over seeds; three seeds can only distinguish a large effect from none. The budget is CPU
time, so a component has to be worth the time that it takes.
"""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.compare.__main__ import USUAL, Entry, hold, parser_of
from benchmarks.compare.baselines import Baseline, Ours, of_readers
from medsegdiff.config import PRESETS, V2Config
from medsegdiff.records import Switches

__all__ = ["VARIANTS", "main", "table"]

_WHOLE = Switches()
_V1 = {
    "v1": ("V1", _WHOLE),
    "v1-no-dynamic-encoding": ("V1 without dynamic encoding", Switches(dynamic_encoding=False)),
    "v1-no-ff-parser": ("V1 without FF-Parser", Switches(ff_parser=False)),
    "v1-neither": ("V1 without both", Switches(dynamic_encoding=False, ff_parser=False)),
}
_V2 = {
    "v2": ("V2", _WHOLE, "nbp"),
    "v2-no-anchor": ("V2 without anchor condition", Switches(anchor=False), "nbp"),
    "v2-no-ss-former": ("V2 without SS-Former", Switches(ss_former=False), "nbp"),
    "v2-no-nbp": ("V2 without NBP-Filter", Switches(nbp=False), "nbp"),
    "v2-sine": ("V2 with the sine of arXiv v1 for the NBP-Filter", _WHOLE, "sine"),
    "v2-naive": ("V2, naive: the affinity alone, unfiltered, no anchor", Switches(anchor=False, nbp=False), "nbp"),
}
_PAPERS = {"v1-papers": "V1 with the papers' objective", "v2-papers": "V2 with the papers' objective"}


def _v1(title: str, switches: Switches, size: int, classes: int, make: Callable[..., Baseline] = Ours) -> Baseline:
    return make("v1-tiny", size, classes, title, replace(PRESETS["v1-tiny"].model, switches=switches))


def _v2(
    title: str, switches: Switches, band: str, size: int, classes: int, make: Callable[..., Baseline] = Ours
) -> Baseline:
    model = PRESETS["v2-tiny"].model
    assert isinstance(model, V2Config)
    chosen = replace(model, switches=switches, band="sine" if band == "sine" else "nbp")
    return make("v2-tiny", size, classes, title, chosen)


def _gates(title: str, size: int, classes: int, make: Callable[..., Baseline] = Ours) -> Baseline:
    model = PRESETS["v2-tiny"].model
    assert isinstance(model, V2Config)
    return make("v2-tiny", size, classes, title, replace(model, gate="channel"))


def _papers(preset: str, title: str, size: int, classes: int, make: Callable[..., Baseline] = Ours) -> Baseline:
    return make(preset, size, classes, title, papers=True)


VARIANTS: dict[str, Callable[..., Baseline]] = {name: partial(_v1, *parts) for name, parts in _V1.items()}
VARIANTS |= {name: partial(_v2, *parts) for name, parts in _V2.items()}
VARIANTS["v2-gates"] = partial(_gates, "V2 with a gate for each channel")
VARIANTS |= {name: partial(_papers, f"{name[:2]}-tiny", title) for name, title in _PAPERS.items()}


def table(folder: Path, size: int) -> str:
    """Return a markdown table of all variants measured at a size, compared with their full network.

    Raises:
        ValueError: nothing has been measured.
    """
    measured = {name: _seeds(folder, f"{name}-{size}") for name in VARIANTS}
    readers = all("ged" in result for results in measured.values() for result in results.values())
    score, other = ("ged", "hm_iou") if readers else ("mean_dice", "ece")
    heads = "GED^2 | rise against the full model | HM-IoU" if readers else "Dice | loss against the full model | ECE"
    rows = [f"| variant | seeds | iterations | {heads} | parameters |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, results in measured.items():
        if not results:
            continue
        whole = measured[name[:2]]
        shared = sorted(results.keys() & whole.keys())
        lost = np.array([whole[seed][score] - results[seed][score] for seed in shared]) * (-1 if readers else 1)
        first, second = (np.array([result[key] for result in results.values()]) for key in (score, other))
        iterations = [result["settings"]["iterations"] for result in results.values()]
        facts = next(iter(results.values()))["settings"]
        loss = "" if name in ("v1", "v2") or not shared else _with_error(lost)
        rows.append(
            f"| {facts['title']} | {len(results)} | {np.mean(iterations):.0f} | {_with_error(first)} | {loss} "
            f"| {np.mean(second):.{3 if readers else 4}f} | {facts['parameters'] / 1e6:.1f} M |"
        )
    if len(rows) == 2:
        raise ValueError(f"{folder} holds no ablations at size {size}; measure some first, with --data")
    return "\n".join(rows)


def _seeds(folder: Path, name: str) -> dict[int, dict]:
    """Read the results of one variant, by seed."""
    paths = [path for path in (folder / f"{name}.json", *folder.glob(f"{name}-seed*.json")) if path.exists()]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {result["settings"]["seed"]: result for result in results}


def _with_error(values: np.ndarray) -> str:
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{values.mean():.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")


def main(words: list[str] | None = None) -> int:
    """Train, evaluate and tabulate; bad input gives one sentence on standard error and exit status 2."""
    parser = parser_of("python -m benchmarks.ablations", (__doc__ or "").partition("\n")[0], Path("ablations"))
    parser.add_argument("--variants", nargs="*", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, starting with --seed")
    parser.add_argument("--size", type=int, help="default 128, for lung-nodule 64")
    arguments = parser.parse_args(words)
    of_several = arguments.task in USUAL
    if arguments.size is None:
        arguments.size = 64 if of_several else 128

    def entries() -> list[Entry]:
        """Yield all variants for each seed in turn."""
        seeds, size = range(arguments.seed, arguments.seed + arguments.seeds), arguments.size
        makers = {name: partial(make, make=of_readers) if of_several else make for name, make in VARIANTS.items()}
        return [(f"{name}@{size}", makers[name], size, seed) for seed in seeds for name in arguments.variants]

    return hold(arguments, entries, lambda: table(arguments.out / arguments.task, arguments.size), "ablations")


if __name__ == "__main__":
    sys.exit(main())
