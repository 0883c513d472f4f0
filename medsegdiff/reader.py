"""Read untrusted files in child processes with limits on memory and time, so that no file can crash or block this process.

    this process                                          child: python -c ... reader_worker.main()
    {"do": "decode", "path": ..., limits}  -- one line -->  sets its limits, decodes (`medsegdiff.decode`)
    Raster or Volume                       <-- length, JSON, values of the array, one byte --

A child does not import torch and gets only a few environment variables. Its answer is untrusted too: JSON of a fixed form
and an array of bounded size; nothing is unpickled. If a child crashes or exceeds a limit, the caller gets a PictureError and
the next file a new child. Children are reused, one file at a time, and replaced after 200 files or when they hold too much
memory. On Linux a child reads TIFF, DICOM, NIfTI, NRRD and MHA in a copy of itself (fork), so that a crash does not cost
the start of a new child, which takes 40 times as long as a copy.

If all children are busy, a file waits for about two seconds; then the file that has been read the longest, if for more than
two seconds, is abandoned. A slow file therefore delays others by two seconds at most.

Memory and processor time are limited by `setrlimit`, on Linux. macOS does not enforce a limit on memory, and Windows
has neither; there only the wall time and the checks of a header's sizes hold.
"""

import atexit
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
from jaxtyping import UInt8

from medsegdiff.errors import restore
from medsegdiff.image_ref import MAX_BYTES, MAX_PIXELS, NiftiSpace, PictureError, Raster, Volume, broken

__all__ = [
    "GENEROUS",
    "VISITOR",
    "Limits",
    "Pool",
    "decode",
    "decode_layer",
    "decode_series",
    "dicom_header",
    "find_series",
    "warm",
]

_T = TypeVar("_T")
_Answer = tuple[dict[str, Any], np.ndarray | None]
_Why = Literal["", "time", "crowded", "closed"]

_DTYPES = ("|u1", "<u2", "<i2", "<u4", "<i4", "<f4", "<f8")
_FACTS = 16 * 2**20  # bytes of JSON in an answer
_FILES = 200  # that one child reads
_START = 120.0  # seconds in which a child must have started
_PATIENCE = 2.0  # seconds that a file may be read while others wait
_HANDED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from medsegdiff.reader_worker import main; main()"


@dataclass(frozen=True, slots=True)
class Limits:
    """The memory and time that decoding one file may take."""

    memory: int  # bytes of address space, beyond what the child takes at rest
    cpu: float  # seconds
    wall: float  # seconds, not counting the wait for a child


GENEROUS = Limits(8 * 2**30, 600, 900)
"""For local files, on the command line."""

VISITOR = Limits(1536 * 2**20, 10, 30)
"""For files that visitors of a server upload."""


class _Gone(Exception):
    """A child ended before it had answered, or its answer was malformed."""


class _Child:
    """A child process. Only `end` may be called from another thread than the one that uses it."""

    __slots__ = ("began", "files", "process", "why")

    def __init__(self) -> None:
        path = [str(Path(entry).absolute()) for entry in sys.path]
        environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        self.began, self.files, self.why = 0.0, 0, ""  # began to read a file; 0 while it starts

    def ask(self, request: dict[str, Any], limits: Limits, most: int) -> tuple[_Answer, bool]:
        """Send a request; return the answer, and whether the child can be used again."""
        pipe: Any = self.process.stdout
        over = _after(_START, self.end)
        try:
            if not self.began:  # a new one imports its libraries first
                _exactly(pipe, 1)
            over.cancel()
            over = _after(limits.wall, self.end, "time")
            self.began = time.monotonic()
            whole = request | {"memory": limits.memory, "cpu": limits.cpu}
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(whole).encode() + b"\n")
            (length,) = struct.unpack("<I", _exactly(pipe, 4))
            if length > _FACTS:
                raise _Gone
            facts = json.loads(_exactly(pipe, length))
            array = None
            if facts.get("array") is not None:
                dtype, shape = facts["array"]
                array = _room(dtype, shape, most)
                _fill(pipe, array.reshape(-1).view(np.uint8).data)
            return (facts, array), _exactly(pipe, 1) == b"+"
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ):  # a broken pipe, or a malformed answer
            raise _Gone from None
        finally:
            over.cancel()

    def end(self, why: _Why = "closed") -> None:
        """Kill the process, and record why for the thread that waits for its answer."""
        self.why = self.why or why
        with suppress(OSError):
            if self.process.poll() is None and hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)  # with the copy that reads the file
            self.process.kill()

    def bury(self) -> int:
        """End it, and return its exit status."""
        self.end()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return self.process.wait()


def _after(seconds: float, call: Callable[..., None], *arguments: str) -> threading.Timer:
    timer = threading.Timer(seconds, call, arguments)
    timer.daemon = True
    timer.start()
    return timer


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    room = bytearray(count)
    _fill(pipe, memoryview(room))
    return bytes(room)


def _fill(pipe: Any, room: memoryview) -> None:
    while room.nbytes:
        got = pipe.readinto(room)
        if not got:
            raise _Gone
        room = room[got:]


