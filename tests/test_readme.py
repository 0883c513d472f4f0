"""The READMEs are correct: the code runs, links and commands exist, results are current."""

import json
import re
import subprocess
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from medsegdiff.data.synthetic import draw

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh.md")
PAGES = [*READMES, *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]

# A Python block under this comment is run in a folder that holds lesion.png; all share one namespace.
RUN = re.compile(r"<!-- run -->\n+```python\n(.*?)```", re.DOTALL)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_python_runs_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = draw("skin-lesion", seed=3).image
    Image.fromarray(image).save(tmp_path / "lesion.png")
    monkeypatch.chdir(tmp_path)
    [block] = RUN.findall(text("README.md"))
    namespace: dict = {}
    exec(compile(block, "README.md", "exec"), namespace)
    result = namespace["result"]
    np.testing.assert_array_equal(namespace["picture"].pixels, image)
    assert result.labels.shape == result.disagreement.shape == result.probability.shape[1:] == image.shape[:2]
    assert result.mask.mean() > 0.1  # the lesion of that seed covers more than half of the image


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    def heading(line: str) -> str:  # as GitHub makes an anchor of it
        return re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")

    missing = []
    for target in re.findall(r'\]\((?!https?:)([^)]+)|src="([^"]+)', text(page)):
        path, _, anchor = (target[0] or target[1]).partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists():
            missing.append(path)
        elif anchor and anchor not in map(heading, re.findall(r"^#.*", file.read_text("utf-8"), re.MULTILINE)):
            missing.append(f"{path}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str):
    makefile = (ROOT / "Makefile").read_text()
    wanted = set(re.findall(r"(?:`|^)make ([a-z-]+)\b", text(page), re.MULTILINE))
    assert {t for t in wanted if not re.search(rf"^{t}:", makefile, re.MULTILINE)} == set()


def test_make_results_measures_the_anchor_weight_of_the_checkpoint(tmp_path: Path):
    (tmp_path / "anchor.json").touch()
    variables = [f"{name}={value}" for name, value in {"PY": "echo", "VENV": tmp_path, "OUT": tmp_path}.items()]
    grid = ["CHECKPOINT=skin-lesion-v2", "DATA=data", "GRID=5x10 5x10-half"]
    make = ["make", "--silent", "-o", str(tmp_path / "dev.stamp"), "results", *variables, *grid]
    run = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    default, half = (line for line in run.stdout.splitlines() if "--steps" in line)
    assert "--anchor-weight" not in default  # as the page runs it
    assert "--anchor-weight 0.5" in half


@pytest.mark.parametrize("page", READMES)
def test_the_results_are_those_that_were_measured(page: str):
    def dice(path: str) -> str:
        found = [json.loads(file.read_text())["mean_dice"] for file in (ROOT / "results").glob(path)]
        return f"{fmean(found):.3f}" if found else ""

    rows = re.findall(r"^\| `([\w-]+)`[^|]*\|(.*)\|$", text(page), re.MULTILINE)
    assert len(rows) == 4
    for task, cells in rows:
        v1 = "skin-lesion-v1-unrolled" if task == "skin-lesion" else f"{task}-v1"
        measured = [f"{v1}/5x10", f"{task}-v2/5x10", f"{task}-v2/anchor", f"compare/{task}/unet-*"]
        assert [cell.strip() for cell in cells.split("|")] == [dice(f"{path}.json") for path in measured], task


@pytest.mark.parametrize("page", READMES)
def test_the_distances_to_the_readers_are_those_that_were_measured(page: str):
    folder = ROOT / "results" / "lung-nodule-v2"
    runs = [json.loads((folder / f"{run}.json").read_text()) for run in ("anchor", "16x1", "16x2", "16x10")]
    rows = re.findall(r"^\| [^`|]*(?:GED²|readers|阅片者)[^|]*\|(.*)\|$", text(page), re.MULTILINE)
    for name, cells in zip(("ged", "diversity", "dice_majority"), rows, strict=True):
        assert [float(cell) for cell in cells.split("|")] == [round(run[name], 2) for run in runs], name
