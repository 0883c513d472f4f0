"""Record finished runs, which the page shows before any model is loaded.

    python -m scripts.record_runs            every shipped checkpoint on every synthetic example of the page
    python -m scripts.record_runs --hard 40  find the phantoms on which each checkpoint has the lowest Dice
    python -m scripts.record_runs --convert  write the existing recordings again in the present format, without runs

The same weights give the same recordings, because seeds and phantoms are fixed.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from app.core import catalogue
from app.core.frames import Recording
from app.core.session import RunOutput, Session
from app.core.settings import CONTROLS, read
from app.inputs.images import phantom
from medsegdiff.metrics import mean

__all__ = ["hardest", "record"]

_WORST = 4  # shown on the page
_FIRST = 1000  # seed of the first phantom evaluated, above those of the examples


def record(session: Session, name: str, seed: int, folder: Path) -> Path:
    """Run a checkpoint on a phantom with the page's default settings, and save the run as NAME-SEED.npz."""
    settings, image = read([control.default for control in CONTROLS]), phantom(seed, session.task(name))
    list(session.run(name, image, settings))  # warm up, because the recording contains the time
    *_, finished = session.run(name, image, settings)
    assert isinstance(finished, RunOutput)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{seed}.npz"
    finished.recording.save(path)
    return path


def hardest(session: Session, name: str, seeds: Iterable[int]) -> dict[str, Any]:
    """Run a checkpoint on many phantoms with the page's default settings; return those with the lowest Dice, as JSON types."""
    settings = replace(read([control.default for control in CONTROLS]), trace=False)
    rows = []
    for seed in seeds:
        *_, finished = session.run(name, phantom(seed, session.task(name)), settings)
        assert isinstance(finished, RunOutput)
        rows.append({"seed": seed, "dice": round(mean(finished.recording.facts["dice"][0]), 4)})
    worst = sorted(rows, key=lambda row: row["dice"])[:_WORST]
    return {"sha256": session.card(name).sha256, "of": len(rows), "worst": worst}


def main(words: list[str] | None = None) -> int:
    """Parse the command line and record; a checkpoint that cannot be used is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="FOLDER", help="record these instead of the shipped"
    )
    parser.add_argument(
        "--seed", action="append", type=int, default=[], help="seed of a phantom (default: the examples of the page)"
    )
    parser.add_argument("--out", type=Path, default=catalogue.ROOT / "recordings", help="folder (default: %(default)s)")
    parser.add_argument(
        "--hard",
        type=int,
        metavar="COUNT",
        help="instead of recording, evaluate this many phantoms and add the hardest to hard.json in the folder",
    )
    parser.add_argument("--convert", action="store_true", help="write the recordings in the folder again, without runs")
    arguments = parser.parse_args(words)
    try:
        _record(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _record(arguments: argparse.Namespace) -> None:
    if arguments.convert:
        for path in sorted(arguments.out.glob("*.npz")):
            Recording.load(path).save(path)
        return
    given = {Path(folder).resolve() for folder in arguments.checkpoint}
    named = catalogue.with_own(arguments.checkpoint)
    own = {name: folder for name, folder in named.items() if Path(folder).resolve() in given}
    session = Session(own or catalogue.shipped())
    if arguments.hard:
        path = arguments.out / "hard.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for name in session.sources:
            seeds = tqdm(range(_FIRST, _FIRST + arguments.hard), unit="run", desc=name)
            known[name] = hardest(session, name, seeds)
            path.write_text(json.dumps(known, indent=1), encoding="utf-8")
        return
    jobs = [
        (name, seed) for name in session.sources for seed in arguments.seed or catalogue.examples(session.task(name))
    ]
    bar = tqdm(jobs, unit="run")
    for name, seed in bar:
        path = record(session, name, seed, arguments.out)
        bar.write(f"{path} {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
