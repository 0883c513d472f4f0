"""The controls of a run: a row for each field of `RunSettings` that a visitor may turn, and the way back to the record.

A front end renders the table and hands the values on in its order; nothing here knows what a slider looks like. What the
page lets one choose is narrower than what the package can, because visitors share two cores; `read` holds to it whatever
a client sends. The package is imported by `read` alone: a page must not wait for torch to show a slider.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsegdiff.config import RunSettings

__all__ = ["CONTROLS", "Choice", "Control", "Flags", "Number", "Slide", "checked", "read"]


@dataclass(frozen=True, slots=True)
class Slide:
    """A number on a scale."""

    field: str
    default: float
    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number to type."""

    field: str
    default: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    field: str
    default: str | int
    choices: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Flags:
    """Any of several, all to begin with."""

    field: str
    choices: tuple[str, ...]

    @property
    def default(self) -> list[str]:
        """All of them."""
        return list(self.choices)


Control = Slide | Number | Choice | Flags

CONTROLS: tuple[Control, ...] = (
    Slide("members", 5, 1, 25, 1),
    Slide("steps", 10, 1, 50, 1),
    Number("seed", 0, 0, 2**31 - 1),
    Choice("sampler", "ddim", ("ddim", "ddpm", "dpm-solver++")),
    Slide("eta", 0.0, 0, 1, 0.1),
    Slide("anchor_weight", 0.0, 0, 1, 0.1),
    Choice("fuse", "staple", ("staple", "mean", "vote")),
    Choice("size", 0, (0, 128, 192, 256, 320, 384, 512)),
    Flags("switches", ("dynamic_encoding", "ff_parser", "anchor", "ss_former", "nbp")),
)


def read(values: Sequence[object], *, trace: bool = True) -> "RunSettings":
    """Build the record from the controls' values, in the table's order.

    Raises:
        ValueError: a value outside its control's range.
    """
    from medsegdiff.config import RunSettings
    from medsegdiff.records import Switches

    fields: dict[str, Any] = {
        control.field: checked(control, given) for control, given in zip(CONTROLS, values, strict=True)
    }
    on = fields.pop("switches")
    flags = next(c for c in CONTROLS if isinstance(c, Flags)).choices
    return RunSettings(switches=Switches(**{name: name in on for name in flags}), trace=trace, **fields)


def checked(control: Control, given: Any) -> Any:  # what a client sends may be anything
    """Hold a value to its control's limits.

    Raises:
        ValueError: it is outside them.
    """
    match control:
        case Choice(choices=choices) | Flags(choices=choices):
            chosen = given if isinstance(control, Flags) and isinstance(given, list) else [given]
            if any(one not in choices for one in chosen):
                raise ValueError(f"{control.field} is {given!r:.60}; choose from {', '.join(map(str, choices))}")
            return chosen if isinstance(control, Flags) else given
        case _:
            if not isinstance(given, int | float) or not control.low <= given <= control.high:
                raise ValueError(f"{control.field} is {given!r:.60}; choose {control.low} to {control.high}")
            whole = isinstance(control, Number) or control.step == 1
            if whole and given != int(given):
                raise ValueError(f"{control.field} is {given}; choose a whole number")
            return int(given) if whole else float(given)
