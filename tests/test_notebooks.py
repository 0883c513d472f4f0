"""The notebooks: current, passed by their solutions, and failed without a solution or with a wrong one.

All run in one Jupyter kernel, whose variables are removed between notebooks: a kernel for each would import torch ten times.
"""

import os
import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from app.course.chapters import CHAPTERS
from scripts import build_notebooks, record_course
from scripts.build_notebooks import LANGUAGES, SOURCES, mistakes, path_of, solved, unsolved

NAMES = [f"{i:02d}-{chapter.key}" for i, chapter in enumerate(CHAPTERS, 1)]


@pytest.mark.parametrize("script", [build_notebooks, record_course])
def test_help_writes_nothing(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["script", "--help"])
    with pytest.raises(SystemExit, match="0"):
        script.main()
    assert "usage:" in capsys.readouterr().out


def tagged(cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


@pytest.fixture(scope="module")
def kernel():
    """A function that runs some cells of a notebook and returns the index of the first that fails, with its error."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=120, kernel_name="python3")
    paths = os.pathsep.join([str(SOURCES.parents[1]), os.environ.get("PYTHONPATH", "")])
    with client.setup_kernel(env={**os.environ, "PYTHONPATH": paths}):

        def run(notebook, indices, *, fresh=False):
            if fresh:
                client.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("%reset -f")])
                client.execute_cell(client.nb.cells[0], 0)
            client.nb = notebook
            for i in indices:
                if notebook.cells[i].cell_type == "code":
                    try:
                        client.execute_cell(notebook.cells[i], i)
                    except CellExecutionError as error:
                        return i, error.ename
            return None, ""

        yield run


def test_every_chapter_has_a_notebook_that_its_source_builds():
    assert sorted(path.stem for path in SOURCES.glob("*.py")) == NAMES
    for name in NAMES:
        for language in LANGUAGES:
            source = SOURCES / f"{name}.py"
            text = path_of(source, language).read_text(encoding="utf-8")
            assert nbformat.reads(text, as_version=4) == unsolved(source, language), (
                f"run scripts.build_notebooks: {name}, {language}"
            )
            assert "SOLUTION" not in text
            assert "MISTAKE" not in text


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_code_and_every_text(name):
    english, chinese = (unsolved(SOURCES / f"{name}.py", language).cells for language in LANGUAGES)
    for one, other in zip(english, chinese, strict=True):
        assert one.cell_type == other.cell_type
        if one.cell_type == "code":
            assert one == other
            continue
        assert not re.search(r"[\u4e00-\u9fff]", one.source)
        assert re.search(r"[\u4e00-\u9fff]", other.source)
        for pattern in (r"(?m)^#+ ", r"\*\*(?:Exercise|练习) (\d+)\.\*\*", r"F\d+b?", r"(?s)\$\$.*?\$\$", r"`[^`]+`"):
            kept = [re.findall(pattern, cell.source) for cell in (one, other)]
            assert _comparable(kept[0]) == _comparable(kept[1]), f"{pattern} in {other.source[:40]}"


def _comparable(found: list[str]) -> list[str]:
    """Normalise blanks, text within formulas, and the link to the course."""
    words = [re.sub(r"\s|\\text\{[^}]*\}|&lang=zh", "", each) for each in found]
    return sorted(words)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_checks_pass_with_the_solutions_only(kernel, name):
    source = SOURCES / f"{name}.py"
    notebook, empty = solved(source), unsolved(source)
    checks = [i for i, cell in enumerate(notebook.cells) if tagged(cell, "check")]
    exercises = [i for i, cell in enumerate(notebook.cells) if tagged(cell, "exercise")]
    assert len(checks) == len(exercises) >= 3
    assert kernel(empty, range(len(empty.cells)), fresh=True) == (checks[0], "NotImplementedError")
    assert kernel(notebook, range(checks[0])) == (None, "")  # nothing to fail yet
    for exercise, check in zip(exercises, checks, strict=True):
        for _, wrong in [m for m in mistakes(source) if m[0] == exercise]:
            other = nbformat.v4.new_notebook(cells=list(notebook.cells))
            other.cells[exercise] = nbformat.v4.new_code_cell(wrong)
            failed, _ = kernel(other, [exercise, check])
            assert failed == check, f"the check passes, or the cell fails, with this mistake:\n{wrong}"
        following = next((e for e in exercises if e > check), len(notebook.cells))
        assert kernel(notebook, range(exercise, following)) == (None, "")
