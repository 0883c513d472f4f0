"""The card that a ZeroGPU Space lends for as long as a function runs; anywhere else, nothing.

Such a Space runs the function in a process forked beside the card. What goes in and what comes out is pickled, and the
process that serves the page never has a card of its own.

References:
    https://huggingface.co/docs/hub/spaces-zerogpu
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import ParamSpec, TypeVar

__all__ = ["is_available", "on_gpu"]

P = ParamSpec("P")
R = TypeVar("R")


def is_available() -> bool:
    """Tell whether this is a ZeroGPU Space; it says so itself."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function or a generator of a module run beside the lent card."""
    return import_module("spaces").GPU(function)
