"""Measure simultaneous visitors: runs in threads that share a model, and the effect of batching their steps.

Batching helps if a step of 5 n samples takes less time than n steps of 5 samples, as on a GPU that is not fully used; on
a CPU five samples already fill the caches.
"""

import threading
import time
from statistics import quantiles
from typing import Any

import torch

from benchmarks.baselines import Loaded
from benchmarks.measure import seconds, spread

__all__ = ["batching", "simultaneous"]


def simultaneous(loaded: Loaded, visitors: int) -> dict[str, Any]:
    """Start `visitors` runs at the same time and return the latency of each."""
    assert loaded.mask is not None, "only our own baselines make masks"
    make = loaded.mask
    together, latencies = threading.Barrier(visitors + 1), []

    def visit() -> None:
        together.wait()
        began = time.perf_counter()
        make()
        latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=visit) for _ in range(visitors)]
    for thread in threads:
        thread.start()
    together.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    last = quantiles(latencies, n=20, method="inclusive")[-1] if visitors > 1 else latencies[0]
    return {
        "visitors": visitors,
        "latency_s": spread(latencies),
        "latency_95_s": last,
        "masks_per_s": visitors / whole,
        "threads": torch.get_num_threads(),
    }


def batching(loaded: dict[int, Loaded], device: torch.device, rounds: int) -> list[dict[str, float]]:
    """Return the time per sample of a step, for several numbers of samples."""
    samples: dict[int, list[float]] = {n: [] for n in loaded}
    for one in loaded.values():
        one.step()
    for _ in range(rounds):
        for n, one in loaded.items():
            samples[n].append(seconds(one.step, device) / n)
    return [{"samples": n} | spread(times) for n, times in samples.items()]
