"""Build the wheel, install it in an empty environment, run the README's example from it, and open the page.

python .ci/wheel.py [--index URL]     needs the packages build and twine; --index is where torch is installed from
python .ci/wheel.py --installed ENV   check an environment in which the wheel is installed already
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
PORT = 7899
NAMES = """
from importlib.util import find_spec
assert find_spec("medsegdiff_app") and find_spec("app") is None, "the wheel has a top-level package named app"
"""
IMAGE = """
from PIL import Image
from medsegdiff.data.synthetic import draw
Image.fromarray(draw("skin-lesion", seed=3).image).save("lesion.png")
"""


def main() -> None:
    """Build, install and check; the first command that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", help="package index for torch")
    parser.add_argument("--installed", type=Path, help="folder of an environment to check; nothing is built")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = arguments.installed or installed(folder, arguments.index)
        programs = environment.resolve() / ("Scripts" if sys.platform == "win32" else "bin")
        check(programs, folder)
    print("the wheel works")


def installed(folder: Path, index: str | None) -> Path:
    """Build the wheel, check its metadata, and install it with the application into an empty environment."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
    wheel, sdist = next(folder.glob("dist/*.whl")), next(folder.glob("dist/*.tar.gz"))
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    environment = folder / "env"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", TORCH, *(["--index-url", index] if index else []))
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[app]")
    return environment


def check(programs: Path, folder: Path) -> None:
    """Run the README's example, the command line and the page, from a folder that holds nothing of the repository."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"<!-- run -->\n+```python\n(.*?)```", readme, re.DOTALL)
    for code in (NAMES, IMAGE, example):
        run(programs / "python", "-c", code, cwd=folder)
    segment = ("segment", "lesion.png", "--checkpoint", "skin-lesion-v2", "--out", "masks", "--steps", "2")
    run(programs / "medsegdiff", *segment, cwd=folder)
    page = subprocess.Popen([programs / "medsegdiff-demo", "--port", str(PORT)], cwd=folder)
    try:
        for _ in range(240):
            if page.poll() is not None:
                sys.exit("medsegdiff-demo ended")
            try:
                with urlopen(f"http://127.0.0.1:{PORT}/", timeout=30) as reply:
                    if b"MedSegDiff" in reply.read():
                        return
            except URLError:
                time.sleep(0.5)
        sys.exit("medsegdiff-demo did not answer")
    finally:
        page.terminate()
        page.wait(30)


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a command; its failure is that of the whole."""
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


if __name__ == "__main__":
    main()
