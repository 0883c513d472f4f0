"""Limits on runs that wait and on what sessions keep.

Gradio's queue runs whatever it was asked for, and ends a run when the stream of its answers is closed; one whose stream
is never opened it runs to the end. The middleware here sees which streams are open, and the watch ends what has had
none for some seconds. A visitor is a session of the page, or the address of a program that gives no session; one address
may fill half of the queue, for a class may share it.

The images and results that all sessions keep are bounded in bytes together; the least recently used are dropped first.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
import numpy as np
from fastapi import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from app.i18n import choose, words

__all__ = ["VisitorQueue", "drop_oldest"]

_KEPT = 2**30  # bytes that the states of all sessions may take
_WAITING = 20  # runs, of all visitors
_EACH = 2
_RUNS = ("model", "program")  # kinds of events that run a network: of the page, of programs
_UNHEARD = 6.0  # seconds
_EVERY = 2.0


class VisitorQueue:
    """What one server's queue takes, and for how long.

    Arguments:
        demo: after `queue()`; its queue is watched from the first event on.
    """

    def __init__(self, demo: gr.Blocks) -> None:
        self._queue: Any = demo._queue
        self._demo: Any = demo
        self._open: Counter[str] = Counter()  # streams, by session or event
        self._watch: asyncio.Task[None] | None = None
        self._push = self._queue.push
        self._queue.push = self.push

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Take an event into the queue, as Gradio's own method does.

        Raises:
            HTTPException: the visitor has two runs waiting, or the queue is full. The page shows its sentence.
        """
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._end_unheard())
        fn = self._demo.fns.get(body.fn_index)
        if fn is not None and fn.concurrency_id in _RUNS:
            visitor, address = body.session_hash, _address(request)
            waiting = [event for event in self._waiting() if event.concurrency_id in _RUNS]
            running = [event for event in self._running() if event.concurrency_id in _RUNS]
            near = [event for event in waiting if _address(event.request) == address]

            def mine(events: list[Any]) -> int:
                same = [e for e in events if (e.session_hash == visitor if visitor else _address(e.request) == address)]
                return len(same)

            w = words(choose(None, request.headers.get("accept-language")))
            if mine(waiting) >= _EACH or mine(waiting) + mine(running) > _EACH:
                raise HTTPException(429, detail=w("run.two_wait"))
            if len(waiting) >= _WAITING or len(near) >= _WAITING // 2:
                raise HTTPException(429, detail=w("run.full", length=len(waiting)))
        return await self._push(body=body, request=request, username=username)

    def listening(self, app: ASGIApp) -> ASGIApp:
        """Wrap a server, as its middleware: note which streams of answers are open."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            key = _stream(scope) if scope["type"] == "http" else None
            if key is None:
                return await app(scope, receive, send)
            self._open[key] += 1
            try:
                await app(scope, receive, send)
            finally:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]

        return answer

    def _waiting(self) -> Iterator[Any]:
        for line in self._queue.event_queue_per_concurrency_id.values():
            yield from line.queue

    def _running(self) -> Iterator[Any]:
        for job in self._queue.active_jobs:
            yield from job or ()

    async def _end_unheard(self) -> None:
        """End what nobody has listened to for some seconds; an event heard once is Gradio's to end."""
        heard: set[str] = set()
        unheard: dict[str, float] = {}  # since when
        loop = asyncio.get_running_loop()
        while not self._queue.stopped:
            await asyncio.sleep(_EVERY)
            drop_oldest(self._demo.state_holder, _KEPT)
            events = {event._id: event for event in (*self._waiting(), *self._running())}
            heard &= events.keys()
            heard |= {name for name, event in events.items() if {name, event.session_hash} & self._open.keys()}
            unheard = {name: unheard.get(name, loop.time()) for name in events.keys() - heard}
            for name, since in unheard.items():
                if loop.time() - since >= _UNHEARD - _EVERY:
                    with contextlib.suppress(Exception):  # it has ended meanwhile
                        await self._queue.clean_events(event_id=name)


def drop_oldest(holder: Any, most: int) -> None:
    """Drop the states of the sessions used longest ago, until those of all together take at most so many bytes."""
    with holder.lock:
        sizes = {name: _bytes(list(state.state_data.values()), set()) for name, state in holder.session_data.items()}
        over = sum(sizes.values()) - most
        for name, size in list(sizes.items())[:-1]:  # the last is in use
            if over <= 0:
                return
            if size:
                holder.session_data.pop(name, None)
                holder.time_last_used.pop(name, None)
                over -= size


def _bytes(value: Any, seen: set[int]) -> int:
    """Count the bytes of the arrays in records and containers."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    elif isinstance(value, dict):
        value = list(value.values())
    return sum(_bytes(part, seen) for part in value) if isinstance(value, list | tuple) else 0


def _address(request: Any) -> str:
    client = getattr(request, "client", None)
    return getattr(client, "host", "") or ""


def _stream(scope: Scope) -> str | None:
    """Return the session or event whose answers a request streams."""
    if scope["method"] != "GET":
        return None
    parts = scope["path"].strip("/").split("/")
    if parts[-2:] == ["queue", "data"]:
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [None])[0]
    return parts[-1] if "call" in parts[:-2] else None
