"""beartype for jaxtyping's import hook, less what it cannot see from there.

The hook decorates methods one by one, before their class exists, so `Self` has no meaning yet; and a plain protocol has
no instances to test for. basedpyright checks both.
"""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, beartype

__all__ = ["typechecked"]

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers hold


def typechecked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check every other annotated argument and result on each call."""
    hints = function.__annotations__
    function.__annotations__ = {name: Any if _only_static(hint) else hint for name, hint in hints.items()}
    return _check(function)


def _only_static(hint: object) -> bool:
    return hint is Self or getattr(hint, "_is_protocol", False)
