"""Pictures given by address, as programs do: fetched from the open internet only, and within limits of size and time.

Gradio would fetch whatever address stands in an event's data, of any length. So addresses are taken out before it sees
them: each file is fetched into the cache that uploads lie in, and its path put in the address's place. Which hosts may be
asked is safehttpx's to say, as in Gradio: none inside the server's own network, and of a redirect every hop is looked up
anew. What is connected to is the address that was looked up.
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

__all__ = ["MOST", "bring", "fetch"]

MOST = 32 * 2**20  # bytes, as of an upload
_LONGEST = 20.0  # seconds


async def bring(inputs: list[Any], folder: Path) -> list[Any]:
    """Put the paths of files fetched into a folder in the place of the addresses among an event's inputs.

    Raises:
        gr.Error: one cannot be had within the limits.
    """

    async def brought(file: dict[str, Any]) -> dict[str, Any]:
        return file | {"path": str(await fetch(file["path"], folder)), "url": None}

    return await utils.async_traverse(inputs, brought, _is_far)


def _is_far(value: Any) -> bool:
    return utils.is_file_obj_with_meta(value) and utils.is_http_url_like(value["path"])


async def fetch(
    url: str, folder: Path, *, most: int = MOST, longest: float = _LONGEST, way: httpx.AsyncBaseTransport | None = None
) -> Path:
    """Fetch a file into a folder, and return where it lies.

    Arguments:
        url: its address, http or https.
        folder: where it is put, in a folder named by its content.
        most: bytes it may have.
        longest: seconds it may take.
        way: how it is fetched; by default from public addresses only.

    Raises:
        gr.Error: it cannot be had within these limits.
    """
    content = bytearray()
    try:
        async with (
            asyncio.timeout(longest),
            httpx.AsyncClient(transport=way or _Outward(), follow_redirects=True, max_redirects=5) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _unfetched(url, f"its server answered {answer.status_code}; check it")
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > most:
                    raise _unfetched(url, f"it has more than {most // 2**20} MB; send a smaller file")
    except gr.Error:  # a ValueError too
        raise
    except TimeoutError:
        raise _unfetched(url, f"it took longer than {longest:.0f} s; upload the file instead") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):  # safehttpx refuses with a ValueError
        reason = "no public server answers there; give an address on the open internet, or upload the file"
        raise _unfetched(url, reason) from None
    name = utils.strip_invalid_filename_characters(Path(httpx.URL(url).path).name).strip(".") or "file"
    path = folder / hashlib.sha256(content).hexdigest() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _unfetched(url: str, reason: str) -> gr.Error:
    return refusal(f"The picture could not be fetched from {url!r:.200}: {reason}.")


class _Outward(httpx.AsyncBaseTransport):
    """Reach public addresses only."""

    def __init__(self) -> None:
        self._ways: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        way = safehttpx.AsyncSecureTransport(await safehttpx.async_validate_url(request.url.host))
        self._ways.append(way)
        return await way.handle_async_request(request)  # pyright: ignore[reportReturnType]  annotated wrongly there

    async def aclose(self) -> None:
        for way in self._ways:
            await way.aclose()
