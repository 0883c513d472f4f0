"""The README keeps its word: its front matter is what a Space reads, its code runs, its links and commands exist."""

import re
import tomllib
from pathlib import Path

import gradio
import pytest
from huggingface_hub import metadata_load
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A Python block under this comment is run, from the root of the repository; all share one namespace.
RUN = re.compile(r"<!-- run -->\n+```python\n(.*?)```", re.DOTALL)
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_the_front_matter_is_one_that_a_space_accepts():
    space = metadata_load(ROOT / "README.md")
    assert space is not None
    assert space["sdk"] == "gradio"
    assert (ROOT / space["app_file"]).is_file()
    assert {space["colorFrom"], space["colorTo"]} <= COLOURS
    assert len(space["short_description"]) <= 60  # the Hub refuses longer ones
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert space["license"] == project["license"].lower()
    minor = tuple(map(int, space["python_version"].split(".")))
    assert minor >= (3, 11), f"the package {project['requires-python']}"


def test_the_space_the_requirements_and_this_installation_agree_on_gradio():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    [accepted] = [Requirement(line).specifier for line in lines if line.startswith("gradio")]
    assert metadata_load(ROOT / "README.md")["sdk_version"] in accepted
    assert gradio.__version__ in accepted


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    blocks = RUN.findall(README)
    if not blocks:
        pytest.skip("no block of the README is marked <!-- run -->")
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    wanted = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {t for t in wanted if not re.search(rf"^{t}:", makefile, re.MULTILINE)} == set()


def test_it_can_be_read_in_one_sitting():
    assert README.count("\n") < 200
