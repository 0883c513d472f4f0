"""The command line: `python -m medsegdiff segment | domain | evaluate | train | calibrate | card | push | export`."""

import argparse
import errno
import io
import os
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["main"]

_VERBS = ("segment", "domain", "evaluate", "train", "calibrate", "card", "push", "export")
_EXTRAS = {"monai": "train", "accelerate": "train", "scipy": "train", "onnx": "export", "onnxruntime": "export"}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status; bad input gives one sentence on standard error and status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: an encoding may lack a character
    words = sys.argv[1:] if argv is None else argv
    try:
        return _run(words)
    except KeyboardInterrupt:  # also while packages are imported
        print(f"{' '.join(['medsegdiff', *words[:1]])}: interrupted; what was saved before is kept", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads sleep, not spin
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # likewise: what MPS lacks runs on the CPU
    parser = argparse.ArgumentParser(prog="python -m medsegdiff", description="MedSegDiff V1 and V2.")
    parser.add_argument("--version", action="version", version=f"medsegdiff {_version()}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in [words[0]] if words and words[0] in _VERBS else _VERBS:  # import only the command that runs
        try:
            import_module(f"medsegdiff.commands.{name}").add(verbs)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRAS:
                raise
            extra = _EXTRAS[error.name]
            verb = verbs.add_parser(name, help=f"needs {error.name}: pip install 'medsegdiff[{extra}]'")
            verb.set_defaults(extra=extra)
    arguments, surplus = parser.parse_known_args(words)
    if "main" not in arguments:
        extra = arguments.extra
        print(
            f"medsegdiff {arguments.verb} needs the {extra} extra; pip install 'medsegdiff[{extra}]'", file=sys.stderr
        )
        return 2
    if surplus:
        parser.error(f"unrecognized arguments: {' '.join(surplus)}")
    try:
        arguments.main(arguments)
    except OSError as error:
        print(f"medsegdiff {arguments.verb}: {_sentence(error)}", file=sys.stderr)
        return 2
    except (ValueError, FloatingPointError) as error:
        print(f"medsegdiff {arguments.verb}: {error}", file=sys.stderr)
        return 2
    return 0


def _version() -> str:
    try:
        return version("medsegdiff")
    except PackageNotFoundError:  # run from a copy of the sources that is not installed
        return tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "version"
        ]


def _sentence(error: OSError) -> str:
    """Describe what the system refused, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'no file is named'}); make room and run the command again"
    if error.filename is None or error.strerror is None:
        return str(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    if isinstance(error, FileNotFoundError):
        return f"{error.filename}: {reason}; check the path"
    if error.errno == errno.ENAMETOOLONG:
        return f"{error.filename}: {reason}; give the file or folder a shorter name"
    if error.errno == errno.EFBIG:
        return f"{error.filename}: {reason}; raise the limit on the size of files (ulimit -f), or choose another place"
    if isinstance(error, IsADirectoryError):
        return f"{error.filename} is a folder where a file is needed; give the path of a file"
    if isinstance(error, PermissionError):
        return f"{error.filename}: {reason}; change its permissions, or choose a place that you may read and write"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file where a folder is needed; choose another --out"
    return f"{error.filename}: {reason}; choose a folder that can be written"


if __name__ == "__main__":
    sys.exit(main())
