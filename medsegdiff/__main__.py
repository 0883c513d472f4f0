"""The command line: `python -m medsegdiff segment | evaluate | train | card | push | export`."""

import argparse
import os
import sys
from importlib import import_module

__all__ = ["main"]

_VERBS = ("segment", "evaluate", "train", "card", "push", "export")
_EXTRAS = {"monai": "train", "accelerate": "train", "scipy": "train", "onnx": "export", "onnxruntime": "export"}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status; bad input gives one sentence on standard error and status 2."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads sleep, not spin
    parser = argparse.ArgumentParser(prog="python -m medsegdiff", description="MedSegDiff V1 and V2.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    words = sys.argv[1:] if argv is None else argv
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
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"medsegdiff {arguments.verb}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
