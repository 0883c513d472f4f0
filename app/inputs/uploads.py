"""What a visitor uploads lies on the disk while it is read, and for one minute more.

Not for longer, since it is the visitor's. And not for less, since a page names an upload by its content: a class that sends one
picture shares one file, and whoever read it first would take it from the others.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["temporary_upload"]

_SECONDS = 60.0


@contextmanager
def temporary_upload(path: Path | str) -> Iterator[Path]:
    """Lend an uploaded file to be read, and delete it a minute later, whatever came of it.

    Sent again meanwhile, it is deleted a minute after it was read again.
    """
    path = Path(path)
    try:
        yield path
    finally:
        timer = threading.Timer(_SECONDS, _forget, (path, _SECONDS))
        timer.daemon = True
        timer.start()


def _forget(path: Path, age: float) -> None:
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime >= age:
            path.unlink()