def _room(dtype: str, shape: list[int], most: int) -> np.ndarray:
    """Allocate an array of the type and shape that a child announces; raise _Gone if they are not allowed."""
    sides = tuple(int(side) for side in shape)
    if dtype not in _DTYPES or not 2 <= len(sides) <= 4 or min(sides) < 1:
        raise _Gone
    count = 1
    for side in sides:
        count *= side
    if count * int(dtype[-1]) > most:
        raise _Gone
    return np.empty(sides, dtype)


@dataclass(slots=True, eq=False)
class Pool:
    """A pool of child processes that read files, shared by any number of threads.

    Arguments:
        size: how many there may be.
        patience: seconds that a file may be read while others wait for a child.
        spare: how many are started before they are needed.
    """

    size: int = 4
    patience: float = _PATIENCE
    spare: int = 0
    _idle: list[_Child] = field(default_factory=list, init=False, repr=False)
    _busy: set[_Child] = field(default_factory=set, init=False, repr=False)
    _line: deque[object] = field(default_factory=deque, init=False, repr=False)
    _change: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)

    def ask(self, request: dict[str, Any], limits: Limits, most: int) -> _Answer:
        """Let a child process a request, and return its answer.

        Raises:
            PictureError: the file is not readable, exceeds a limit, or crashed the child.
        """
        child, stays = self._take(), False
        try:
            answer, stays = child.ask(request, limits, most)
        except _Gone:
            raise _reason(child, limits) from None
        finally:
            self._give(child, stays and not child.why)
        facts, _ = answer
        if "refused" in facts:
            raise _refused(facts)
        return answer

    def warm(self, spare: int = 1) -> None:
        """Start a child now, and another whenever none is idle, so that no file waits for one to start."""
        with self._change:
            self.spare = spare
            self._restock()

    def _restock(self) -> None:
        while len(self._idle) < self.spare and len(self._idle) + len(self._busy) < self.size:
            try:
                self._idle.append(_Child())
            except OSError:  # no process can be started now; the next file tries again
                return

    def close(self) -> None:
        """End all children."""
        with self._change:
            children, self._idle = [*self._idle, *self._busy], []
        for child in children:
            child.end()
        for child in children:
            if child not in self._busy:
                child.bury()

    def _take(self) -> _Child:
        me = object()
        with self._change:
            self._line.append(me)
            try:
                while self._line[0] is not me or not (self._idle or len(self._busy) < self.size):
                    reading = [child for child in self._busy if child.began]
                    oldest = min(reading, key=lambda child: child.began, default=None)
                    left = self.patience - (time.monotonic() - oldest.began) if oldest else self.patience
                    if self._line[0] is me and oldest is not None and left <= 0:
                        oldest.end("crowded")
                    self._change.wait(max(left, 0.05))
                child = self._idle.pop() if self._idle else _Child()
                child.began = child.began and time.monotonic()
                self._busy.add(child)
                self._restock()
                return child
            finally:
                self._line.remove(me)
                self._change.notify_all()

    def _give(self, child: _Child, stays: bool) -> None:
        child.files += 1
        stays = stays and child.files < _FILES
        if not stays:
            child.bury()
        with self._change:
            self._busy.discard(child)
            if stays:
                self._idle.append(child)
            self._restock()
            self._change.notify_all()


def _reason(child: _Child, limits: Limits) -> PictureError:
    why, status = child.why, child.bury()
    if why == "time" or status == -getattr(signal, "SIGXCPU", 0):
        seconds = limits.wall if why else limits.cpu
        return PictureError(
            "image.read_time",
            "reading the file takes longer than {seconds} s; export it again, crop it or scale it down",
            seconds=round(seconds),
        )
    if why == "crowded":
        return PictureError(
            "image.read_busy", "many files are being read at the moment and this one takes too long; try again later"
        )
    return broken()


_POOL = Pool(size=max(2, min(4, os.cpu_count() or 1)))
atexit.register(_POOL.close)
if hasattr(os, "register_at_fork"):  # children belong to the process that started them

    def _forget() -> None:
        global _POOL
        _POOL = Pool(size=_POOL.size)

    os.register_at_fork(after_in_child=_forget)


def warm() -> None:
    """Keep a child ready, so that no file waits for one to start."""
    _POOL.warm()


def decode(
    path: Path, *, page: int | None = None, most: int = MAX_BYTES, limits: Limits = GENEROUS, pool: Pool | None = None
) -> Raster | Volume:
    """Decode a file in a child, as `medsegdiff.decode.decode` does.

    Raises:
        PictureError: the file is no readable image, exceeds a limit, or crashes its decoder.
    """
    request = {"do": "decode", "path": os.path.abspath(path), "page": page, "most": most}
    bound = max(most, 8 * MAX_PIXELS)  # grey values have at most 64 bits before a window is applied
    facts, array = (pool or _POOL).ask(request, limits, bound)
    return _checked(lambda: _raster(facts, array) if facts["what"] == "raster" else _volume(facts, array))


