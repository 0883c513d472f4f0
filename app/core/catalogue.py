"""What may be chosen: checkpoints, drawn pictures, recorded runs. Data only; nothing is loaded.

Checkpoints are read off their config.json, so a page can name them and say what they were trained for before any weights
are touched. Pictures are phantoms, drawn from a seed; those with a recorded run open with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from app.core.frames import Recording
from app.inputs import sample_images
from app.views import paint

__all__ = [
    "EXAMPLES",
    "ROOT",
    "TASK",
    "Card",
    "Hard",
    "card",
    "hard",
    "measured",
    "recording",
    "recordings",
    "shipped",
    "thumbnail",
]

ROOT = Path(__file__).resolve().parents[2]
TASK = "skin-lesion"
EXAMPLES = (3, 7, 11)  # seeds of the phantoms on the page


@dataclass(frozen=True, slots=True)
class Card:
    """What a page says about a checkpoint."""

    kind: str  # "v1", "v2" or "unet", which does not denoise
    task: str
    modality: str
    labels: tuple[str, ...]
    source: str
    licence: str
    sha256: str
    parameters: int
    size: int  # trained at
    training: dict[str, Any]
    mean: tuple[float, ...] = ()  # of the training pictures, per channel in [-1, 1]
    std: tuple[float, ...] = ()
    name: str = ""  # of its folder

    def facts(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self) | {"labels": list(self.labels)}

    @property
    def trained(self) -> bool:
        """Tell whether it was trained at all; an untrained one must say so on the screen."""
        return self.training.get("iterations_done", 1) != 0


def shipped() -> dict[str, str]:
    """Name and folder of each checkpoint that comes with the project: the first task's first, V2 before V1."""
    folders = [path.parent for path in ROOT.glob("checkpoints/[!.]*/config.json")]
    folders.sort(key=lambda folder: (folder.name.startswith(f"{TASK}-"), folder.name), reverse=True)
    return {folder.name: str(folder) for folder in folders}


@cache
def card(folder: str) -> Card:
    """Read what a checkpoint says about itself."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    domain, weights, model = config["domain"], config["weights"], config["model"]
    return Card(
        config["kind"],
        domain["task"],
        domain["modality"],
        tuple(domain["labels"]),
        domain["source"],
        domain["licence"],
        weights["sha256"],
        weights["parameters"],
        model["image_size"],
        config["training"],
        tuple(domain["mean"]),
        tuple(domain["std"]),
        Path(folder).name,
    )


@cache
def recordings(folder: Path = ROOT / "recordings") -> Mapping[tuple[str, int], Path]:
    """Recorded runs by checkpoint and phantom: NAME-SEED.npz."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        name, _, seed = path.stem.rpartition("-")
        if seed.isdigit():
            found[name, int(seed)] = path
    return found


@cache
def recording(path: Path) -> Recording:
    """Read a recorded run once; recordings are never changed, so all visitors share it."""
    return Recording.load(path)


@dataclass(frozen=True, slots=True)
class Hard:
    """A drawn picture on which a checkpoint did badly, with the page's own settings."""

    seed: int
    dice: float


@cache
def hard(name: str, sha256: str, path: Path = ROOT / "recordings" / "hard.json") -> tuple[int, tuple[Hard, ...]]:
    """Find the drawn pictures on which these weights did worst: of how many, and those; (0, ()) where nobody looked."""
    known = json.loads(path.read_text(encoding="utf-8")).get(name) if path.is_file() else None
    if known is None or known["sha256"] != sha256:
        return 0, ()
    return known["of"], tuple(Hard(**row) for row in known["worst"])


@cache
def measured(name: str, sha256: str, folder: Path = ROOT / "results") -> tuple[float, int]:
    """Find the Dice of these weights on held-out pictures, with the page's own settings, and of how many; else (0, 0)."""
    home = shipped().get(name)
    paths = [path for path in (folder / name / "5x10.json", folder / name / "1x0.json") if path.is_file()]
    if home is None or card(home).sha256 != sha256 or not paths:
        return 0.0, 0
    told = json.loads(paths[0].read_text(encoding="utf-8"))
    return told["mean_dice"], max(scores["n"] for scores in told["per_class"].values())  # cases that have the class


@lru_cache(maxsize=256)
def thumbnail(seed: int, task: str = TASK) -> str:
    """Show an example at the size of a stamp, as a data URI; a phantom's recorded run has it drawn already."""
    row = next((row for row in sample_images.sample_images(task) if row.number == seed), None)
    if row is not None:
        return paint.data_uri(paint.fit(sample_images.pixels(row, task), (96, 96)))
    held = (recording(path) for (_, drawn), path in recordings().items() if drawn == seed)
    picture = next((run.opening.picture for run in held if run.facts["task"] == task), None)
    if picture is None:
        from medsegdiff.data.synthetic import draw

        picture = draw(task, seed, 96).image
    return paint.data_uri(paint.fit(picture, (96, 96)))
