"""Write files so that an interrupted write leaves nothing, or the file of before, under the final name."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft in the same folder; rename it to `path` at the end, or delete it after an error.

    The draft has the suffixes of `path`. An OSError that names no file, as of a full disk, gets the name of `path`.
    """
    path = Path(path)
    draft = path.with_name(f".{secrets.token_hex(4)}{''.join(path.suffixes[-2:])}")
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        if error.filename in (None, str(draft)):
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file as UTF-8."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
