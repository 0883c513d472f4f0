"""`python -m benchmarks.web`: compare one model in PyTorch, in onnxruntime and in a browser.

On one synthetic image, in turn: seconds to the anchor and to the mask in PyTorch (one thread and all), in onnxruntime (one
thread), and in onnxruntime-web in Chromium: WebAssembly with one thread and with several, WebGPU where the browser has a
device. Processor seconds sum all threads and hardly depend on what else the machine does. Then the bytes of a first visit.

With --data, images of the val split are segmented in the browser and in PyTorch (float32, one thread) from the same noise. The
Dice between the two masks, and of each with the reference mask, is over all foreground classes together.
"""

import argparse
import base64
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.measure import machine
from medsegdiff import RunSettings, Segmenter
from medsegdiff.data.synthetic import TASKS, draw
from medsegdiff.export import OnnxNetwork
from medsegdiff.image_ref import Picture
from medsegdiff.imaging import read
from medsegdiff.replay import agreement, decode_runs
from medsegdiff.runner import Runner

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = {"wasm-1": "WebAssembly, 1 thread", "wasm": "WebAssembly, threads", "auto": "WebGPU"}
_ENGINE = "const { Engine } = await import('/engine.js'); const engine = (globalThis.engine ??= new Engine());"
_LOAD = f"""async ([name, backend]) => {{ {_ENGINE}
    const {{ threads, backend: used }} = await engine.load(name, () => {{}}, backend); return [used, threads]; }}"""
_RUN = f"""async ([data, settings]) => {{ {_ENGINE}
    await engine.open(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)));
    let anchor = 0;
    const {{ report }} = await engine.run(settings, (event) => {{ if (event.kind === "start") anchor = event.seconds; }});
    return [anchor, report]; }}"""


def main() -> int:
    """Build the site if need be, measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.web", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="skin-lesion-v2")
    parser.add_argument(
        "--site", type=Path, default=ROOT / "web" / "dist", help="built by web/build.py if it is not there"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--data", type=Path, help="folder of the task's images and masks (train, val), to compare masks on val"
    )
    parser.add_argument("--limit", type=int, default=0, help="compare this many pictures of val, evenly spread; 0 all")
    parser.add_argument("--json", type=Path, help="write what was found")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no chromium or google-chrome on PATH; on Debian: apt install chromium", file=sys.stderr)
        return 2
    if not (arguments.site / "models" / arguments.checkpoint / "model.json").is_file():
        subprocess.run([sys.executable, ROOT / "web" / "build.py", "--out", arguments.site], check=True)
    found = measured(arguments, chromium)
    print(table(found))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(arguments: argparse.Namespace, chromium: str) -> dict[str, Any]:
    """Take all measurements."""
    from playwright.sync_api import sync_playwright

    settings = RunSettings(members=arguments.members, steps=arguments.steps)
    segmenter = Segmenter.from_pretrained(arguments.checkpoint, device="cpu")
    task, threads = segmenter.domain.task, torch.get_num_threads()
    onnx = Segmenter.from_pretrained(arguments.checkpoint, device="cpu")
    network = OnnxNetwork(arguments.site / "models" / arguments.checkpoint)
    onnx.model = Runner(network, torch.device("cpu"), torch.float32)
    one = Segmenter.from_pretrained(arguments.checkpoint, device="cpu")
    one.model = Runner(one.checkpoint.model, torch.device("cpu"), torch.float32)
    picture = Picture(draw(task if task in TASKS else "skin-lesion", seed=3).image)
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, "PNG")

    with sync_playwright() as playwright, served(arguments.site) as (address, sent):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = {name: opened(browser, address, arguments.checkpoint, backend) for backend, name in BACKENDS.items()}
        runs: dict[str, Callable[[], tuple[float, float]]] = {
            "PyTorch float32, 1 thread": lambda: in_python(one, picture, settings, 1),
            f"PyTorch, {threads} threads": lambda: in_python(segmenter, picture, settings, threads),
            "onnxruntime, 1 thread": lambda: in_python(onnx, picture, settings, 1),
        }
        for page in pages.values():
            if page is not None:
                runs[f"browser: {page[1]}"] = partial(in_browser, page[0], file.getvalue(), settings)
        seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
        for turn in range(arguments.rounds + 1):
            for name, run in runs.items():
                before = processor_seconds()
                anchor, mask = run()
                if turn:  # the first turn warms up
                    seconds[name].append((anchor, mask, processor_seconds() - before))
        found: dict[str, Any] = {
            "machine": machine(torch.device("cpu")),
            "checkpoint": arguments.checkpoint,
            "members": settings.members,
            "steps": settings.steps,
            "rounds": arguments.rounds,
            "seconds": {
                name: dict(
                    zip(("anchor", "mask", "processor"), map(statistics.median, zip(*rows, strict=True)), strict=True)
                )
                for name, rows in seconds.items()
            },
            "not_available": [name for name, page in pages.items() if page is None],
            "first_visit_bytes": first_visit(browser, address, sent, arguments.checkpoint),
        }
        page = pages[BACKENDS["wasm-1"]]
        if arguments.data and page is not None:
            found["val"] = compared(one, page[0], arguments, settings)
        browser.close()
    return found


@contextmanager
def served(site: Path) -> Iterator[tuple[str, list[int]]]:
    """Serve the site on this machine; the list grows by the bytes of every answer."""
    sys.path.insert(0, str(ROOT / "web"))
    from build import Handler, server  # pyright: ignore[reportMissingImports]  a script's folder, not a package

    sent: list[int] = []

    class Counted(Handler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            data = source.read()
            sent.append(len(data))
            outputfile.write(data)

    http = server(site, handler=Counted)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/", sent
    finally:
        http.shutdown()
        http.server_close()


def opened(browser: Any, address: str, checkpoint: str, backend: str) -> tuple[Any, str] | None:
    """Load the checkpoint in a page of its own; the page and its runtime, None without a device for WebGPU."""
    page = browser.new_context().new_page()
    page.set_default_timeout(300_000)
    page.goto(address + "licences.txt")
    used, threads = page.evaluate(_LOAD, [checkpoint, backend])
    if (used == "webgpu") != (backend == "auto"):
        return None
    return page, BACKENDS[backend] if used == "webgpu" else f"WebAssembly, {threads} thread{'s' * (threads > 1)}"


def in_python(segmenter: Segmenter, picture: Picture, settings: RunSettings, threads: int) -> tuple[float, float]:
    """Seconds to the anchor (or the encoded image) and to the mask."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    began = time.perf_counter()
    run = segmenter.run(picture, settings)
    next(run)
    anchor = time.perf_counter() - began
    for _ in run:
        pass
    torch.set_num_threads(before)
    return anchor, time.perf_counter() - began


