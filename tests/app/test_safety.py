"""Safety of a public page: uploads are deleted, server files stay private, and abandoned runs end."""

import ast
import re
import time
from pathlib import Path

import numpy as np
import pytest
from browser_input import turn, unfold
from packaging.requirements import Requirement
from PIL import Image

from app.inputs.images import phantom

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENT = {"timeout": 60}


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def cache(patched, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    patched.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def address(session, cache):
    from app import gradio_ui

    return gradio_ui.serve(session)[0]


@pytest.fixture
def hasty(session, cache, monkeypatch):
    """A page that every second deletes files older than 15 s, which is enough for one run.

    An upload it deletes after one second instead of sixty.
    """
    from app.gradio_ui import page
    from app.inputs import uploads

    monkeypatch.setattr(page, "_DELETE_CACHE", (1, 15))
    monkeypatch.setattr(uploads, "_SECONDS", 1.0)
    return page.serve(session)[0]


@pytest.fixture
def lesion(tmp_path) -> Path:
    path = tmp_path / "Jane Doe 1961.png"
    Image.fromarray(phantom(5).picture.pixels[:192]).save(path)
    return path


@pytest.mark.slow
def test_uploads_and_results_are_deleted(hasty, cache, lesion, capfd):
    from gradio_client import Client, handle_file

    client = Client(hasty, verbose=False, download_files=False, httpx_kwargs=PATIENT)
    mask, *_ = client.predict(handle_file(lesion), "tiny", 1, 1, 0, "ddim", "mean", api_name="/segment")
    assert Path(mask["path"]).is_relative_to(cache)
    waited = time.monotonic() + 60
    while [*cache.rglob("*.png")] and time.monotonic() < waited:  # the files of a result are deleted one by one
        time.sleep(0.2)
    assert not [*cache.rglob("*.png")]
    assert "Jane" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", str(ROOT / "requirements.txt")])
def test_server_paths_are_neither_read_nor_served(address, path):
    import httpx

    for url in (f"{address}gradio_api/file={path}", f"{address}gradio_api/file={path.replace('/', '%2f')}"):
        assert httpx.get(url, **PATIENT).status_code in (403, 404)
    # A raw request, since the client would upload a local file with this path.
    forged = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [forged, "tiny", 1, 1, 0, "ddim", "mean"]
    asked = httpx.post(f"{address}gradio_api/call/segment", json={"data": data}, **PATIENT)
    answer = httpx.get(f"{address}gradio_api/call/segment/{asked.json()['event_id']}", **PATIENT).text
    assert answer.startswith("event: error")
    assert "root:" not in answer
    assert Path(path).exists() or path.startswith("..")  # the path was not treated as an upload, which would be deleted


def test_user_input_is_escaped(page, tmp_path):
    attack = "<img src=x onerror=window.hacked=1>"
    path = tmp_path / f"{attack}.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
    page.set_input_files("#upload input[type=file]", path)
    page.wait_for_selector("text=60 × 40 pixels")
    unfold(page, "#about", "#hub-load")
    page.locator("#hub-repository textarea, #hub-repository input").first.fill(f"{attack}/x")
    page.locator("#hub-load").click()
    page.wait_for_selector("#loaded [role=alert]")
    assert attack[:20] in page.locator("#loaded").inner_text()
    assert page.evaluate("window.hacked") is None


def test_closing_the_browser_tab_ends_its_run(page, address, lesion, ended, slow_steps):
    from gradio_client import Client, handle_file

    turn(page, steps=50)
    page.locator("#run").click()
    page.wait_for_function("document.querySelector('#film-steps .now')?.textContent.startsWith('Step ')")
    assert not ended
    page.context.close()
    client = Client(address, verbose=False, download_files=False, httpx_kwargs=PATIENT)
    client.predict(handle_file(lesion), "tiny", 1, 1, 0, "ddim", "mean", api_name="/segment")
    left, following = ended
    assert left < 1 + 50  # the opening and every step
    assert following == 3


LONG = ["tiny", 1, 50, 0, "ddim", "mean"]


def seen(ended) -> int:
    """Return the number of events of the run after it has ended; 52 if it was not stopped."""
    until = time.monotonic() + 60
    while not ended and time.monotonic() < until:
        time.sleep(0.1)
    return ended[0]


@pytest.mark.parametrize("endpoint", ["/segment", "/segment_trace"])
def test_a_cancelled_run_ends(address, lesion, ended, slow_steps, endpoint):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, download_files=False, httpx_kwargs=PATIENT)
    job = client.submit(handle_file(lesion), *(LONG if endpoint == "/segment" else LONG[:-1]), api_name=endpoint)
    while not job.outputs():
        time.sleep(0.05)
    job.cancel()
    assert seen(ended) < 52


def test_the_run_of_a_disconnected_client_ends(address, lesion, ended, slow_steps):
    import httpx

    with lesion.open("rb") as held:
        (path,) = httpx.post(f"{address}gradio_api/upload", files={"files": held}, **PATIENT).json()
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, *LONG, 0.0]  # and anchor_weight
    asked = httpx.post(f"{address}gradio_api/call/segment", json={"data": data}, **PATIENT).json()
    with httpx.stream("GET", f"{address}gradio_api/call/segment/{asked['event_id']}", **PATIENT) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("data: ["))
    assert '"step": ' in first  # then stop reading
    assert seen(ended) < 52


def test_a_run_over_the_time_limit_ends_with_an_error(address, lesion, ended, monkeypatch):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    from app.gradio_ui import api

    monkeypatch.setattr(api, "_LONGEST", 0.0)
    client = Client(address, verbose=False, download_files=False, httpx_kwargs=PATIENT)
    with pytest.raises(AppError, match=r"stopped after 0 s at step 1 of 50; choose fewer members or steps"):
        client.predict(handle_file(lesion), *LONG, api_name="/segment")
    assert seen(ended) == 2  # the opening and a step


@pytest.mark.slow
def test_gradio_is_patched_and_optional_features_are_off():
    # CVE-2026-111497 was fixed in 6.31, earlier ones in 6.6 to 6.20.
    (gradio,) = (Requirement(r) for r in (ROOT / "requirements.txt").read_text().splitlines() if r.startswith("gradio"))
    assert not gradio.specifier.contains("6.30.9")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "app" / "gradio_ui").glob("*.py")]
    names = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"load_chat", "FileExplorer", "DeepLinkButton", "Interface"}
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "app" / "gradio_ui").glob("*.py"))
    assert not re.search(r"gr\.load\(|share=True|\$\{value\}", text)
    (launch,) = (
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "launch"
    )
    said = {word.arg: ast.unparse(word.value) for word in launch.keywords}
    for key, value in (
        ("run_history", "False"),
        ("show_error", "False"),
        ("enable_monitoring", "False"),
        ("strict_cors", "True"),
        ("allowed_paths", "[]"),
    ):
        assert said[key] == value
    assert "max_file_size" in said
