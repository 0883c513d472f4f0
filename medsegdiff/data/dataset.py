r"""A data set of one's own: its classes, its provenance, and its split into training and validation.

Beside images/ and masks/ (or train/ and val/) an optional dataset.toml holds any of these, which the options of `train` with
the same names override:

    labels = ["polyp"]                  # names of the classes 1..K
    name = "my_polyps"                  # of the task: letters, digits, spaces, _ . and -; default: name of the folder
    modality = "colonoscopy, RGB"
    source = "Endoscopy unit, 2024"     # who made the images, how to cite them
    licence = "internal use only"       # of the images, and what follows for the weights
    patient = "^(p\\d+)_"               # pattern of the patient in file names, first group
    mirror = "horizontal"               # flips that keep the anatomy: none, horizontal, or both; default: horizontal,
                                        # none where a class has a side in its name
    axis = 2                            # volumes: 0 sagittal, 1 coronal, 2 axial slices
    window = [-160, 240]                # grey values (CT: HU) shown as black and white; default: that of a published layout,
                                        # else the file's own window
    val-share = 0.2                     # flat folders: share of the images held out for validation
    split-seed = 0

A flat folder is split by patient, or by image where no pattern is given: patients in the order of sha256("SEED:PATIENT") are
held out until they have VAL-SHARE of the images. The result depends on the names, the seed and the share only. A checkpoint
records the hash of the last patient held out, so that images added to the folder later change no side, and hashes of some
patients trained on, by which `evaluate` recognises the folder.
"""

import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from medsegdiff.config import TASK_NAME, Mirror
from medsegdiff.data.adaptors import intensity_of, provenance_of, task_of
from medsegdiff.data.folders import Case
from medsegdiff.data.tasks import TASKS, Task
from medsegdiff.image_ref import Intensity

__all__ = ["FILE", "KEYS", "MIRRORS", "Dataset", "Split", "describe", "hashed"]

FILE = "dataset.toml"
KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "labels": list,
    "modality": str,
    "source": str,
    "licence": str,
    "patient": str,
    "mirror": str,
    "axis": int,
    "window": list,
    "val-share": (int, float),
    "split-seed": int,
}
"""Keys of dataset.toml and their types."""

MIRRORS: dict[Mirror, tuple[int, ...]] = {"none": (), "horizontal": (1,), "both": (0, 1)}
_UNKNOWN = "not stated"
_SIDED = re.compile(
    r"(?<![A-Za-z])(?i:left|right)(?![a-z])|(?<=[a-z])(?:Left|Right)(?![a-z])|(?<![^\W_])[LRlr](?![^\W_])|[左右]"
)
"""A side in the name of a class: "left kidney", "kidney_left", "LeftLung", "lung_L", "左肾"."""
_SIGNS = 64  # patients trained on whose hashes are recorded


