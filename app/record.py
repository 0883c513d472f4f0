"""Records finished runs, so that the page has something true on its screen before any model loads.

    python -m app.record            every shipped checkpoint on every drawn picture of the page

Same weights, same recordings: the seed is fixed, and the phantoms are drawn by formula.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from app import catalogue
from app.session import Finished, Session, phantom
from app.settings import CONTROLS, read

__all__ = ["record"]


def record(session: Session, name: str, seed: int, folder: Path) -> Path:
    """Run a checkpoint on a phantom with the page's own settings and keep the run as NAME-SEED.npz."""
    settings = read([control.default for control in CONTROLS])
    list(session.run(name, phantom(seed), settings))  # the first is slower, and a recording says how long it took
    *_, finished = session.run(name, phantom(seed), settings)
    assert isinstance(finished, Finished)
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{seed}.npz"
    finished.recording.save(path)
    return path


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
    arguments = parser.parse_args()
    own = {Path(folder).resolve().name: folder for folder in arguments.checkpoint}
    session = Session(own or catalogue.shipped())
    jobs = [(name, seed) for name in session.sources for seed in arguments.seed or catalogue.EXAMPLES]
    bar = tqdm(jobs, unit="run")
    for name, seed in bar:
        path = record(session, name, seed, arguments.out)
        bar.write(f"{path} {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
