"""Measurement: interleaved rounds, medians with quartiles; memory and loading in a fresh process.

Baselines take turns within a round, so that slow changes of the machine affect all alike. The efficiency is

    share of the ceiling = FLOP of a step / its time / convolution throughput of the machine

with FLOP as counted by torch (two per multiply-add; convolutions and matrix products, not FFTs), and the throughput of
the fastest of a few 3 x 3 convolutions in the same precision and memory layout.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import quantiles
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines import BASELINES, Baseline
from medsegdiff.device import precision

__all__ = ["available", "ceiling", "compare", "flops", "fresh", "machine", "seconds", "spread"]

_SHAPES = ((64, 64), (128, 32), (256, 32))  # channels, side; 5 samples


def available(baseline: Baseline) -> bool:
    """Whether the packages of a baseline are installed."""
    return all(find_spec(package) for package in baseline.packages)


def machine(device: torch.device) -> dict[str, Any]:
    """Return a description of the machine."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "dtype": str(precision(device)).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    flags = str(torch.backends.cpu.get_cpu_capability())
    return f"{platform.machine()} processor, {flags}"


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, including its work on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def spread(samples: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, median, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    return {"median": median, "low": low, "high": high, "least": min(samples), "n": len(samples)}


def flops(call: Callable[[], object]) -> int:
    """Return the number of floating-point operations of a call on this thread."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@torch.no_grad()
def ceiling(device: torch.device) -> Callable[[], float]:
    """Return a function that samples the machine's convolution throughput in FLOP/s."""
    dtype = precision(device)
    calls: list[tuple[Callable[[], object], int]] = []
    for channels, side in _SHAPES:
        x = torch.randn(5, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)

        def call(x: torch.Tensor = x, w: torch.Tensor = w) -> torch.Tensor:
            return F.conv2d(x, w, padding=1)

        calls.append((call, flops(call)))

    @torch.no_grad()
    def rate() -> float:
        return max(work / min(seconds(call, device) for _ in range(5)) for call, work in calls)

    return rate


def compare(
    baselines: list[Baseline], device: torch.device, rounds: int, told: Callable[[str], None]
) -> dict[str, Any]:
    """Measure baselines in interleaved rounds: time per step, to the first output and to a finished mask."""
    told(f"loading {len(baselines)} baselines")
    loaded = [baseline.load(baseline, device) for baseline in baselines]
    work = [flops(one.work) for one in loaded]
    rate, rates = ceiling(device), []
    for one in loaded:
        one.step()  # warm-up
    samples: list[dict[str, list[float]]] = [{"step": [], "mask": [], "first": []} for _ in baselines]
    for i in range(rounds):
        told(f"round {i + 1} of {rounds}")
        rates.append(rate())
        for baseline, one, sample in zip(baselines, loaded, samples, strict=True):
            if baseline.heavy and i > 0:
                continue
            for name, call in (("step", one.step), ("mask", one.mask), ("first", one.first)):
                if call is not None:
                    sample[name].append(seconds(call, device))
    rows = []
    for baseline, one, sample, n in zip(baselines, loaded, samples, work, strict=True):
        step = spread(sample["step"])
        mask = spread(sample["mask"]) if sample["mask"] else {k: v * baseline.steps for k, v in step.items()}
        rows.append(
            {
                "name": baseline.name,
                "parameters": sum(p.numel() for p in one.network.parameters()),
                "size": baseline.size,
                "members": baseline.members,
                "steps": baseline.steps,
                "flop_of_a_step": n,
                "step_s": step,
                "mask_s": mask | {"n": len(sample["mask"]) or step["n"], "measured": bool(sample["mask"])},
                "first_s": spread(sample["first"]) if sample["first"] else None,
                "share": n / step["median"] / spread(rates)["median"],
            }
        )
    return {"ceiling_flop_per_s": spread(rates), "baselines": rows}


def fresh(*words: object) -> dict[str, float]:
    """Run a measurement in a fresh process (see `benchmarks.alone`)."""
    command = [sys.executable, "-m", "benchmarks.alone", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def baseline(name: str) -> Baseline:
    """Return a baseline by name."""
    return next(one for one in BASELINES if one.name == name)
