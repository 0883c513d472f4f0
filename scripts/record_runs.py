"""Records finished runs, so that the page has something true on its screen before any model loads.

    python -m scripts.record_runs            every shipped checkpoint on every drawn picture of the page
    python -m scripts.record_runs --hard 40  the drawn pictures on which each of them does worst, by rule and not by hand
    python -m scripts.record_runs --convert  no runs: the recordings there are, in the present format

Same weights, same recordings: the seed is fixed, and the phantoms are drawn by formula.
"""

import argparse
import json
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
_FIRST = 1000  # seed of the first phantom looked at: none that the page offers otherwise


def record(session: Session, name: str, seed: int, folder: Path) -> Path:
    """Run a checkpoint on a phantom with the page's own settings and keep the run as NAME-SEED.npz."""
    settings, image = read([control.default for control in CONTROLS]), phantom(seed, session.task(name))
    list(session.run(name, image, settings))  # the first is slower, and a recording says how long it took
    *_, finished = session.run(name, image, settings)
    assert isinstance(finished, RunOutput)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{seed}.npz"
    finished.recording.save(path)
    return path


def hardest(session: Session, name: str, seeds: Iterable[int]) -> dict[str, Any]:
    """Run a checkpoint on many phantoms with the page's own settings; return the worst by Dice, as JSON types."""
    settings = replace(read([control.default for control in CONTROLS]), trace=False)
    rows = []
    for seed in seeds:
        *_, finished = session.run(name, phantom(seed, session.task(name)), settings)
        assert isinstance(finished, RunOutput)
        rows.append({"seed": seed, "dice": round(mean(finished.recording.facts["dice"][0]), 4)})
    worst = sorted(rows, key=lambda row: row["dice"])[:_WORST]
    return {"sha256": session.card(name).sha256, "of": len(rows), "worst": worst}


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="FOLDER", help="record these instead of the shipped"
    )
    parser.add_argument(
        "--seed", action="append", type=int, default=[], help="of a phantom; by default those of the page"
    )
    parser.add_argument("--out", type=Path, default=catalogue.ROOT / "recordings", help="folder (default: %(default)s)")
    parser.add_argument(
        "--hard",
        type=int,
        metavar="COUNT",
        help="instead of recording, look for the worst of so many phantoms and add them to hard.json in the folder",
    )
    parser.add_argument("--convert", action="store_true", help="write the recordings in the folder again, without runs")
    arguments = parser.parse_args()
    if arguments.convert:
        for path in sorted(arguments.out.glob("*.npz")):
            Recording.load(path).save(path)
        return
    own = {Path(folder).resolve().name: folder for folder in arguments.checkpoint}
    session = Session(own or catalogue.shipped())
    if arguments.hard:
        path = arguments.out / "hard.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for name in session.sources:
            seeds = tqdm(range(_FIRST, _FIRST + arguments.hard), unit="run", desc=name)
            known[name] = hardest(session, name, seeds)
            path.write_text(json.dumps(known, indent=1), encoding="utf-8")
        return
    jobs = [(name, seed) for name in session.sources for seed in arguments.seed or catalogue.EXAMPLES]
    bar = tqdm(jobs, unit="run")
    for name, seed in bar:
        path = record(session, name, seed, arguments.out)
        bar.write(f"{path} {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
