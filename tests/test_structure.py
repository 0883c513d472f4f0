"""Coding rules that can be checked on the syntax tree; imports between packages are checked by import-linter."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"), str(path))
    for folder in ("medsegdiff", "app")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

# The only files and folders that may use each name.
DOORS: dict[str, tuple[str, ...]] = {
    "gradio": ("app/gradio_ui/",),
    "streamlit": ("app/streamlit_ui/",),
    "plotly": ("app/views/charts.py",),
    "diffusers": (),
}
COMMAND_LINE = ("medsegdiff/__main__.py", "medsegdiff/commands/")
CHOOSE_A_DEVICE = (*COMMAND_LINE, "medsegdiff/device.py", "medsegdiff/pipeline.py")

UNSAFE_IMPORTS = {"pickle", "dill", "joblib"}
UNSAFE_CALLS = {"torch.load", "exec", "eval"}
GLOBAL_STATE = {
    "print",
    "random",
    "torch.manual_seed",
    "torch.cuda.manual_seed_all",
    "np.random.seed",
    "torch.set_default_dtype",
    "torch.set_default_device",
}
NOT_IN_REQUIREMENTS = ("monai", "accelerate", "diffusers", "beartype", "hypothesis", "playwright")


def dotted(node: ast.expr) -> str:
    """Return the dotted name of an expression, with a leading dot if it starts with something other than a name."""
    match node:
        case ast.Name(id=word):
            return word
        case ast.Attribute(value=value, attr=word):
            return f"{dotted(value)}.{word}"
        case _:
            return ""


def calls(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every call."""
    return ((n.lineno, dotted(n.func)) for n in ast.walk(node) if isinstance(n, ast.Call))


def imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and top-level package of every import, including those inside functions."""
    for n in ast.walk(node):
        match n:
            case ast.Import(names=names):
                yield from ((n.lineno, alias.name.partition(".")[0]) for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield n.lineno, module.partition(".")[0]


def functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    return (n for n in ast.walk(node) if isinstance(n, ast.FunctionDef))


def classes(node: ast.AST) -> Iterator[ast.ClassDef]:
    return (n for n in ast.walk(node) if isinstance(n, ast.ClassDef))


def network_parts() -> set[str]:
    """Return the names of torch's layers and of all classes derived from nn.Module."""
    parts = {k for k, v in vars(torch.nn).items() if isinstance(v, type) and issubclass(v, torch.nn.Module)}
    bases = {c.name: {dotted(b).rpartition(".")[2] for b in c.bases} for t in TREES.values() for c in classes(t)}
    while grown := {name for name, parents in bases.items() if parents & parts} - parts:
        parts |= grown
    return parts


def test_every_module_has_a_docstring_and_all():
    def offers(module: ast.Module) -> bool:
        targets = (n.targets[0] if isinstance(n, ast.Assign) else getattr(n, "target", None) for n in module.body)
        return any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets)

    assert [file for file, tree in TREES.items() if not ast.get_docstring(tree)] == []
    silent = [file for file, tree in TREES.items() if not offers(tree) and len(tree.body) > 1]
    assert [file for file in silent if not file.endswith("__main__.py")] == []


def test_networks_are_built_in_init_only():
    parts = network_parts()
    built = [
        f"{file}:{line} {method.name} builds {called}"
        for file, tree in TREES.items()
        for c in classes(tree)
        for method in functions(c)
        if method.name in ("forward", "encode", "decode", "__call__")
        for line, called in calls(method)
        if called.rpartition(".")[2] in parts and not called.startswith(".")
    ]
    assert built == []


def test_toolkits_are_imported_only_where_allowed():
    strays = [
        f"{file}:{line} imports {package}"
        for file, tree in TREES.items()
        for line, package in imports(tree)
        if not file.startswith(DOORS.get(package, (file,)))
    ]
    assert strays == []


def test_no_file_content_can_be_executed():
    found = [
        f"{file}:{line} {word}"
        for file, tree in TREES.items()
        for line, word in (
            *(hit for hit in imports(tree) if hit[1] in UNSAFE_IMPORTS),
            *(hit for hit in calls(tree) if hit[1] in UNSAFE_CALLS),
            *((n.value.lineno, "allow_pickle") for n in ast.walk(tree) if getattr(n, "arg", "") == "allow_pickle"),
        )
    ]
    assert found == []


def test_only_the_command_line_prints_or_sets_global_state():
    # Initial weights come from torch's global generator, which only the training command and the training of chapter 9 may seed.
    found = [
        f"{file}:{line} {word}"
        for file, tree in TREES.items()
        if not file.startswith((*COMMAND_LINE, "app/course/trainer.py"))
        for line, word in (*calls(tree), *(hit for hit in imports(tree) if hit[1] == "random"))
        if word in GLOBAL_STATE
    ]
    assert found == []


def test_devices_are_chosen_in_one_package_only():
    found = [
        f"{file}:{line} {called}"
        for file, tree in TREES.items()
        for line, called in calls(tree)
        if called.endswith(".cuda") or (called.endswith("cuda.is_available") and not file.startswith(CHOOSE_A_DEVICE))
    ]
    assert found == []


def test_public_functions_name_every_argument():
    found = [
        f"{file}:{f.lineno} {f.name}(**{f.args.kwarg.arg})"
        for file, tree in TREES.items()
        for f in functions(tree)
        if f.args.kwarg and not f.name.startswith("_")
    ]
    assert found == []


def test_no_grad_mode_is_held_open_across_a_yield():
    # The consumer of the generator would run under no_grad too, and another thread that advances it would not.
    modes = ("no_grad", "inference_mode", "enable_grad", "autocast")
    found = [
        f"{file}:{block.lineno}"
        for file, tree in TREES.items()
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(called.endswith(modes) for item in block.items for _, called in calls(item.context_expr))
        and any(isinstance(n, ast.Yield | ast.YieldFrom) for n in ast.walk(block))
    ]
    assert found == []


def test_no_file_contains_machine_specific_paths():
    path_of_one_machine = re.compile(r"(?<![\w.:/-])(?:/(?:home|Users|root|mnt|work|scratch)/\w|[A-Z]:\\\w)")
    folders = ("medsegdiff", "app", "tests", "docs", "checkpoints", ".ci", ".github")
    suffixes = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".cff", ".svg"}
    files = [p for folder in folders for p in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    found = [
        f"{p.relative_to(ROOT)}: {hit[0]}"
        for p in files
        if p.is_file() and (p.suffix in suffixes or p.name in ("Makefile", "run"))
        for hit in [path_of_one_machine.search(p.read_text(encoding="utf-8"))]
        if hit
    ]
    assert found == []


def test_the_two_lists_of_requirements_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["app"]]
    listed += [r for r in project["optional-dependencies"]["dev"] if Requirement(r).name == "pytest"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert {Requirement(r) for r in lines if r and not r.startswith("#")} == {Requirement(r) for r in listed}


def test_every_requirement_is_bound_to_versions_that_include_the_installed_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        for requirement in map(Requirement, group):
            assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement
            assert version(requirement.name) in requirement.specifier


@pytest.mark.slow
def test_the_demo_starts_with_what_requirements_list():
    # Training and development extras are installed where tests run; blocking them simulates their absence.
    block = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_REQUIREMENTS}))"
    start = [sys.executable, "-c", f"{block}; import app.gradio_ui, medsegdiff.pipeline"]
    run = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
