"""Run the child process of `medsegdiff.reader`, which decodes one file at a time within limits that it sets itself.

`main()` reads one request per line from standard input, until it is closed. What libraries print is discarded.
"""

import gc
import json
import math
import mmap
import os
import signal
import struct
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medsegdiff.decode import decode, decode_layer
from medsegdiff.image_ref import PictureError, Raster, Volume, broken, is_dicom

__all__ = ["main"]

_GROWN = 128 * 2**20  # bytes of memory kept after a file, with which a child is replaced
# How PNG, JPEG, BMP and WebP begin, whose decoders no mutated file has ended yet; a copy takes 15 ms longer.
_ROBUST = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF")
_BLOCK = 2**20  # bytes written at once


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    answers = FileIO(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    _write_no_files()
    gc.freeze()
    at_rest = _memory()[1]
    answers.write(b"+")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if _prepare(Path(request["path"])):
            answers.write(_forked(answers, request))
        else:
            failed = _one(answers, request)
            answers.write(b"-" if failed or _memory()[1] - at_rest > _GROWN else b"+")


def _prepare(path: Path) -> bool:
    """Import what a file needs, and return whether a copy of this process is to read it."""
    head = _head(path)
    if not head or head.startswith(_ROBUST):
        return False
    if is_dicom(head):
        import_module("medsegdiff.dicom")
    elif head.startswith(b"\x1f\x8b") or b"n+" in (head[4:6], head[344:346]):
        import_module("medsegdiff.nifti")
    return sys.platform == "linux"  # elsewhere, threads of libraries do not survive a copy


def _forked(answers: FileIO, request: dict[str, Any]) -> bytes:
    """Answer a request in a copy of this process, so that a file that ends it, or makes it grow, costs no new start."""
    writes = mmap.mmap(-1, 1)  # shared: whether the copy has begun to answer
    copy = os.fork()
    if copy == 0:
        with suppress(BaseException):
            _one(answers, request, writes)
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(copy, 0)
    if status and writes[0]:
        sys.exit(1)  # in the middle of an answer, which cannot be mended
    if status:
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        _send(answers, _refused(_slow(request["cpu"]) if late else broken()), None)
    return b"+"


def _one(answers: FileIO, request: dict[str, Any], writes: mmap.mmap | None = None) -> bool:
    """Answer a request within its limits; return whether memory ran short."""
    memory = min(request["memory"], _sensible([Path(file) for file in request.get("files", [request["path"]])]))
    _limit(memory, request["cpu"])
    try:
        facts, array = _answer(request)
    except MemoryError:
        facts, array = _refused(_short(memory)), None
    if writes is not None:
        writes[0] = 1
    _send(answers, facts, array)
    return facts.get("code") == "image.read_memory"


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    path = Path(request["path"])
    try:
        if request["do"] == "layer":
            return {}, decode_layer(path)
        if request["do"] == "dicom":
            return {"header": _header(path, request["keywords"])}, None
        if request["do"] == "find series":
            from medsegdiff.dicom import find_series

            return {"series": find_series(path)}, None
        if request["do"] == "series":
            from medsegdiff.dicom import read_series

            found = read_series([Path(file) for file in request["files"]], request["most"])
        else:
            found = decode(path, request["page"], request["most"])
    except PictureError as error:
        return _refused(error), None
    except MemoryError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:  # of a decoder, not of the system
            return _refused(broken()), None
        reason = error.strerror[:1].lower() + error.strerror[1:]
        refusal = PictureError(
            "image.unopened", "the file cannot be opened ({reason}); check its name and permissions", reason=reason
        )
        return _refused(refusal), None
    except Exception:  # decoders raise any kind of error on malformed files
        return _refused(broken()), None
    values = found.values if isinstance(found, Raster) else found.array
    kept = {
        field.name: getattr(found, field.name)
        for field in fields(found)
        if field.init and field.name not in ("values", "array")
    }
    if isinstance(found, Volume) and found.nifti is not None:
        kept["nifti"] = asdict(found.nifti)
    what = "volume" if isinstance(found, Volume) else "raster"
    return kept | {"what": what}, np.ascontiguousarray(values, values.dtype.newbyteorder("<"))


def _slow(seconds: float) -> PictureError:
    return PictureError(
        "image.read_time",
        "reading the file takes longer than {seconds} s; export it again, crop it or scale it down",
        seconds=round(seconds),
    )


def _short(memory: int) -> PictureError:
    return PictureError(
        "image.read_memory",
        "reading the file takes more than {size} MiB of memory; crop it or scale it down",
        size=memory >> 20,
    )


def _refused(error: PictureError) -> dict[str, Any]:
    return {"refused": error.sentence, "code": error.code, "params": error.params}


def _header(path: Path, keywords: list[str]) -> dict[str, Any]:
    import pydicom  # late, as most files need none

    try:
        source = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=keywords, force=True)
        return source.to_json_dict()
    except MemoryError:
        raise
    except Exception:  # pydicom's own errors share no base
        raise PictureError("dicom.header", "this DICOM header cannot be read by pydicom; export it again") from None


def _send(answers: FileIO, facts: dict[str, Any], array: np.ndarray | None) -> None:
    if array is not None:
        facts = facts | {"array": [array.dtype.str, array.shape]}
    text = json.dumps(facts).encode()
    parts: list[Any] = [struct.pack("<I", len(text)), text]
    if array is not None:
        parts.append(array.reshape(-1).view(np.uint8).data)
    for part in parts:
        rest = memoryview(part)
        while rest.nbytes:
            rest = rest[answers.write(rest[:_BLOCK]) or 0 :]


def _memory() -> tuple[int, int]:
    """Return this process's address space and resident memory in bytes; 0 where the system does not provide them."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()
    except OSError:
        return 0, 0
    size = os.sysconf("SC_PAGE_SIZE")
    return int(pages[0]) * size, int(pages[1]) * size


def _sensible(files: Sequence[Path]) -> int:
    """Return a limit on memory by the size of the file, or of all files of a series.

    GDCM allocates whatever lengths a DICOM header states.
    """
    if not is_dicom(_head(files[0])):
        return sys.maxsize
    with suppress(OSError):
        return 512 * 2**20 + 256 * sum(file.stat().st_size for file in files)
    return sys.maxsize


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular file, and none of anything else: to open a pipe is to wait for its writer."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return file.read(348)
    return b""


def _write_no_files() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit(memory: int, cpu: float) -> None:
    """Limit the address space and processor time from now on, where the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    taken, _ = _memory()
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, resource.RLIM_INFINITY))
    seconds = math.ceil(time.process_time() + cpu)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
