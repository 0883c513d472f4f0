"""Provide beartype for jaxtyping's import hook, without the annotations that it cannot check.

The hook decorates methods before their class exists, so `Self` cannot be resolved; and plain protocols do not support
instance checks. basedpyright checks both.
"""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

__all__ = ["typechecked"]

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # accept int for float, as type checkers do


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check all other annotated arguments and results on each call."""
    hints = function.__annotations__
    function.__annotations__ = {name: Any if _only_static(hint) else hint for name, hint in hints.items()}
    return _check(function)


def _only_static(hint: object) -> bool:
    return hint is Self or getattr(hint, "_is_protocol", False)
