"""List the checkpoints, synthetic examples and recorded runs that a visitor can choose from.

Only metadata is read: a checkpoint is described by its config.json, so the page can show what it was trained for before
any weights are loaded. Synthetic examples are phantoms generated from a seed; a phantom with a recorded run opens with it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from app.core.frames import Recording
from app.inputs import sample_images
from app.views import paint
from medsegdiff.data.synthetic import TASKS, draw
from medsegdiff.data.tasks import axis_of, intensity_of
from medsegdiff.image_ref import FILE_WINDOW, Intensity
from medsegdiff.shipped import FOLDER, lfs_pointers, names

__all__ = [
    "OPENING_TASK",
    "ROOT",
    "TASK",
    "Card",
    "Hard",
    "card",
    "examples",
    "hard",
    "measured",
    "phantom_task",
    "recording",
    "recordings",
    "require_files",
    "shipped",
    "thumbnail",
    "with_own",
]

ROOT = Path(__file__).resolve().parents[2]
TASK = "skin-lesion"
OPENING_TASK = "lung-nodule"  # the task that the page opens with: its readers disagree, and so do the members
_EXAMPLES = (3, 7, 11)  # seeds of the phantoms on the page
_CHOSEN = {
    "lung-nodule": (15, 13, 38),  # two cores in a halo that some readers include; one reader marked nothing
    "skin-lesion": (7, 3, 11),  # where the members disagree most
    "brain-flair": (11, 3, 7),  # seed 3 has no tumour
    "chest-xray": (11, 3, 7),  # the best mask of the three
}
_WRITTEN = ("checkpoint", "best")  # folders in which `train` writes checkpoints, whatever the run


@dataclass(frozen=True, slots=True)
class Card:
    """Metadata of a checkpoint, as shown on the page."""

    kind: str  # "v1", "v2" or "unet" (a plain U-Net without denoising)
    task: str
    modality: str
    labels: tuple[str, ...]
    source: str
    licence: str
    sha256: str
    parameters: int
    size: int  # side of the training images, in pixels
    training: dict[str, Any]
    mean: tuple[float, ...] = ()  # of the training images, per channel in [-1, 1]
    std: tuple[float, ...] = ()
    name: str = ""  # of the checkpoint folder
    axis: int = 2  # across which volumes are sliced
    intensity: Intensity = FILE_WINDOW  # how grey values of more than 8 bits are windowed
    field: float = 1.0  # share of the image's sides, about the middle, that the network sees

    def facts(self) -> dict[str, Any]:
        """Return the metadata as JSON types."""
        return asdict(self) | {"labels": list(self.labels)}

    @property
    def trained(self) -> bool:
        """Whether the checkpoint has been trained; the page marks an untrained one."""
        return self.training.get("iterations_done", 1) != 0


def shipped() -> dict[str, str]:
    """Map the name of each shipped checkpoint to its folder: the page's first task, then the default task; V2 before V1."""
    folders = [FOLDER / name for name in names()]
    first = f"{OPENING_TASK}-", f"{TASK}-"
    folders.sort(key=lambda folder: (*map(folder.name.startswith, first), folder.name), reverse=True)
    return {folder.name: str(folder) for folder in folders}


def with_own(folders: Sequence[str]) -> dict[str, str]:
    """Map the names of one's own checkpoints, and of those shipped, to their folders; one's own come first.

    A checkpoint is named after its folder; one in a folder `checkpoint` or `best`, where training writes it, after the
    folder above. If the name is taken, names of folders above are put before it. Shipped checkpoints keep their names.

    Raises:
        ValueError: A folder has no config.json, or an invalid one.
    """
    known, own = shipped(), dict[str, str]()
    named = {Path(folder).resolve(): name for name, folder in known.items()}
    for folder in folders:
        _require_config(folder)
        path = Path(folder).resolve()
        if path not in named:
            named[path] = next((name for name in _names(path) if name not in known | own), str(path))
        own[named[path]] = folder
    return own | known


def _require_config(folder: str) -> None:
    from medsegdiff.checkpoint import read_config  # imports torch

    read_config(folder)