@dataclass(frozen=True, slots=True)
class Split:
    """The rule by which a flat folder is split."""

    share: float = 0.2  # of the images, held out for validation
    seed: int = 0
    patient: str = ""  # pattern of the patient in file names, first group; empty: every image is a patient
    last: str = ""  # hash of the last patient held out, which then decides instead of the share
    trained: tuple[str, ...] = ()  # hashes of some patients trained on

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"val-share is {self.share:g}; the share of images for validation is above 0 and below 1")
        pattern(self.patient)

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> "Split | None":
        """Return the rule that a checkpoint's training recorded, if its folder was flat."""
        found = facts.get("split")
        if not isinstance(found, dict):
            return None
        known: dict[str, Any] = {field.name: found[field.name] for field in fields(cls) if field.name in found}
        known["trained"] = tuple(known.get("trained", ()))
        return cls(**known)

    def of(self, found: Sequence[Case], split: str) -> list[Case]:
        """Return the cases of `train`, `val` or `all`.

        Raises:
            ValueError: there is no such split, or as `fixed`.
        """
        if split not in ("train", "val", "all"):
            raise ValueError(
                f"there is no split {split!r} of a folder that is split by a rule; choose train, val or all"
            )
        if split == "all":
            return list(found)
        last = self.last or self.fixed(found).last
        return [case for case in found if (self._rank(case.name) <= last) == (split == "val")]

    def fixed(self, found: Sequence[Case]) -> "Split":
        """Return the rule with the last patient held out of these cases, unless it has one already.

        Raises:
            ValueError: there are fewer than two patients, or a name does not match the pattern.
        """
        if self.last:
            return self
        images = Counter(self._rank(case.name) for case in found)
        if len(images) < 2:
            what = "patient" if self.patient else "image"
            raise ValueError(f"there is only one {what} to split into training and validation; add others")
        *ranks, _ = sorted(images)  # one patient at least is trained on
        held = accumulate(images[rank] for rank in ranks)
        enough = next((rank for rank, n in zip(ranks, held, strict=True) if n >= self.share * len(found)), ranks[-1])
        return replace(self, last=enough, trained=tuple(one for one in sorted(images) if one > enough)[:_SIGNS])

    def fits(self, found: Sequence[Case]) -> bool:
        """Whether some of these cases were trained on, as far as is recorded; otherwise they are other data."""
        named = (case.name for case in found if not self.patient or re.search(self.patient, case.name))
        return not self.trained or not {self._rank(name) for name in named}.isdisjoint(self.trained)

    def _rank(self, name: str) -> str:
        return hashed(patient_of(name, self.patient), self.seed)

    def __str__(self) -> str:
        """State the rule."""
        what = f"patients ({self.patient})" if self.patient else "images"
        return f"{self.share:.0%} of the images held out, whole {what} in the order of sha256, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What training needs to know of a data folder."""

    name: str  # of the task, in the checkpoint
    task: Task
    own: bool  # classes given by the user, not those of a known task
    split: Split


