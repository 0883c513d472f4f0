"""Who asks through MCP and hangs up before the answer ends the run, as every other caller does.

Gradio's MCP server asks the queue by a client of its own, which is not told when somebody hangs up. So each request to it
is given a number, in a header that this client hands on. The number is known for as long as the request is being answered,
and a run whose number is not known any more works for nobody.
"""

import uuid
from typing import Any

import gradio as gr
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Callers"]

_HEADER = "x-medsegdiff-call"
_PATH = "/gradio_api/mcp"


class Callers:
    """The MCP requests that one server is answering."""

    def __init__(self) -> None:
        self._here: set[str] = set()

    def numbering(self, app: ASGIApp) -> ASGIApp:
        """Wrap a server, as its middleware: every request to its MCP part gets a number."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].startswith(_PATH):
                return await app(scope, receive, send)
            number, name = uuid.uuid4().hex, _HEADER.encode()
            headers = [(key, value) for key, value in scope["headers"] if key != name]
            self._here.add(number)
            try:
                await app({**scope, "headers": [*headers, (name, number.encode())]}, receive, send)
            finally:
                self._here.discard(number)

        return answer

    def gone(self, request: gr.Request) -> bool:
        """Tell whether whoever caused an event through MCP has hung up; of others this is not known here."""
        number: Any = request.headers.get(_HEADER)
        return number is not None and number not in self._here
