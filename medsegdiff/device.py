"""Select the device and its precision by querying the hardware."""

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

__all__ = ["Arithmetic", "best_device", "channels_last", "compiled", "precision"]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What the last digits of a result depend on, besides weights, settings, precision and the version of torch.

    Convolutions are summed in another order for another number of samples per thread and other instructions, so a pixel at an
    edge may get another class. With all three equal, a run is repeated bit for bit.
    """

    device: str  # "cpu", "mps" or "cuda (name of the GPU)"
    threads: int  # that the members are divided among; 1 on a GPU
    instructions: str  # of the CPU, as torch names them: "AVX2", "AVX512" ...

    @classmethod
    def of(cls, device: torch.device, threads: int) -> "Arithmetic":
        """Describe runs on a device of this machine."""
        name = f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
        return cls(name, threads, torch.backends.cpu.get_cpu_capability())

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}, {threads}, {self.instructions}"


def best_device(wish: str = "auto") -> torch.device:
    """Return the device: for "auto" this process's GPU or Apple's MPS if there is one, else the CPU.

    Raises:
        ValueError: the requested device does not exist.
    """
    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise ValueError(f"device {wish!r} is unknown; use auto, cpu, cuda, cuda:1 ... or mps") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device {wish!r} cannot run this; use auto, cpu, cuda, cuda:1 ... or mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {wish!r} was asked for, but torch sees no GPU here; use cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(
            f"device {wish!r} was asked for, but there are {count} GPUs, counted from 0; use another or auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {wish!r} was asked for, but torch sees no MPS here (Apple silicon); use cpu or auto")
    return device


def channels_last(module: M) -> M:
    """Convert a module's weights to channels-last, which is faster for convolutions on CPUs and GPUs."""
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks this overload


def precision(device: torch.device) -> torch.dtype:
    """Return the fastest dtype: bfloat16 on GPUs that support it and on CPUs with AMX, else float32.

    The choice depends on the hardware only, so that runs are reproducible. AVX-512 bfloat16 without AMX is not used: with it
    oneDNN's convolutions ran at half the speed of float32 (200 against 390 GFLOP/s, Sapphire Rapids).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def compiled(module: M, backend: str = "inductor") -> M:
    """Compile `forward` with torch.compile at the first call of every shape; other methods are not compiled.

    CUDA graphs stay off: they reuse fixed memory, which is unsafe when several threads share a model.
    """
    return torch.compile(module, dynamic=False, backend=backend)  # pyright: ignore[reportReturnType]  has the same interface
