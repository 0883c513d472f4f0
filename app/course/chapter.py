"""Define a chapter and the content it shows for given values of its controls.

    values --see--> Seen: films, charts, numbers, and the facts that decide which tasks are done

Values map the field names of the controls to their values, `at` to the position on the timeline of the film, and `recorded`
to whether recordings take the place of what torch would compute. Facts are JSON types.

The chapters are listed, and recordings shown, without importing torch: what needs it is in `networks`, `oracles` and
`trainer`, which are imported where they are used.
"""

import ast
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.frames import Recording
from app.core.settings import Choice, Control, Flags, Number, Slide
from app.i18n import Words
from app.views.charts import Figure

if TYPE_CHECKING:
    from app.course.bench import Bench

__all__ = ["Chapter", "Equation", "Fact", "Faders", "Seen", "Symbol", "Task", "Values", "defaults", "read", "source"]

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Faders:
    """A row of numbers set with an equaliser, and the choice that also sets them to one of several presets."""

    field: str
    default: tuple[float, ...]
    low: float
    high: float
    choice: str  # the field of that choice
    presets: Mapping[str, tuple[float, ...]]  # by its options
    own: str  # the option that moving a fader selects


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation and its source."""

    latex: str
    place: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of the equations, and the parts of the page that show it.

    A part is the field of a control, or "tile FILM.VIEW", "fact N" or "chart ROW.COLUMN"; negative views count from the end.
    """

    mark: str  # HTML
    key: str  # of its meaning, course.CHAPTER.symbol_KEY
    parts: tuple[str, ...] = ()
    value: str = ""  # the control or fact with its current value; by default that of the first part


@dataclass(frozen=True, slots=True)
class Fact:
    """A labelled number to display."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The content of a chapter for given values of its controls."""

    films: tuple[Mapping[str, Any], ...] = ()  # values of `scrubber.film`; the first has the timeline of the chapter
    figures: tuple[Figure, ...] = ()
    numbers: tuple[Fact, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""  # shown above the last film
    recording: Recording | None = None  # the run of the first film, for the map of the network


@dataclass(frozen=True, slots=True)
class Task:
    """A task; it stays done once its condition has been met."""

    key: str  # of its text
    done: Callable[[Values, Mapping[str, Any]], bool]  # of values and facts


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter of the course."""

    key: str  # of its texts, and in links
    see: "Callable[[Bench, Values, Words], Seen]"
    controls: "tuple[Control | Faders, ...]"
    tasks: tuple[Task, ...]
    equations: tuple[Equation, ...]
    symbols: tuple[Symbol, ...] = field(default=(), kw_only=True)
    sources: tuple[str, ...]  # "module:name" of the code that implements it
    fidelity: tuple[str, ...]  # rows of docs/fidelity.md
    minutes: int
    answers: tuple[str, str]  # the right options of its questions
    prediction: str  # the right option of the question asked before the experiment
    log: tuple[str, ...] = ()  # controls and facts listed in the notebook
    kind: str = ""  # of the checkpoint it needs: "v1", "v2", or "" for none
    blocks: tuple[str, ...] = ()  # of `app.views.diagram`, that it is about
    panel: str = "steps"  # of `app.views.panels`, shown when recordings are replayed
    unrecorded: tuple[str, ...] = ()  # controls that are hidden when recordings are replayed


@cache
def source(spec: str) -> str:
    """Return the source code of "module:name" or "module:Class.method", without importing it."""
    module, _, path = spec.partition(":")
    package, *inner = module.split(".")
    (folder,) = import_module(package).__path__
    file = Path(folder, *inner)
    text = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text(encoding="utf-8")
    found: Any = ast.parse(text)
    for name in path.split("."):
        found = next(node for node in found.body if getattr(node, "name", None) == name)
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : found.end_lineno]))


def defaults(chapter: Chapter) -> dict[str, Any]:
    """Return the default values of the controls."""
    return {control.field: control.default for control in chapter.controls}


def read(control: "Control | Faders", text: str) -> Any:
    """Parse the value of a control from a link, clipped to its range; invalid text gives the default."""
    try:
        match control:
            case Faders(default=default, low=low, high=high):
                given = tuple(_clipped(float(part), low, high) for part in text.split(","))
                return given if len(given) == len(default) else default
            case Flags(choices=choices):
                return [part for part in text.split(",") if part in choices]
            case Choice(choices=choices, default=default):
                return next((choice for choice in choices if str(choice) == text), default)
            case Slide(low=low, high=high, step=step):
                value = low + round((min(max(float(text), low), high) - low) / step) * step
                return int(value) if isinstance(step, int) and isinstance(low, int) else round(value, 6)
            case Number(low=low, high=high, step=step):
                kind = int if step == 1 else float
                return kind(_clipped(kind(text), low, high))
    except (ValueError, OverflowError):
        return control.default


def _clipped(value: float, low: float, high: float) -> float:
    if math.isnan(value):
        raise ValueError("not a number")
    return min(max(value, low), high)
