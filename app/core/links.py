"""A link that restores the settings: query parameters in, choices out, and back. It never holds a picture.

    ?checkpoint=skin-lesion-v1&example=7&steps=20&members=3&tab=inside&hide=settings,upload

Only what differs from the page's own defaults is written. What a link asks for is held to the same limits as a hand on
the controls; what is unknown or out of range is left at its default, for a link lives longer than the page it was made on.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from app.core import catalogue
from app.core.settings import CONTROLS, Control, Flags, Slide, checked
from medsegdiff.aliases import CHECKPOINTS

__all__ = ["HIDEABLE", "Link", "parse", "write"]

HIDEABLE = ("settings", "upload", "checkpoint", "tabs")
"""What a teacher may hide from a class."""

ALIASES: dict[str, dict[str, str]] = {
    "parameter": {"room": "tab"},
    "tab": {"try": "run", "uncertainty": "ensemble", "compare": "comparison", "truth": "reference_mask"},
    "checkpoint": CHECKPOINTS,
    "hide": {"rooms": "tabs"},
}
"""Former names of parameters and of their values, which links made earlier may still hold."""

_MOST = 10**6  # seeds of drawn pictures


@dataclass(frozen=True, slots=True)
class Link:
    """What a link asks for."""

    values: tuple[Any, ...]  # of the controls, in the table's order
    checkpoint: str | None = None  # one that the page offers
    example: int | None = None  # seed of a drawn picture
    tab: str | None = None
    hide: tuple[str, ...] = ()


def parse(query: Mapping[str, str], checkpoints: Collection[str], tabs: Collection[str]) -> Link:
    """Read a link's query parameters."""
    values: list[Any] = [_value(control, query.get(control.field)) for control in CONTROLS]
    query = {ALIASES["parameter"].get(name, name): value for name, value in query.items()}
    checkpoint, tab = (ALIASES[name].get(query.get(name, ""), query.get(name)) for name in ("checkpoint", "tab"))
    example = query.get("example", "")
    hide = [ALIASES["hide"].get(name, name) for name in query.get("hide", "").split(",")]
    hide = [name for name in hide if name in HIDEABLE]
    return Link(
        tuple(values),
        checkpoint if checkpoint in checkpoints else None,
        int(example) if example.isdecimal() and int(example) < _MOST else None,
        tab if tab in tabs else None,
        tuple(dict.fromkeys(hide)),
    )


def _value(control: Control, text: str | None) -> Any:
    if text is None:
        return control.default
    given: Any = text
    if isinstance(control, Flags):
        given = [name for name in text.split(",") if name]
    elif not isinstance(control.default, str):
        with suppress(ValueError):
            given = float(text) if isinstance(control, Slide) else int(text)
    try:
        return checked(control, given)
    except ValueError:
        return control.default


def write(
    values: Sequence[Any],
    *,
    language: str,
    checkpoint: str | None = None,
    example: int | None = None,
    tab: str | None = None,
    hide: Sequence[str] = (),
) -> str:
    """Write a link's query, from "?" on; `parse` reads the same choices out of it again."""
    said: dict[str, Any] = {"lang": language}
    said |= {"checkpoint": checkpoint} if checkpoint else {}
    said |= {"example": example} if example not in (None, catalogue.EXAMPLES[0]) else {}
    for control, value in zip(CONTROLS, values, strict=True):
        given = checked(control, value)
        if given != control.default:
            said[control.field] = ",".join(given) if isinstance(given, list) else given
    said |= {"tab": tab} if tab not in (None, "run") else {}
    said |= {"hide": ",".join(hide)} if hide else {}
    return "?" + urlencode(said, safe=",")
