"""Build the notebooks of the course from their sources.

    python -m scripts.build_notebooks

A source, `scripts/notebooks/NAME.py`, is a notebook in the percent format with its solutions: run as a script it passes all
checks. Every text is followed by its Chinese version, a cell with `lang="zh"`; two notebooks are built, with the same code.
In the notebooks, every solution is replaced by an exception. Within a cell tagged `exercise`:

    ### BEGIN SOLUTION ... ### END SOLUTION      removed from the notebook, as in nbgrader
    ### MISTAKE right => wrong                   a wrong answer, for the tests: the check below must fail on it
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

__all__ = ["LANGUAGES", "NOTEBOOKS", "SOURCES", "main", "mistakes", "path_of", "solved", "unsolved"]

SOURCES = Path(__file__).parent / "notebooks"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LANGUAGES = ("en", "zh")
_SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION\n*", re.DOTALL | re.MULTILINE)
_MISTAKE = re.compile(r"^ *### MISTAKE (.*?) => (.*)\n?", re.MULTILINE)
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def path_of(source: Path, language: str) -> Path:
    """Return the file of a notebook: notebooks/NAME.ipynb in English, notebooks/zh/NAME.ipynb in Chinese."""
    return NOTEBOOKS / ("" if language == "en" else language) / f"{source.stem}.ipynb"


def solved(source: Path) -> NotebookNode:
    """Return the English notebook with its solutions."""
    return _changed(source, "en", lambda code: _SOLUTION.sub(r"\2\n", _MISTAKE.sub("", code)))


def unsolved(source: Path, language: str = "en") -> NotebookNode:
    """Return the notebook for students."""
    return _changed(
        source, language, lambda code: _SOLUTION.sub(r"\1raise NotImplementedError\n", _MISTAKE.sub("", code))
    )


def mistakes(source: Path) -> list[tuple[int, str]]:
    """Return every wrong answer: the index of a cell in either notebook, and its code with one mistake."""
    found = []
    for i, cell in enumerate(_read(source, "en").cells):
        right = _SOLUTION.sub(r"\2\n", _MISTAKE.sub("", cell.source))
        for old, new in _MISTAKE.findall(cell.source):
            if right.count(old) != 1:
                raise ValueError(f"{source.name}, cell {i}: {old!r} occurs {right.count(old)} times in the solution")
            found.append((i, right.replace(old, new)))
    return found


def _read(source: Path, language: str) -> NotebookNode:
    """Read the code and the texts in one language."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.cells = [
        cell for cell in notebook.cells if cell.cell_type == "code" or cell.metadata.pop("lang", "en") == language
    ]
    return notebook


def _changed(source: Path, language: str, change: Callable[[str], str]) -> NotebookNode:
    notebook = _read(source, language)
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(_KERNEL), language_info=NotebookNode(name="python"))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem}-{i}"
        if cell.cell_type == "code":
            cell.source = change(cell.source).rstrip()
    nbformat.validate(notebook)
    return notebook


def main() -> None:
    """Write all notebooks."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for language in LANGUAGES:
        for source in sorted(SOURCES.glob("*.py")):
            path = path_of(source, language)
            path.parent.mkdir(exist_ok=True)
            nbformat.write(unsolved(source, language), path)


if __name__ == "__main__":
    main()