def _names(path: Path) -> Iterator[str]:
    """List the names that a checkpoint in this folder can have, the shortest first."""
    parts = path.parts[1:]
    yield (path.parent.name if path.name in _WRITTEN else "") or path.name
    yield from ("-".join(parts[-count:]) for count in range(2, len(parts) + 1))


def require_files() -> None:
    """Check that weights and recordings are files and not Git LFS pointers; without this the page would open and fail later.

    Raises:
        ValueError: some are pointers.
    """
    found = lfs_pointers([*FOLDER.glob("*/*.safetensors"), *(ROOT / "recordings").glob("*.npz")])
    if found:
        raise ValueError(
            f"{len(found)} files, for example {found[0]}, are Git LFS pointers and not the weights or recordings themselves; "
            "run `git lfs install && git lfs pull` in the repository"
        )


@cache
def card(folder: str) -> Card:
    """Read the metadata of a checkpoint from its config.json."""
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
        axis_of(domain["task"]) if domain.get("axis") is None else domain["axis"],
        Intensity.from_json(domain["intensity"]) if domain.get("intensity") else intensity_of(domain["task"]),
        domain.get("field", 1.0),
    )


@cache
def recordings(folder: Path = ROOT / "recordings") -> Mapping[tuple[str, int], Path]:
    """Map checkpoint name and phantom seed to the recorded run, a file NAME-SEED.npz."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        name, _, seed = path.stem.rpartition("-")
        if seed.isdigit():
            found[name, int(seed)] = path
    return found


@cache
def recording(path: Path) -> Recording:
    """Read a recorded run and cache it; recordings are immutable and shared by all visitors."""
    return Recording.load(path)


@dataclass(frozen=True, slots=True)
class Hard:
    """A phantom on which a checkpoint scores a low Dice with the page's default settings."""

    seed: int
    dice: float


@cache
def hard(name: str, sha256: str, path: Path = ROOT / "recordings" / "hard.json") -> tuple[int, tuple[Hard, ...]]:
    """List the phantoms with the lowest Dice for these weights.

    Returns:
        How many phantoms were evaluated, and the hardest of them; (0, ()) if these weights were not evaluated.
    """
    known = json.loads(path.read_text(encoding="utf-8")).get(name) if path.is_file() else None
    if known is None or known["sha256"] != sha256:
        return 0, ()
    return known["of"], tuple(Hard(**row) for row in known["worst"])


@cache
def measured(name: str, sha256: str, folder: Path = ROOT / "results") -> tuple[float, int]:
    """Read the Dice measured for these weights with the page's default settings.

    Returns:
        The mean Dice on the validation split, and the number of cases; (0, 0) if nothing was measured.
    """
    home = shipped().get(name)
    paths = [path for path in (folder / name / "5x10.json", folder / name / "1x0.json") if path.is_file()]
    if home is None or card(home).sha256 != sha256 or not paths:
        return 0.0, 0
    results = json.loads(paths[0].read_text(encoding="utf-8"))
    return results["mean_dice"], max(
        scores["n"] for scores in results["per_class"].values()
    )  # cases that have the class


def phantom_task(task: str) -> str:
    """Return the task whose phantoms are the examples of a task: its own, or the default task's if it has none."""
    return task if task in TASKS else TASK


def examples(task: str) -> tuple[int, ...]:
    """List the seeds of the examples of a task; the page opens with the first."""
    return _CHOSEN.get(task, _EXAMPLES)


@lru_cache(maxsize=256)
def thumbnail(seed: int, task: str = TASK) -> str:
    """Make the thumbnail of an example as a data URI, taken from its recorded run where there is one."""
    row = next((row for row in sample_images.sample_images(task) if row.number == seed), None)
    if row is not None:
        picture = sample_images.pixels(row, task)
        side = min(picture.shape[:2])  # of the square in the middle
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        return paint.data_uri(paint.fit(picture[top : top + side, left : left + side], (96, 96)))
    shown = [path for (name, drawn), path in recordings().items() if drawn == seed and name.startswith(task)]
    held = (recording(path) for path in shown)
    picture = next((run.opening.picture for run in held if run.facts["task"] == task), None)
    if picture is None:
        picture = draw(phantom_task(task), seed, 96).image
    return paint.data_uri(paint.fit(picture, (96, 96)))