def find_series(folder: Path, *, limits: Limits = GENEROUS) -> list[dict[str, Any]]:
    """Find the DICOM series in a folder, as `medsegdiff.dicom.find_series` does, in a child."""
    facts, _ = _POOL.ask({"do": "find series", "path": os.path.abspath(folder)}, limits, 0)
    return _checked(lambda: [dict(one) for one in facts["series"]])


def decode_series(files: Sequence[Path], *, most: int = MAX_BYTES, limits: Limits = GENEROUS) -> Volume:
    """Decode the files of a DICOM series as a volume, in a child.

    Raises:
        PictureError: they are no volume, or break a limit or their decoder.
    """
    paths = [os.path.abspath(file) for file in files]
    facts, array = _POOL.ask({"do": "series", "path": paths[0], "files": paths, "most": most}, limits, most)
    return _checked(lambda: _volume(facts, array))


def decode_layer(path: Path, *, limits: Limits = VISITOR) -> UInt8[np.ndarray, "h w 4"]:
    """Decode a picture with its transparency in a child.

    Raises:
        PictureError: the file is no readable image.
    """
    _, array = _POOL.ask({"do": "layer", "path": os.path.abspath(path)}, limits, 4 * MAX_PIXELS)
    return _checked(lambda: _as(array, np.uint8, (3,)))


def dicom_header(path: Path, keywords: tuple[str, ...], *, limits: Limits = VISITOR) -> dict[str, Any]:
    """Read elements of a DICOM header in a child, and return them in DICOM's JSON form (PS3.18, annex F).

    Raises:
        PictureError: pydicom cannot read it.
    """
    request = {"do": "dicom", "path": os.path.abspath(path), "keywords": keywords}
    facts, _ = _POOL.ask(request, limits, 0)
    return _checked(lambda: dict(facts["header"]))


def _refused(facts: dict[str, Any]) -> PictureError:
    """Restore the error that a child has reported; only short strings and numbers are accepted."""
    params = facts.get("params")
    params = {str(name): value for name, value in params.items()} if isinstance(params, dict) else {}
    shown = {name: value if isinstance(value, int | float) else str(value)[:200] for name, value in params.items()}
    return restore(PictureError, str(facts["refused"])[:1000], {"code": str(facts.get("code", "")), "params": shown})


def _checked(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ):  # malformed, perhaps by a file that has taken over the child
        raise broken() from None


def _as(array: np.ndarray | None, dtype: Any, ranks: tuple[int, ...]) -> np.ndarray:
    if array is None or array.ndim not in ranks or (dtype is not None and array.dtype != dtype):
        raise TypeError
    return array


def _raster(facts: dict[str, Any], array: np.ndarray | None) -> Raster:
    values = _as(array, None, (2, 3))
    return Raster(
        values=values if values.ndim == 2 else _as(array, np.uint8, (3,)),
        kind=str(facts["kind"]),
        deep=bool(facts["deep"]),
        halved=bool(facts["halved"]),
        index=int(facts["index"]),
        count=int(facts["count"]),
        notes=tuple(note for note in ("transparency over black", "inverted", "turned") if note in facts["notes"]),
    )


def _volume(facts: dict[str, Any], array: np.ndarray | None) -> Volume:
    def floats(name: str, count: int) -> tuple[Any, ...]:
        values = tuple(map(float, facts[name]))
        if len(values) != count:
            raise TypeError(name)
        return values

    def axes(name: str) -> str:
        if not re.fullmatch("[LRAPSI]{3}", str(facts[name])):
            raise ValueError(name)
        return str(facts[name])

    modality, burned, gaps = facts["modality"], facts["burned_in"], facts["gaps_mm"]
    return Volume(
        array=_as(array, np.float32 if array is not None and array.ndim == 3 else np.uint8, (3, 4)),
        spacing=floats("spacing", 3),
        origin=floats("origin", 3),
        direction=floats("direction", 9),
        orientation=axes("orientation"),
        axes=axes("axes"),
        window=floats("window", 2),
        source_kind=str(facts["source_kind"]),
        measured=bool(facts["measured"]),
        stacked=bool(facts["stacked"]),
        oriented=bool(facts["oriented"]),
        gaps_mm=None if gaps is None else floats("gaps_mm", 2),
        frame_windows=tuple((float(low), float(high)) for low, high in facts["frame_windows"]),
        nifti=None if facts["nifti"] is None else _nifti_space(facts["nifti"]),
        inverted=bool(facts["inverted"]),
        modality=None if modality is None else str(modality)[:16],
        burned_in=None if burned is None else bool(burned),
    )


def _nifti_space(facts: dict[str, Any]) -> NiftiSpace:
    version, rank, units, (qform_code, sform_code) = facts["version"], facts["rank"], facts["units"], facts["codes"]
    numbers = {name: tuple(map(float, facts[name])) for name in ("pixdim", "qform", "sform")}
    if version not in (1, 2) or rank not in (2, 3) or tuple(map(len, numbers.values())) != (8, 6, 12):
        raise ValueError("nifti")
    return NiftiSpace(version, rank, codes=(int(qform_code), int(sform_code)), units=int(units), **numbers)