def hashed(patient: str, seed: int = 0) -> str:
    """Return the hash of a patient, which orders patients at random and may be published."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()[:16]


def pattern(text: str) -> re.Pattern[str] | None:
    """Compile the pattern of a patient; None if it is empty.

    Raises:
        ValueError: it is no regular expression, or has no group.
    """
    try:
        found = re.compile(text) if text else None
    except re.error as error:
        raise ValueError(f"the pattern {text!r} is no regular expression ({error}); try one like '(p\\d+)'") from error
    if found is not None and not found.groups:
        raise ValueError(f"the pattern {text!r} has no group; put parentheses around the patient, as in '(p\\d+)'")
    return found


def patient_of(name: str, text: str) -> str:
    """Return the patient in a file name; the name itself without a pattern.

    Raises:
        ValueError: the name does not match the pattern.
    """
    if not text:
        return name
    found = re.search(text, name)
    if found is None or found[1] is None:
        raise ValueError(
            f"{name} does not match the pattern of the patient, {text!r}; give one that every name matches"
        )
    return found[1]


def describe(
    folder: Path, layout: str = "auto", task: str | None = None, given: Mapping[str, Any] | None = None
) -> Dataset:
    """Describe a data folder by its dataset.toml and by options.

    A known task (`tasks.TASKS`) is chosen by `task`, a published layout or the name of the folder. It fixes everything, except
    that its source and licence are recorded only for a folder of its name: a published layout has its own, and other data gets
    those given, else "not stated". With `labels` the data set is the user's own, and `task` only lends its augmentation.

    Arguments:
        folder: with the images.
        layout: as of `adaptors.cases`.
        task: a key of `tasks.TASKS`.
        given: keys of dataset.toml, with _ for -; None is not given.

    Raises:
        ValueError: there is no such folder, dataset.toml is damaged, a value is invalid, or the classes are not known.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder that exists; check the path")
    facts = _read(folder / FILE) | {key.replace("_", "-"): v for key, v in (given or {}).items() if v is not None}
    published, named = task_of(folder, layout), folder.resolve().name
    if task is not None and task not in TASKS and "labels" not in facts:
        raise ValueError(
            f"{task!r} is no known task; name one with --task: {', '.join(TASKS)}; or name the classes with --labels"
        )
    base = task or published or (named if named in TASKS else None)
    if "labels" not in facts and base is None:
        raise ValueError(
            f"{named!r} is no known task, so its classes are not known; name them, as in --labels polyp or in "
            f"{folder / FILE}, or choose a task with --task: {', '.join(TASKS)}"
        )
    provenance = {key: facts[key] for key in ("source", "licence", "modality") if key in facts}
    if "labels" in facts:
        known = _own(facts, TASKS.get(task or ""))
        known = replace(known, intensity=intensity_of(folder, layout) or known.intensity)
        name = _named(str(facts.get("name") or named), folder)
    else:
        known, name = TASKS[str(base)], str(base)
    if {"source", "licence"} & provenance.keys():
        known = replace(known, source=_UNKNOWN, licence=_UNKNOWN)
    elif (origin := provenance_of(folder, layout)) is not None:
        known = replace(known, source=origin[0] or _UNKNOWN, licence=origin[1] or _UNKNOWN)
    elif base != named:
        known = replace(known, source=_UNKNOWN, licence=_UNKNOWN)
    known = replace(known, **provenance, **{k: facts[k] for k in ("patient", "axis") if k in facts})
    if "mirror" in facts:
        if facts["mirror"] not in MIRRORS:
            raise ValueError(f"mirror is {facts['mirror']!r}; choose {', '.join(MIRRORS)}")
        known = replace(known, mirror=MIRRORS[facts["mirror"]])
    if "window" in facts:
        known = replace(known, intensity=Intensity(window=tuple(facts["window"])))
    if known.axis not in (0, 1, 2):
        raise ValueError(f"axis is {known.axis}; choose 0 (sagittal), 1 (coronal) or 2 (axial)")
    split = Split(float(facts.get("val-share", 0.2)), int(facts.get("split-seed", 0)), known.patient)
    return Dataset(name, known, "labels" in facts, split)


def _named(name: str, folder: Path) -> str:
    """Return the name of a task, which is that of its folder unless dataset.toml has another."""
    if not TASK_NAME.fullmatch(name):
        raise ValueError(
            f"the task is named {name!r:.60}, after its folder or by {FILE}, but a name has letters, digits, spaces, '_', '.' "
            f"and '-' only, not '.' first, at most 100; write another into {folder / FILE}, as in name = \"my_data\""
        )
    return name


def _own(facts: Mapping[str, Any], lent: Task | None) -> Task:
    """Return the user's own task; flips are horizontal, or none if a class has a side in its name."""
    labels = tuple(facts["labels"])
    if not labels or not all(isinstance(one, str) and one.strip() for one in labels):
        raise ValueError("labels must name every class but the background, at least one, as in --labels polyp")
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels {', '.join(labels)} name a class twice; give every class a name of its own")
    if lent is not None:
        return replace(lent, labels=labels, modality=_UNKNOWN, source=_UNKNOWN, licence=_UNKNOWN, patient="", case="")
    sided = any(_SIDED.search(label) for label in labels)
    return Task(modality=_UNKNOWN, labels=labels, source=_UNKNOWN, licence=_UNKNOWN, mirror=() if sided else (1,))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as TOML ({error}); correct or remove it") from error
    facts = {key.replace("_", "-"): value for key, value in facts.items()}
    for key, value in facts.items():
        if key not in KEYS:
            raise ValueError(f"{path} has the unknown key {key!r}; known are {', '.join(KEYS)}")
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise ValueError(f"{path}: {key} is {value!r:.60}; see docs/training.md for what it holds")
    if not all(isinstance(one, int | float) for one in facts.get("window", ())):
        raise ValueError(f"{path}: window is {facts['window']!r:.60}; give two numbers, as in window = [-160, 240]")
    return facts
