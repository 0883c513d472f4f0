"""What may be chosen: checkpoints, drawn pictures, recorded runs. Data only; nothing is loaded.

Checkpoints are read off their config.json, so a page can name them and say what they were trained for before any weights
are touched. Pictures are phantoms, drawn from a seed; those with a recorded run open with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from app import paint
from app.frames import Recording

__all__ = ["EXAMPLES", "ROOT", "TASK", "Card", "card", "recording", "recordings", "shipped", "thumbnail"]

ROOT = Path(__file__).resolve().parent.parent
TASK = "skin-lesion"
EXAMPLES = (3, 7, 11)  # seeds of the phantoms on the page


@dataclass(frozen=True, slots=True)
class Card:
    """What a page says about a checkpoint."""

    kind: str  # "v1" or "v2"
    task: str
    modality: str
    labels: tuple[str, ...]
    source: str
    licence: str
    sha256: str
    parameters: int
    size: int  # trained at
    training: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self) | {"labels": list(self.labels)}

    @property
    def trained(self) -> bool:
        """Tell whether it was trained at all; an untrained one must say so on the screen."""
        return self.training.get("iterations_done", 1) != 0


def shipped() -> dict[str, str]:
    """Name and folder of each checkpoint that comes with the project, the second paper's first."""
    folders = sorted(ROOT.glob("checkpoints/[!.]*/config.json"), reverse=True)
    return {path.parent.name: str(path.parent) for path in folders}


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


@cache
def thumbnail(seed: int) -> str:
    """Show a phantom at the size of a stamp, as a data URI; its recorded run has it drawn already."""
    held = next((path for (_, drawn), path in recordings().items() if drawn == seed), None)
    if held:
        picture = recording(held).opening.picture
    else:
        from medsegdiff.data.synthetic import draw

        picture = draw(TASK, seed, 96).image
    return paint.data_uri(paint.fit(picture, (96, 96)))
