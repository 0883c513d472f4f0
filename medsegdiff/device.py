"""Where to compute, and in which precision: asked of the machine, not guessed from its name."""

import os
from typing import TypeVar

import torch
from torch import nn

__all__ = ["best_device", "channels_last", "compiled", "precision"]

M = TypeVar("M", bound=nn.Module)


def best_device(wish: str = "auto") -> torch.device:
    """Choose CUDA where there is one, of several processes each its own, else the CPU; other wishes are taken literally.

    Raises:
        ValueError: a device was asked for that is not there.
    """
    if wish == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda")
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


def compiled(module: M, backend: str = "inductor") -> M:
    """Let torch.compile fuse what it can at the first call of every shape; `encode` and other methods stay as they are.

    Its CUDA graphs stay off: they replay into fixed memory, which runs that share a model from several threads would share too.
    """
    return torch.compile(module, dynamic=False, backend=backend)  # pyright: ignore[reportReturnType]  stands in for it
