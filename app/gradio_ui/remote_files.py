"""Download images given as URLs, from public addresses only and with limits on size and time.

Gradio downloads any URL in the data of an event without a size limit. Here URLs are replaced before Gradio sees them: each
file is downloaded to the upload cache, and its path takes the place of the URL. As in Gradio, safehttpx decides which hosts
are allowed: none in the server's own network, and every redirect is resolved and validated again. The connection is made to
the address that was validated.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import safehttpx
from gradio_client import utils

from app.gradio_ui.page_state import refusal

__all__ = ["MOST", "download_inputs", "fetch"]

MOST = 32 * 2**20  # bytes, the limit for uploads too
_LONGEST = 20.0  # seconds


async def download_inputs(inputs: list[Any], folder: Path) -> list[Any]:
    """Download the URLs among the inputs of an event to a folder, and replace them by file paths.

    Raises:
        gr.Error: A file cannot be downloaded within the limits.
    """

    async def downloaded(file: dict[str, Any]) -> dict[str, Any]:
        return file | {"path": str(await fetch(file["path"], folder)), "url": None}

    return await utils.async_traverse(inputs, downloaded, _is_remote)


def _is_remote(value: Any) -> bool:
    return utils.is_file_obj_with_meta(value) and utils.is_http_url_like(value["path"])


async def fetch(
    url: str, folder: Path, *, most: int = MOST, longest: float = _LONGEST, way: httpx.AsyncBaseTransport | None = None
) -> Path:
    """Download a file to a folder and return its path.

    Arguments:
        url: http or https URL of the file.
        folder: target folder; the file is put in a subfolder named by its hash.
        most: size limit in bytes.
        longest: time limit in seconds.
        way: HTTP transport; by default one that reaches public addresses only.

    Raises:
        gr.Error: The file cannot be downloaded within these limits.
    """
    content = bytearray()
    try:
        async with (
            asyncio.timeout(longest),
            httpx.AsyncClient(transport=way or _PublicTransport(), follow_redirects=True, max_redirects=5) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _failed(url, f"the server answered with status {answer.status_code}; check the URL")
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > most:
                    raise _failed(url, f"it is larger than {most // 2**20} MB; send a smaller file")
    except gr.Error:  # gr.Error is a ValueError
        raise
    except TimeoutError:
        raise _failed(url, f"the download took longer than {longest:.0f} s; upload the file instead") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):  # safehttpx raises ValueError
        reason = "no public server answered; use a public URL, or upload the file"
        raise _failed(url, reason) from None
    name = utils.strip_invalid_filename_characters(Path(httpx.URL(url).path).name).strip(".") or "file"
    path = folder / hashlib.sha256(content).hexdigest() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _failed(url: str, reason: str) -> gr.Error:
    return refusal(f"The image could not be downloaded from {url!r:.200}: {reason}.")


class _PublicTransport(httpx.AsyncBaseTransport):
    """An HTTP transport that connects to public addresses only."""

    def __init__(self) -> None:
        self._ways: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        way = safehttpx.AsyncSecureTransport(await safehttpx.async_validate_url(request.url.host))
        self._ways.append(way)
        return await way.handle_async_request(request)  # pyright: ignore[reportReturnType]  wrong annotation upstream

    async def aclose(self) -> None:
        for way in self._ways:
            await way.aclose()
