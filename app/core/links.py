"""Read and write links that restore checkpoint, synthetic example, settings and tab. A link never contains an image.

    ?checkpoint=skin-lesion-v1&example=7&steps=20&members=3&tab=inside&hide=settings,upload

Only values that differ from the defaults are written. Values read from a link are subject to the same limits as the
controls; an unknown or invalid value is replaced by its default, so that links from other versions keep working.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from app.core.settings import CONTROLS, Choice, Control, Flags, checked
from medsegdiff.shipped import FORMER_NAMES

__all__ = ["HIDEABLE", "Link", "parse", "write"]

HIDEABLE = ("settings", "upload", "checkpoint", "tabs")
"""Parts of the page that a link can hide."""

ALIASES: dict[str, dict[str, str]] = {
    "parameter": {"room": "tab"},
    "tab": {"try": "run", "uncertainty": "ensemble", "compare": "comparison", "truth": "reference_mask"},
    "checkpoint": FORMER_NAMES,
    "hide": {"rooms": "tabs"},
}
"""Former names of parameters and values, accepted so that older links keep working."""

_MOST = 10**6  # upper bound of phantom seeds


@dataclass(frozen=True, slots=True)
class Link:
    """The choices stored in a link."""

    values: tuple[Any, ...]  # of the controls, in the order of `CONTROLS`
    checkpoint: str | None = None
    example: int | None = None  # phantom seed, or number of a sample image
    tab: str | None = None
    hide: tuple[str, ...] = ()


def parse(query: Mapping[str, str], checkpoints: Collection[str], tabs: Collection[str]) -> Link:
    """Parse the query parameters of a link."""
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
            given = int(text) if isinstance(control, Choice) or control.step == 1 else float(text)
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
    """Build the query string of a link, starting with "?"; `parse` is its inverse."""
    query: dict[str, Any] = {"lang": language}
    query |= {"checkpoint": checkpoint} if checkpoint else {}
    query |= {"example": example} if example is not None else {}
    for control, value in zip(CONTROLS, values, strict=True):
        given = checked(control, value)
        if given != control.default:
            query[control.field] = ",".join(given) if isinstance(given, list) else given
    query |= {"tab": tab} if tab not in (None, "run") else {}
    query |= {"hide": ",".join(hide)} if hide else {}
    return "?" + urlencode(query, safe=",")
