"""List the checkpoints that come with the package, and where the weights of the others are published.

    checkpoints/NAME/config.json, README.md     describe a checkpoint
    checkpoints/NAME/model.safetensors          its weights; a Space and a wheel have those of a few checkpoints only
    checkpoints/hub.json                        Hub repository, commit and digest of every published checkpoint, by `make hub`

Weights that are not here are downloaded from the published commit when they are first used, and must have the sha256 that
config.json states. This module imports no torch.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from medsegdiff.atomic import write_text

__all__ = [
    "CARD",
    "CONFIG",
    "FOLDER",
    "FORMER_NAMES",
    "INDEX",
    "WEIGHTS",
    "Published",
    "has_weights",
    "lfs_pointers",
    "names",
    "published",
    "write_index",
]

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
INDEX = "hub.json"

FORMER_NAMES = {"skin-lesion-v1-walks": "skin-lesion-v1-unrolled"}
"""Shipped checkpoints: former name, still accepted, and present name."""

_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024  # a pointer file is shorter


def _find() -> Path:
    """Return the folder of the checkpoints: inside the package where it was installed from a wheel, else beside it."""
    package = Path(__file__).resolve().parent
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


FOLDER = _find()


@dataclass(frozen=True, slots=True)
class Published:
    """Where a checkpoint was published: a repository of the Hub and one commit of it."""

    repository: str  # owner/name
    revision: str  # full commit hash, which cannot change
    sha256: str = ""  # of the weights at that commit; unknown in a file of an earlier version


def published() -> dict[str, Published]:
    """Read hub.json; empty if nothing was published."""
    path = FOLDER / INDEX
    if not path.is_file():
        return {}
    return {name: Published(**row) for name, row in json.loads(path.read_text(encoding="utf-8")).items()}


def write_index(rows: dict[str, Published]) -> None:
    """Write hub.json."""
    text = json.dumps({name: asdict(rows[name]) for name in sorted(rows)}, indent=2)
    write_text(FOLDER / INDEX, text + "\n")


def has_weights(folder: Path) -> bool:
    """Return whether a checkpoint folder holds its weights."""
    return (folder / WEIGHTS).is_file()


def names() -> list[str]:
    """Return the names of the checkpoints whose weights are here or published."""
    elsewhere = published()
    found = (path.parent for path in FOLDER.glob(f"[!.]*/{CONFIG}"))
    return sorted(one.name for one in found if has_weights(one) or one.name in elsewhere)


def lfs_pointers(paths: Iterable[Path]) -> list[Path]:
    """Return the files that are Git LFS pointers, as a clone without Git LFS leaves them in place of the real files."""
    found = []
    for path in paths:
        if path.is_file() and path.stat().st_size < _POINTER_BYTES:
            with path.open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    found.append(path)
    return found
