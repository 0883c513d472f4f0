"""Train baselines on a task, each for the same CPU time, evaluate them on its `val` split and write the table.

    python -m benchmarks.compare skin-lesion --data DATA/skin-lesion --minutes 60 --readme docs/results.md

OUT/TASK/BASELINE.json          results of `evaluate`, with facts about the network and its training
RUNS/TASK/BASELINE/             state and curve; running the command again continues

Finished baselines are not trained again. The table has all results of the task and those of the shipped checkpoints.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from benchmarks.compare.baselines import BASELINES, Baseline, named
from benchmarks.compare.entry import Terms, enter
from benchmarks.compare.report import equal, overview, table
from medsegdiff.commands.card import around, fill
from medsegdiff.config import PRESETS, VIEWS
from medsegdiff.data.tasks import TASKS
from medsegdiff.ensemble import FUSIONS

Entry = tuple[str, Callable[[int, int], Baseline], int, int]  # name, maker, size, seed

DEFAULT = ("unet@256", "unet@128", "condition@256", "lucidrains@128", "lucidrains@64")


@dataclass(frozen=True, slots=True)
class Usual:
    """Default options of a task."""

    baselines: tuple[str, ...] = DEFAULT
    members: int = 5
    field: float = 1.0
    fuse: str = "staple"


_OF_READERS = "unet unet-ce unet-dropout unet-five probabilistic stochastic lucidrains v2-readers"
USUAL = {
    # Nodules are a few pixels large: networks see the middle half of a crop, at its own resolution.
    "lung-nodule": Usual(tuple(f"{name}@64" for name in _OF_READERS.split()), members=16, field=0.5)
}


def parser_of(program: str, description: str, what: Path) -> argparse.ArgumentParser:
    """Return a parser with the options of all comparisons; results and runs have their own folders."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--data", type=Path, help="folder with train/ and val/; without it only the table is written")
    parser.add_argument("--minutes", type=float, default=60.0, help="CPU time for each, summed over threads")
    parser.add_argument("--members", type=int, help="masks sampled per image; default 5, for lung-nodule 16")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps, for diffusion models")
    parser.add_argument(
        "--phantoms",
        type=float,
        default=PRESETS["v2-tiny"].training.phantoms,
        help="share of synthetic images among the training images",
    )
    parser.add_argument("--cases", metavar="REGEX", help="pattern of the case in file names, as in evaluate")
    parser.add_argument(
        "--field", type=float, help="share of the image sides that networks see; default 1, for lung-nodule 0.5"
    )
    parser.add_argument("--fuse", choices=FUSIONS, help="how members are fused; default staple")
    parser.add_argument(
        "--mirror",
        choices=VIEWS,
        default="none",
        help="mirror images over which networks without sampling are averaged, as V2's anchor is",
    )
    parser.add_argument("--limit", type=int, default=0, help="evaluate only so many images, evenly spaced; 0 is all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every", type=float, default=4.0, help="minutes between saves, each with scores on validation images"
    )
    parser.add_argument("--out", type=Path, default="results" / what)
    parser.add_argument("--runs", type=Path, default="runs" / what)
    parser.add_argument("--readme", type=Path, help=f"write the table into this file's block `{what} TASK`")
    return parser


def main(words: list[str] | None = None) -> int:
    """Run the comparison; bad input gives one sentence on standard error and exit status 2."""
    parser = parser_of("python -m benchmarks.compare", (__doc__ or "").partition("\n")[0], Path("compare"))
    parser.add_argument(
        "--baselines", nargs="*", metavar="NAME@SIZE", help=f"as the task wants; NAME is one of {', '.join(BASELINES)}"
    )
    parser.add_argument(
        "--overview",
        type=Path,
        help="write the comparisons of V2 with plain U-Nets on every task into this file's blocks `compare` and `equal`",
    )
    arguments = parser.parse_args(words)

    def entries() -> list[Entry]:
        names = USUAL.get(arguments.task, Usual()).baselines if arguments.baselines is None else arguments.baselines
        return [(name, *named(name), arguments.seed) for name in names]

    def tabulated() -> str:
        return table(arguments.out / arguments.task, Path("results"), Path("checkpoints"), arguments.task)

    places = (arguments.out, Path("results"), Path("checkpoints"))
    blocks = (("compare", overview), ("equal", equal)) if arguments.overview else ()
    also = [(arguments.overview, block, partial(made, *places)) for block, made in blocks]
    return hold(arguments, entries, tabulated, "compare", also)


def hold(
    arguments: argparse.Namespace,
    entries: Callable[[], list[Entry]],
    tabulated: Callable[[], str],
    what: str,
    also: Sequence[tuple[Path, str, Callable[[], str]]] = (),
) -> int:
    """Train and evaluate every entry, then print the table and write it, and other tables, into blocks (file, name, table)."""
    usual = USUAL.get(arguments.task, Usual())
    for name in ("members", "field", "fuse"):
        if getattr(arguments, name) is None:
            setattr(arguments, name, getattr(usual, name))
    terms = Terms(**{field.name: getattr(arguments, field.name) for field in fields(Terms)})
    own = [(arguments.readme, f"{what} {arguments.task}", tabulated)] if arguments.readme else []
    try:
        for file, block, _ in [*own, *also]:
            around(file, block)  # a missing one fails before any training
        for name, make, size, seed in entries() if arguments.data else []:  # an unknown name fails before any training
            for line in enter(name, make, size, replace(terms, seed=seed)):
                print(line)
        print(tabulated())
        for file, block, made in [*own, *also]:
            fill(file, block, made())
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
