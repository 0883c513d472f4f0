"""Measure the memory of fusing a large picture's members: python -m benchmarks.large_picture [--side 4096 --classes 13].

Networks are small beside this, so their maps are drawn at random. The peak is that of resident memory, above what the
process takes before; the result is held to the end.
"""

import argparse
import threading
import time

import psutil
import torch

from medsegdiff.ensemble import FUSIONS, fuse_resized
from medsegdiff.resize import Geometry

__all__ = ["main"]


def main() -> None:
    """Fuse once by every rule and print seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("side", 4096), ("classes", 13), ("members", 25), ("size", 256)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rules", nargs="+", default=list(FUSIONS), choices=list(FUSIONS))
    given = parser.parse_args()
    logits = torch.randn(given.members, given.classes + 1, given.size // 16, given.size // 16)
    smooth = torch.nn.functional.interpolate(logits, size=(given.size, given.size), mode="bilinear")
    maps, geometry = (4 * smooth).softmax(1), Geometry(given.side, given.side, given.size)
    for rule in given.rules:
        process, peak, done = psutil.Process(), 0, threading.Event()
        base = process.memory_info().rss

        def watch(done: threading.Event = done, process: psutil.Process = process) -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        kept = fuse_resized(maps, geometry, rule)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        print(
            f"{given.side} x {given.side}, {given.classes} classes, {given.members} members, {rule}: "
            f"{seconds:.0f} s, {(peak - base) / 2**20:.0f} MiB above {base / 2**20:.0f} MiB"
        )
        del kept


if __name__ == "__main__":
    main()