def processor_seconds() -> float:
    """Sum the processor time of this process and of all that it started, the browser's among them."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def told(settings: RunSettings) -> dict[str, Any]:
    """Settings as the page's worker reads them."""
    return {**asdict(settings), "trace": False}


def in_browser(page: Any, data: bytes, settings: RunSettings) -> tuple[float, float]:
    """Seconds to the anchor and to the mask, as the worker measures them."""
    anchor, report = page.evaluate(_RUN, [base64.b64encode(data).decode(), told(settings)])
    return anchor, report["seconds"]


def first_visit(browser: Any, address: str, sent: list[int], checkpoint: str) -> int:
    """Count the bytes until the page is ready to run, in a browser that has never seen it."""
    page = browser.new_context().new_page()
    page.set_default_timeout(300_000)
    before = sum(sent)
    page.goto(f"{address}?model={checkpoint}&backend=wasm")
    page.wait_for_selector("#run:enabled")
    page.wait_for_timeout(1000)
    return sum(sent) - before


def compared(segmenter: Segmenter, page: Any, arguments: argparse.Namespace, settings: RunSettings) -> dict[str, Any]:
    """Run pictures of val in the browser and in PyTorch, in float32 from the same noise."""
    images = sorted(path for path in (arguments.data / "val" / "images").iterdir() if path.suffix in (".png", ".jpg"))
    if not images:
        raise ValueError(f"{arguments.data} holds no PNG or JPEG in val/images; give a task's folder")
    if arguments.limit:
        images = images[:: -(-len(images) // arguments.limit)]
    rows = []
    for path in tqdm(images, desc="comparing", unit="picture"):
        theirs = segmenter(read(path), settings)
        _, report = page.evaluate(_RUN, [base64.b64encode(path.read_bytes()).decode(), told(settings)])
        ours = decode_runs(report["mask"]["runs"], (theirs.ref.height, theirs.ref.width))
        reference = np.asarray(Image.open(next((arguments.data / "val" / "masks").glob(f"{path.stem}.*"))))
        rows.append(
            {
                "same_pixels": report["picture"]["sha256"] == theirs.ref.sha256,
                "same_mask": bool(np.array_equal(ours, theirs.labels)),
                "dice": agreement(ours, theirs.labels),
                "browser": agreement(ours, reference),
                "torch": agreement(theirs.labels, reference),
            }
        )
    mean = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
    return {"n": len(rows), "least_dice": min(row["dice"] for row in rows), **mean}


def table(found: dict[str, Any]) -> str:
    """Put what was found into words."""
    lines = [
        f"{found['checkpoint']}, {found['members']} members x {found['steps']} steps, medians over {found['rounds']} rounds",
        "",
        "| runtime | seconds to the anchor | seconds a mask | processor seconds a mask |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {row['anchor']:.2f} | {row['mask']:.2f} | {row['processor']:.2f} |"
            for name, row in found["seconds"].items()
        ),
        "",
        f"First visit, ready to run: {found['first_visit_bytes'] / 1e6:.1f} MB.",
    ]
    lines += [f"Not available here: {name}." for name in found["not_available"]]
    if val := found.get("val"):
        lines += [
            f"Browser against PyTorch float32 on {val['n']} images of val, same noise: mean Dice {val['dice']:.5f}, least "
            f"{val['least_dice']:.4f}, identical masks {val['same_mask']:.0%}, identical input pixels {val['same_pixels']:.0%}.",
            f"Dice over all foreground with the reference masks: browser {val['browser']:.4f}, PyTorch {val['torch']:.4f}.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
