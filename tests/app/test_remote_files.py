"""Downloads of URL inputs: limits, errors and private addresses."""

import asyncio

import gradio as gr
import httpx
import pytest
from gradio.route_utils import delete_files_created_by_app

from app.gradio_ui import remote_files
from app.gradio_ui.gradio_overrides import Page


def answers(request: httpx.Request) -> httpx.Response:
    """Simulate public servers."""
    match request.url.path:
        case "/eye.png":
            return httpx.Response(200, content=b"eye")
        case "/moved":
            return httpx.Response(302, headers={"Location": "https://other.example/eye.png"})
        case "/endless":
            return httpx.Response(200, stream=Endless())
        case _:
            return httpx.Response(404)


class Endless(httpx.AsyncByteStream):
    """An endless response without a length."""

    async def __aiter__(self):
        while True:
            await asyncio.sleep(0)
            yield bytes(1000)


def fetched(folder, address, **limits):
    return asyncio.run(remote_files.fetch(address, folder, way=httpx.MockTransport(answers), **limits))


@pytest.mark.parametrize("address", ["https://a.example/eye.png", "https://a.example/moved?token=1"])
def test_a_public_url_is_downloaded(tmp_path, address):
    path = fetched(tmp_path, address)
    assert path.read_bytes() == b"eye"
    assert path.parent.parent == tmp_path


@pytest.mark.parametrize(
    ("address", "limits", "sentence"),
    [
        ("https://a.example/endless", {"most": 3 * 2**20}, "it is larger than 3 MB; send a smaller file."),
        (
            "https://a.example/endless",
            {"longest": 0.2, "most": 2**40},
            "the download took longer than 0 s; upload the file",
        ),
        ("https://a.example/none", {}, "the server answered with status 404; check the URL."),
        ("http://[::1", {}, "no public server answered; use a public URL"),
    ],
)
def test_failed_downloads_give_an_error_and_leave_no_file(tmp_path, address, limits, sentence):
    with pytest.raises(gr.Error) as refused:
        fetched(tmp_path, address, **limits)
    assert refused.value.message.startswith(f"The image could not be downloaded from '{address}': ")
    assert sentence in refused.value.message
    assert list(tmp_path.iterdir()) == []


def test_the_download_of_an_invalid_event_is_deleted_like_any_other_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(remote_files, "_PublicTransport", lambda: httpx.MockTransport(answers))
    with Page() as page:
        file, other = gr.File(), gr.Textbox()
        other.change(lambda *_: None, [file, other])
    (event,) = page.fns.values()
    far = {"path": "https://a.example/eye.png", "meta": {"_type": "gradio.FileData"}}
    missing = far | {"path": "https://a.example/none"}
    for inputs in ([far], [far, missing]):  # one input too few; a second file that cannot be downloaded
        with pytest.raises((ValueError, gr.Error)):
            asyncio.run(page.preprocess_data(event, inputs, None))
        (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert path.read_bytes() == b"eye"
        delete_files_created_by_app(page, None)
        assert not path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_private_addresses_are_not_contacted(tmp_path, host, monkeypatch):
    def connected(*arguments, **named):
        raise AssertionError(host)

    monkeypatch.setattr("safehttpx.AsyncSecureTransport", connected)
    with pytest.raises(gr.Error, match="no public server answered"):
        asyncio.run(remote_files.fetch(f"http://{host}/latest/meta-data", tmp_path))
