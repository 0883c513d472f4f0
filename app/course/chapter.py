"""What a chapter is, and what it shows for one setting of its controls.

    values --see--> Seen: films, charts, numbers, and the facts that tasks are judged by

Values are those of the chapter's controls by field name, and `at`, the place on the film's time line (the server's only
knowledge of what the browser scrubs). Facts are plain JSON types.
"""

import importlib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.core.settings import Choice, Control, Flags, Number, Slide
from app.i18n import Words
from app.views.charts import Figure

if TYPE_CHECKING:
    from app.course.bench import Bench

__all__ = ["Chapter", "Equation", "Fact", "Faders", "Seen", "Task", "Values", "defaults", "read", "source"]

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Faders:
    """A row of numbers, drawn by hand."""

    field: str
    default: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Equation:
    """One equation and the place it has in a paper."""

    latex: str
    place: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One number for people."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a chapter shows."""

    films: tuple[Mapping[str, Any], ...] = ()  # as `scrubber.film` makes them; the first is the chapter's time line
    figures: tuple[Figure, ...] = ()
    numbers: tuple[Fact, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do; done once its condition has held."""

    key: str  # of its words
    done: Callable[[Values, Mapping[str, Any]], bool]  # of values and facts


@dataclass(frozen=True, slots=True)
class Chapter:
    """One row of the course."""

    key: str  # of its words, and in a link
    see: "Callable[[Bench, Values, Words], Seen]"
    controls: "tuple[Control | Faders, ...]"
    tasks: tuple[Task, ...]
    equations: tuple[Equation, ...]
    sources: tuple[str, ...]  # "module:name" of the lines that are it
    fidelity: tuple[str, ...]  # rows of docs/fidelity.md
    minutes: int
    log: tuple[str, ...] = ()  # controls and facts that a student's notebook keeps
    kind: str = ""  # of the checkpoint it needs: "v1", "v2", or none
    panel: str = "steps"  # of `app.views.panels`, what is replayed where nothing may be computed


def source(spec: str) -> str:
    """Read the lines of a function or class off the package itself: "module:name", or "module:Class.method"."""
    module, _, path = spec.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return textwrap.dedent(inspect.getsource(found)).rstrip()


def defaults(chapter: Chapter) -> dict[str, Any]:
    """What the controls stand at before anybody touches them."""
    return {control.field: control.default for control in chapter.controls}


def read(control: "Control | Faders", text: str) -> Any:
    """Read a control's value off a link, within what the control allows; what makes no sense is its default."""
    try:
        match control:
            case Faders(default=default, low=low, high=high):
                given = tuple(min(max(float(part), low), high) for part in text.split(","))
                return given if len(given) == len(default) else default
            case Flags(choices=choices):
                return [part for part in text.split(",") if part in choices]
            case Choice(choices=choices, default=default):
                return next((choice for choice in choices if str(choice) == text), default)
            case Slide(low=low, high=high, step=step):
                value = low + round((min(max(float(text), low), high) - low) / step) * step
                return int(value) if isinstance(step, int) and isinstance(low, int) else round(value, 6)
            case Number(low=low, high=high):
                return min(max(int(text), low), high)
    except (ValueError, OverflowError):
        return control.default
