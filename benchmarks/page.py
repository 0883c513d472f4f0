"""`python -m benchmarks.page`: measure the Gradio page in Chromium on this machine.

The page is started as a program. Every round opens it in a fresh browser profile and presses Run on the example it opens with:
seconds to the first contentful paint, until input is accepted, and from the click to the result; seconds of the run itself as
the page states them; bytes received, as sent, until input is accepted and during the run. The first visit is listed by itself:
the first checkpoint is being loaded.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import machine, spread

ROOT = Path(__file__).resolve().parents[1]
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
_COMPUTED = "document.getElementById('facts').textContent.includes('Computed just now')"  # a replay says "computed"
_WIDTHS = {"desktop": 1440, "phone": 390}


def main() -> int:
    """Measure, print what was found as JSON, and write it to a file if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="visits for each width of the window")
    parser.add_argument("--json", type=Path, help="write what was found")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no chromium or google-chrome on PATH; on Debian: apt install chromium", file=sys.stderr)
        return 2
    found = json.dumps(measured(chromium, arguments.rounds), indent=1)
    print(found)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(found + "\n", encoding="utf-8")
    return 0


def measured(chromium: str, rounds: int) -> dict[str, Any]:
    """Visit the page with each width, after a first visit that is listed by itself."""
    from playwright.sync_api import sync_playwright

    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        first = visit(browser, address, _WIDTHS["desktop"])
        visits = {name: [visit(browser, address, width) for _ in range(rounds)] for name, width in _WIDTHS.items()}
        version = browser.version
        browser.close()
    rows = {
        name: {key: spread([one[key] for one in several]) for key in several[0]} for name, several in visits.items()
    }
    return {"machine": machine(torch.device("cpu")), "chromium": version, "first visit": first, **rows}


@contextmanager
def served() -> Iterator[str]:
    """Start the page and yield its address."""
    command = [sys.executable, str(ROOT / "app.py"), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if opened := re.search(r"The page is open at (\S+)", line):
                    yield opened[1]
                    return
            raise ValueError("the page did not start; run `python app.py` to see why")
        finally:
            process.terminate()


def visit(browser: Any, address: str, width: int) -> dict[str, float]:
    """Open the page in a fresh profile and run the example it opens with."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="en-US")
    page, received = context.new_page(), [0]
    page.set_default_timeout(300_000)
    network = context.new_cdp_session(page)
    network.send("Network.enable")

    def add(event: dict[str, Any]) -> None:
        received[0] += event["encodedDataLength"]  # 0 for data: addresses

    network.on("Network.dataReceived", add)
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    ready, opening = time.perf_counter() - began, received[0]
    paint = page.evaluate(_PAINT)
    page.wait_for_timeout(1000)  # what a visitor takes at least; the film has begun to play
    before, began = received[0], time.perf_counter()
    page.locator("#run").click()
    page.wait_for_function(_COMPUTED)
    clicked = time.perf_counter() - began
    page.wait_for_timeout(3000)  # the browser states bytes of a stream late
    running = received[0] - before
    stated = re.search(r"([\d.]+) s\s+5 × 10", page.locator("#facts").inner_text())
    context.close()
    return {
        "first_contentful_paint_s": paint,
        "ready_s": ready,
        "click_to_result_s": clicked,
        "run_s": float(stated[1]) if stated else float("nan"),
        "opening_bytes": opening,
        "run_bytes": running,
    }


if __name__ == "__main__":
    sys.exit(main())
