"""Stop runs whose MCP client has disconnected.

Gradio's MCP server forwards requests to the queue through an internal client, which does not notice when the original
client disconnects. Therefore each MCP request gets an identifier in a header that the internal client forwards. The
identifier is registered while the request is open; a run whose identifier is no longer registered can be stopped.
"""

import uuid
from typing import Any

import gradio as gr
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ConnectedCalls"]

_HEADER = "x-medsegdiff-call"
_PATH = "/gradio_api/mcp"


class ConnectedCalls:
    """The open MCP requests of one server."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware that adds an identifier to every MCP request."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].startswith(_PATH):
                return await app(scope, receive, send)
            identifier, name = uuid.uuid4().hex, _HEADER.encode()
            headers = [(key, value) for key, value in scope["headers"] if key != name]
            self._open.add(identifier)
            try:
                await app({**scope, "headers": [*headers, (name, identifier.encode())]}, receive, send)
            finally:
                self._open.discard(identifier)

        return answer

    def disconnected(self, request: gr.Request) -> bool:
        """Return whether the MCP client of an event has disconnected; False for events from other clients."""
        identifier: Any = request.headers.get(_HEADER)
        return identifier is not None and identifier not in self._open
