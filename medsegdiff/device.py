"""Where to compute, and in which precision: asked of the machine, not guessed from its name."""

import time
from functools import cache
from typing import TypeVar

import torch
from torch import nn

__all__ = ["best_device", "channels_last", "precision"]

M = TypeVar("M", bound=nn.Module)


def best_device(wish: str = "auto") -> torch.device:
    """Choose CUDA where there is one, else the CPU; any other wish is taken literally.

    Raises:
        ValueError: a device was asked for that is not there.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wish)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {wish!r} was asked for, but torch sees no GPU here; use cpu or auto")
    return device


def channels_last(module: M) -> M:
    """Lay a module's filters out channels-last, which convolutions on CPUs and GPUs alike prefer."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks this overload


@cache
def precision(device: torch.device) -> torch.dtype:
    """Return what multiplies fastest here: bfloat16 or float32.

    CPUs differ: the same instruction set made bfloat16 convolutions twice as fast on one machine and half as fast on
    another, so a small convolution is timed once per process (some milliseconds).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    seconds = {dtype: _convolution_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.8 * seconds[torch.float32] else torch.float32


@torch.no_grad()
def _convolution_seconds(dtype: torch.dtype) -> float:
    layer = channels_last(nn.Conv2d(32, 32, 3, padding=1, dtype=dtype))
    x = torch.zeros(5, 32, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        layer(x)
        best = min(best, time.perf_counter() - began)
    return best
