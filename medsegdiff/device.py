"""Where to compute, and in which precision: asked of the machine, not guessed from its name."""

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


def precision(device: torch.device) -> torch.dtype:
    """Return what multiplies fastest here: bfloat16 on GPUs that have it and on CPUs with AMX tiles, else float32.

    It depends on the hardware alone, never on a timing, so that a run can be repeated. AVX-512's bfloat16 does not count:
    oneDNN's convolutions were half as fast with it as in float32 (200 against 390 GFLOP/s, Sapphire Rapids without AMX).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32
