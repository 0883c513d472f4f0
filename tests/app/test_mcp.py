"""The public endpoints as MCP tools, called with the official MCP client."""

import ast
import asyncio
import base64
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from app.inputs.images import phantom

pytestmark = pytest.mark.slow

pytest.importorskip("mcp", reason="the MCP client is not installed: pip install 'gradio[mcp]'")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, monkeypatch_module) -> Path:
    import gradio as gr

    folder = tmp_path_factory.mktemp("cache")
    monkeypatch_module.setenv("GRADIO_TEMP_DIR", str(folder))
    monkeypatch_module.setattr(gr.mcp, "DEFAULT_TEMP_DIR", str(folder))  # read when Gradio was imported
    return folder


@pytest.fixture(scope="module")
def address(session, cache, monkeypatch_module) -> str:
    """A page that every second deletes files older than 15 s, which is enough for one run."""
    from app.gradio_ui import page

    monkeypatch_module.setattr(page, "_DELETE_CACHE", (1, 15))
    return page.serve(session)[0]


@pytest.fixture(scope="module")
def ask(address):
    """Call a tool, or list the tools if no name is given."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def asked(tool, arguments, patience):
        async def heard(done, total, message):
            """Ask for progress, without which images are not sent as images."""

        async with (
            asyncio.timeout(patience),
            streamable_http_client(f"{address}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            if tool is None:
                return (await client.list_tools()).tools
            return await client.call_tool(tool, arguments, progress_callback=heard)

    return lambda tool=None, patience=None, **arguments: asyncio.run(asked(tool, arguments, patience))


@pytest.fixture(scope="module")
def drawn() -> bytes:
    held = io.BytesIO()
    Image.fromarray(phantom(5).picture.pixels[:192]).save(held, "PNG")
    return held.getvalue()


def inline(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def text_of(answer) -> str:
    return " ".join(part.text for part in answer.content if part.type == "text")


def test_three_tools_are_listed_with_their_parameters(ask):
    tools = {tool.name: tool for tool in ask()}
    assert set(tools) == {"segment", "segment_trace", "model_info"}
    assert tools["model_info"].description.startswith("List the available checkpoints with their metadata")
    segment = tools["segment"]
    assert segment.description.startswith("Segment a medical image and return label image, probability, disagreement")
    assert "For research and teaching only." in segment.description
    assert segment.inputSchema["required"] == ["picture"]
    assert all(field["description"] for field in segment.inputSchema["properties"].values())


def test_checkpoints_are_listed_and_an_image_is_segmented(ask, drawn):
    known = ast.literal_eval(text_of(ask("model_info")))
    assert known["tiny"]["labels"] == ["lesion"]
    answer = ask("segment", picture=inline(drawn), members=2, steps=2)
    assert not answer.isError
    sizes = [Image.open(io.BytesIO(base64.b64decode(p.data))).size for p in answer.content if p.type == "image"]
    assert sizes == [(256, 192)] * 3
    report = ast.literal_eval(answer.content[-1].text)
    assert report["settings"]["steps"] == 2


def test_every_other_event_of_the_page_stays_private(address):
    import httpx

    events = httpx.get(f"{address}config", timeout=60).json()["dependencies"]
    public = [event["api_name"] for event in events if event["api_visibility"] == "public"]
    assert sorted(public) == ["model_info", "segment", "segment_trace"]


@pytest.mark.parametrize("path", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd"])
def test_a_server_path_is_rejected(ask, path):
    answer = ask("segment", picture=path)
    assert answer.isError
    assert "provide a url" in text_of(answer)
    assert "root:" not in text_of(answer)


def test_a_url_in_the_servers_network_is_rejected(ask):
    asked = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    with HTTPServer(("127.0.0.1", 0), Inside) as inside:
        threading.Thread(target=inside.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"):
            answer = ask("segment", picture=f"http://{host}:{inside.server_port}/secret.png")
            assert answer.isError
            assert f"could not be downloaded from 'http://{host}" in text_of(answer)
            assert "use a public URL, or upload the file" in text_of(answer)
        inside.shutdown()
    assert asked == []


@pytest.mark.slow
def test_an_inline_image_is_deleted_soon(ask, drawn, cache):
    ask("segment", picture=inline(drawn), members=1, steps=1)
    until = time.monotonic() + 60
    while (left := [path for path in cache.rglob("*") if path.is_file()]) and time.monotonic() < until:
        time.sleep(0.5)
    assert left == []


@pytest.mark.slow
def test_a_disconnected_client_frees_its_place(ask, drawn, ended, monkeypatch):
    from app.core.session import Session

    run = Session.run

    def slowly(self, *arguments):
        for event in run(self, *arguments):
            time.sleep(0.2)  # at least ten seconds for all steps
            yield event

    monkeypatch.setattr(Session, "run", slowly)
    with pytest.raises((TimeoutError, ExceptionGroup)):
        ask("segment", picture=inline(drawn), members=1, steps=50, patience=5)
    until = time.monotonic() + 60
    while not ended and time.monotonic() < until:
        time.sleep(0.1)
    assert 0 < ended[0] < 52  # the opening, every step, the end
