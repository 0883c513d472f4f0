"""Define the controls of a run, one for each field of `RunSettings` that the page offers, and validate their values.

A front end renders `CONTROLS` and passes the values to `read` in the same order. The ranges are narrower than those of the
package, because visitors share a small server; `read` enforces them for every client. Only `read` imports the package, so
the page can be built without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medsegdiff.config import RunSettings
from medsegdiff.errors import InputError
from medsegdiff.switches import Switches

__all__ = ["CONTROLS", "Choice", "Control", "Flags", "Number", "Slide", "checked", "read"]


@dataclass(frozen=True, slots=True)
class Slide:
    """A number chosen with a slider."""

    field: str
    default: float
    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True)
class Number:
    """A number entered as text, whole if the step is; where the default is None, it may be left out."""

    field: str
    default: int | None
    low: int
    high: int
    step: float = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several options."""

    field: str
    default: str | int
    choices: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Flags:
    """A set of options, all selected by default."""

    field: str
    choices: tuple[str, ...]

    @property
    def default(self) -> list[str]:
        """All options."""
        return list(self.choices)


Control = Slide | Number | Choice | Flags

CONTROLS: tuple[Control, ...] = (
    Slide("members", 5, 1, 25, 1),
    Slide("steps", 10, 1, 50, 1),
    Number("seed", 0, 0, 2**31 - 1),
    Choice("sampler", "ddim", ("ddim", "ddpm", "dpm-solver++")),
    Slide("eta", 0.0, 0, 1, 0.1),
    Number("anchor_weight", None, 0, 1, 0.05),  # None: as recorded in the checkpoint
    Choice("fuse", "auto", ("auto", "staple", "mean", "vote", "anchored")),
    Choice("mirror", "auto", ("auto", "none", "horizontal", "both")),
    Choice("size", 0, (0, 128, 192, 256, 320, 384, 512)),
    Flags("switches", ("dynamic_encoding", "ff_parser", "anchor", "ss_former", "nbp")),
)


def read(values: Sequence[object], *, trace: bool = True) -> RunSettings:
    """Build `RunSettings` from the values of the controls, in the order of `CONTROLS`.

    Raises:
        InputError: A value is outside the range of its control.
    """
    fields: dict[str, Any] = {
        control.field: checked(control, given) for control, given in zip(CONTROLS, values, strict=True)
    }
    on = fields.pop("switches")
    flags = next(c for c in CONTROLS if isinstance(c, Flags)).choices
    return RunSettings(switches=Switches(**{name: name in on for name in flags}), trace=trace, **fields)


def checked(control: Control, given: Any) -> Any:  # a client may send any type
    """Validate a value against the limits of its control.

    Raises:
        InputError: The value is outside the limits.
    """
    match control:
        case Choice(choices=choices) | Flags(choices=choices):
            chosen = given if isinstance(control, Flags) and isinstance(given, list) else [given]
            if any(one not in choices for one in chosen):
                raise InputError(
                    "setting.choice",
                    "{field} is {given}; choose from {choices}",
                    field=control.field,
                    given=f"{given!r:.60}",
                    choices=", ".join(map(str, choices)),
                )
            return chosen if isinstance(control, Flags) else given
        case Number(default=None) if given is None:
            return None
        case _:
            if not isinstance(given, int | float) or not control.low <= given <= control.high:
                raise InputError(
                    "setting.range",
                    "{field} is {given}; choose {low} to {high}",
                    field=control.field,
                    given=f"{given!r:.60}",
                    low=control.low,
                    high=control.high,
                )
            whole = control.step == 1
            if whole and given != int(given):
                raise InputError(
                    "setting.whole", "{field} is {given}; choose a whole number", field=control.field, given=given
                )
            return int(given) if whole else float(given)
