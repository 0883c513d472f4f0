"""A link that restores the settings: query parameters in, choices out, and back. It never holds a picture.

    ?checkpoint=skin-lesion-v1&example=7&steps=20&members=3&room=inside&hide=settings,upload

Only what differs from the page's own defaults is written. What a link asks for is held to the same limits as a hand on
the controls; what is unknown or out of range is left at its default, for a link lives longer than the page it was made on.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from app import catalogue
from app.settings import CONTROLS, Control, Flags, Slide, checked

__all__ = ["HIDEABLE", "Link", "parse", "write"]

HIDEABLE = ("settings", "upload", "checkpoint", "rooms")
"""What a teacher may hide from a class."""

_MOST = 10**6  # seeds of drawn pictures


@dataclass(frozen=True, slots=True)
class Link:
    """What a link asks for."""

    values: tuple[Any, ...]  # of the controls, in the table's order
    checkpoint: str | None = None  # one that the page offers
    example: int | None = None  # seed of a drawn picture
    room: str | None = None
    hide: tuple[str, ...] = ()


def parse(query: Mapping[str, str], checkpoints: Collection[str], rooms: Collection[str]) -> Link:
    """Read a link's query parameters."""
    values: list[Any] = [_value(control, query.get(control.field)) for control in CONTROLS]
    checkpoint, room, example = query.get("checkpoint"), query.get("room"), query.get("example", "")
    hide = [name for name in query.get("hide", "").split(",") if name in HIDEABLE]
    return Link(
        tuple(values),
        checkpoint if checkpoint in checkpoints else None,
        int(example) if example.isdecimal() and int(example) < _MOST else None,
        room if room in rooms else None,
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
    room: str | None = None,
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
    said |= {"room": room} if room not in (None, "try") else {}
    said |= {"hide": ",".join(hide)} if hide else {}
    return "?" + urlencode(said, safe=",")
