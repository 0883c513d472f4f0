"""Download images given as URLs, from public addresses only and with limits on size and time.

Gradio downloads any URL in the data of an event without a size limit. Here URLs are replaced before Gradio sees them: each
file is downloaded to the upload cache, and its path takes the place of the URL. Only hosts
of the open internet are allowed: every address that a name resolves to must be public, for every redirect again, and the
connection is made to the address that was checked.
"""

import asyncio
import hashlib
import ipaddress
import socket
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import safehttpx
from gradio_client import utils

from app.gradio_ui.events import refusal

__all__ = ["MOST", "download_inputs", "fetch", "is_public"]

MOST = 32 * 2**20  # bytes, the limit for uploads too
_LONGEST = 20.0  # seconds
# Beyond what Python calls global: Azure's metadata service, carrier-grade NAT, protocol assignments, and IPv6 addresses
# that carry an IPv4 address or are local to a site.
_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2002::/16",
        "fec0::/10",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "::/96",
    )
]


async def download_inputs(inputs: list[Any], folder: Path, tracked: set[str]) -> list[Any]:
    """Download the URLs among the inputs of an event to a folder, and replace them by file paths.

    Each path is added to `tracked`, because Gradio tracks, and later deletes, only the files of events that it accepts.

    Raises:
        gr.Error: A file cannot be downloaded within the limits.
    """

    async def downloaded(file: dict[str, Any]) -> dict[str, Any]:
        path = str(await fetch(file["path"], folder))
        tracked.add(path)
        return file | {"path": path, "url": None}

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
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _failed(url, f"the server answered with status {answer.status_code}; check the URL")
            if answer.headers.get("content-encoding", "identity") != "identity":  # it could inflate to any size
                raise _failed(url, "the server compresses it, though asked not to; upload the file instead")
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


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    inside = any(ip in network for network in _REFUSED if network.version == ip.version)
    return ip.is_global and not ip.is_multicast and not inside


async def _resolve(host: str) -> str:
    """Look a name up; all of its addresses must be public, or its name server would choose which one is used."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [str(where[0]) for *_, where in found]
    if not addresses or not all(map(is_public, addresses)):
        raise ValueError(f"{host} is not on the open internet")
    return addresses[0]


def _failed(url: str, reason: str) -> gr.Error:
    return refusal(f"The image could not be downloaded from {url!r:.200}: {reason}.")


class _PublicTransport(httpx.AsyncBaseTransport):
    """An HTTP transport that connects to public addresses only."""

    def __init__(self) -> None:
        self._ways: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        way = safehttpx.AsyncSecureTransport(await _resolve(request.url.host))
        self._ways.append(way)
        return await way.handle_async_request(request)  # pyright: ignore[reportReturnType]  wrong annotation upstream

    async def aclose(self) -> None:
        for way in self._ways:
            await way.aclose()
