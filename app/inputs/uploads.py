"""Delete uploaded files one minute after they have been read.

Gradio names an upload by its content, so several visitors who upload the same image share one file. The minute lets all of
them read it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["MOST", "temporary_upload"]

MOST = 256 * 2**20
"""Bytes that the values of a visitor's volume may take in memory."""

_SECONDS = 60.0


@contextmanager
def temporary_upload(path: Path | str) -> Iterator[Path]:
    """Yield the path of an upload for reading, and delete the file one minute later, even after an error.

    If the file is uploaded again in the meantime, the minute starts anew.
    """
    path = Path(path)
    try:
        yield path
    finally:
        timer = threading.Timer(_SECONDS, _delete, (path, _SECONDS))
        timer.daemon = True
        timer.start()


def _delete(path: Path, age: float) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime >= age:
            path.unlink()
