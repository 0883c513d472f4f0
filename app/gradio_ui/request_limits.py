"""Limits on requests before Gradio sees them, and headers on what is answered.

A request has a largest size, by its path; the endpoint that takes painted layers into memory is closed; a full disk is
said in a sentence. Every answer forbids browsers to guess content types and to load anything from other hosts.
"""

import errno
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.gradio_ui.remote_files import MOST

__all__ = ["limiting"]

_MIB = 2**20
_BODY = 2 * _MIB  # of an event's data, where pictures stand as paths
_BODIES = {"/gradio_api/upload": MOST + _MIB, "/gradio_api/mcp": 4 * MOST // 3 + _MIB}  # base64 in MCP
# Its `accept_blobs` keeps whatever it is sent, for any identifier and under any index, for ever (compare
# https://github.com/gradio-app/gradio/issues/11056). Only an editor with a change event needs it; this page has none.
_CLOSED = "/gradio_api/component_server"
# Gradio's page has inline scripts and makes functions of strings; a Space is shown in a frame of the Hub.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    )
)
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
]
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _TooLarge(Exception):
    pass


def limiting(app: ASGIApp) -> ASGIApp:
    """Wrap a server, as its middleware."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        path, started, seen = scope["path"].rstrip("/"), False, 0
        most = next((most for start, most in _BODIES.items() if path.startswith(start)), _BODY)

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _TooLarge
            return message

        async def headed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                taken = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in _HEADERS if name not in taken]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        if path.startswith(_CLOSED):
            return await _refuse(headed, 404, "This page has no use for this endpoint.")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            return await _refuse(headed, 413, _large(most))
        try:
            await app(scope, counted, headed)
        except _TooLarge:
            if not started:
                await _refuse(headed, 413, _large(most))
        except OSError as error:
            if error.errno not in _FULL or started:
                raise
            await _refuse(headed, 507, "The disk of this server is full; try again later.")

    return answer


def _large(most: int) -> str:
    return f"The request is larger than {most // _MIB} MB; send a smaller file."


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
