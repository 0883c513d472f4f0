"""Build the browser edition into a folder of static files, and serve it on this machine.

    python web/build.py                     web/dist: page, runtime, every shipped checkpoint as ONNX, synthetic examples
    python web/build.py --serve             the same, then http://127.0.0.1:8000

The page needs Node.js 20 or newer and the packages of package-lock.json (`npm ci`); checkpoints need the `export` extra. What
is up to date is not built again.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from filelock import FileLock  # torch brings it

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FIRST = "skin-lesion-v2"  # loaded when the page opens


def main() -> int:
    """Build, and serve if asked; what is missing is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(description="Build the browser edition of MedSegDiff.")
    parser.add_argument("--out", type=Path, default=HERE / "dist", help="folder for the site")
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="checkpoints to include; default all that are shipped"
    )
    parser.add_argument("--serve", action="store_true", help="serve the site on this machine")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        build(arguments.out, arguments.models)
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        print(f"web: {error}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.0f} MB")
    if arguments.serve:
        with server(arguments.out, arguments.port) as http:
            print(f"http://127.0.0.1:{http.server_address[1]}")
            try:
                http.serve_forever()
            except KeyboardInterrupt:
                print()
    return 0


def build(out: Path, models: Sequence[str] | None = None) -> None:
    """Write the whole site into a folder.

    Raises RuntimeError where Node.js or npm is missing or fails.
    """
    from medsegdiff.hub import shipped

    out.mkdir(parents=True, exist_ok=True)
    names = sorted(models or shipped(), key=lambda name: (name != FIRST, name))
    entries = [export_model(name, out) for name in names]
    bundle(out, entries)


def bundle(out: Path, entries: list[dict[str, Any]]) -> None:
    """Install the packages if need be, and bundle the page."""
    install()
    (out / "models.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    run("node", "build.mjs", str(out.resolve()))


def install() -> None:
    """Install the page's packages unless they are there; processes that come meanwhile wait.

    Raises RuntimeError where Node.js or npm is missing or fails.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise RuntimeError("Node.js 20 or newer and npm are needed; on Debian: apt install nodejs npm")
    installed, wanted = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    with FileLock(HERE / ".install.lock"):
        if not installed.is_file() or installed.stat().st_mtime < wanted.stat().st_mtime:
            run("npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit")


def run(*command: str) -> None:
    """Run a command in web/."""
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} failed:\n{(done.stderr or done.stdout).strip()[-2000:]}")


def export_model(name: str, out: Path) -> dict[str, Any]:
    """Export one checkpoint unless it is there, draw its examples, and say what the page lists it with."""
    from medsegdiff.checkpoint import load, read_config
    from medsegdiff.data.tasks import axis_of, intensity_of
    from medsegdiff.hub import resolve

    folder, target = resolve(name), out / "models" / name
    config = read_config(folder)
    digest = config["weights"].sha256
    described = target / "model.json"
    facts = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else None
    newest = max((ROOT / "medsegdiff" / file).stat().st_mtime for file in ("export.py", "nn/real_dft.py"))
    described_domain = json.loads(json.dumps(asdict(config["domain"])))
    same = facts is not None and facts["checkpoint"]["sha256"] == digest and facts["domain"] == described_domain
    if facts is None or not same or described.stat().st_mtime < newest:
        from medsegdiff.export import export

        facts = export(load(folder), target, float16=True)
    domain = facts["domain"]
    return {
        "name": name,
        "kind": facts["kind"],
        "task": domain["task"],
        "axis": axis_of(config["domain"]),
        "intensity": asdict(intensity_of(config["domain"])),
        "modality": domain["modality"],
        "labels": domain["labels"],
        "licence": domain["licence"],
        "sha256": digest,
        "bytes": sum(file["bytes"] for file in facts["files"].values()),
        "examples": examples(domain["task"], out),
    }


def examples(task: str, out: Path) -> list[dict[str, Any]]:
    """Draw the synthetic examples of a task, each with its correct mask; tasks without a phantom have none."""
    from PIL import Image

    from app.core import catalogue
    from medsegdiff.data.synthetic import TASKS, draw
    from medsegdiff.imaging import write_labels

    if task not in TASKS:
        return []
    found = []
    for seed in catalogue.examples(task):  # those of the Gradio page
        image, labels = (out / "examples" / f"{task}-{seed}{suffix}.png" for suffix in ("", "-mask"))
        if not image.is_file() or not labels.is_file():
            image.parent.mkdir(exist_ok=True)
            drawn = draw(task, seed=seed)
            Image.fromarray(drawn.image).save(image, optimize=True)
            write_labels(labels, drawn.labels)
        found.append({"task": task, "seed": seed, "image": f"examples/{image.name}", "mask": f"examples/{labels.name}"})
    return found


class Handler(SimpleHTTPRequestHandler):
    """Static files with the headers that threads in WebAssembly need."""

    extensions_map = {  # noqa: RUF012  the base class has it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        for name, value in (
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-cache"),
        ):
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep no log."""


def server(folder: Path, port: int = 0, handler: type[Handler] = Handler) -> ThreadingHTTPServer:
    """Return a server of a folder on this machine alone; port 0 is any free one."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(handler, directory=str(folder)))


if __name__ == "__main__":
    sys.exit(main())
