"""Support ZeroGPU Spaces, which attach a GPU only while a decorated function runs.

The function runs in a forked process; its arguments and results are pickled, and the process that serves the page has no
GPU.

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
    """Return whether this process runs in a ZeroGPU Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def on_gpu(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a module-level function or generator to run with a GPU attached."""
    return import_module("spaces").GPU(function)
