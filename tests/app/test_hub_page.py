"""Loading checkpoints from the Hub in a browser: the list, all errors in both languages, and unresponsive servers."""

import re
import socket

import huggingface_hub.constants as client
import huggingface_hub.utils._cache_manager
import pytest
from browser_input import unfold
from loopback_hub import FIRST, connect, serving
from playwright.sync_api import expect

from medsegdiff.checkpoint import CONFIG, WEIGHTS

NAME = "someone/lesions"


@pytest.fixture(scope="module")
def hub(session, checkpoint, plain, monkeypatch_module, tmp_path_factory):
    monkeypatch_module.setattr(session, "fetched", {})  # what is loaded here, the next module does not have
    monkeypatch_module.setattr(session, "plain", {})
    with serving() as server:
        folder = str(tmp_path_factory.mktemp("hub"))
        for module in (client, huggingface_hub.utils._cache_manager):
            monkeypatch_module.setattr(module, "HF_HUB_CACHE", folder)
        connect(monkeypatch_module, server.url)
        files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
        short = files[WEIGHTS][:-10]
        server.commits |= {
            NAME: {FIRST: files},
            "someone/plain": {FIRST: {path.name: path.read_bytes() for path in plain.iterdir()}},
            "someone/pickles": {FIRST: {CONFIG: b"{}", "pytorch_model.bin": b""}},
            "someone/stories": {FIRST: {"README.md": b"no weights"}},
            "someone/damaged": {FIRST: files | {WEIGHTS: short}},
            "someone/foreign": {FIRST: files | {CONFIG: b'{"architectures": ["Bert"]}'}},
        }
        yield server


@pytest.fixture
def page(hub, page):
    unfold(page, "#about", "#hub-load")
    return page


def ask(page, repository, revision="main"):
    page.locator("#hub-repository :is(input, textarea)").fill(repository)
    page.locator("#hub-revision :is(input, textarea)").fill(revision)
    page.locator("#hub-load").click()


def status(page):
    page.wait_for_selector("#loaded [role=alert]")
    page.wait_for_selector("#hub-load:enabled")
    return page.locator("#loaded").inner_text()


def test_a_repository_is_downloaded_listed_selected_and_run(page):
    page.locator("#hub-list").click()
    page.wait_for_selector("#downloaded >> text=No checkpoint has been downloaded to this server yet.")
    ask(page, NAME)
    page.wait_for_selector(f"#loaded >> text={NAME}@main is loaded and selected")
    digest = re.search("[0-9a-f]{64}", page.locator("#loaded").inner_text())[0]
    expect(page.locator("#checkpoint input")).to_have_value(f"{NAME}@main")
    page.locator("#hub-list").click()
    page.wait_for_selector("#downloaded table")
    cells = page.locator("#downloaded td").all_inner_texts()
    assert cells[:2] == [NAME, f"main ({FIRST[:12]})"]
    assert digest.startswith(cells[3])
    page.locator("#run").click()
    page.wait_for_selector("#get-zip", state="visible")
    expect(page.locator("#facts .origin")).to_contain_text(digest[:8])


def test_a_plain_unet_is_offered_for_comparison_only(page):
    page.locator("#tabs label", has_text="Compare").click()
    page.wait_for_selector("#compare", state="visible")
    ask(page, "someone/plain")
    page.wait_for_selector("#loaded >> text=someone/plain@main is loaded. It is a plain U-Net without denoising steps")
    expect(page.locator("#checkpoint input")).to_have_value("tiny")
    page.locator("#b-checkpoint input").click()
    page.locator("[role=option]", has_text="someone/plain@main · plain U-Net").click()
    page.wait_for_selector("#b-plain >> text=A plain U-Net segments the image in a single forward pass")
    page.locator("#compare").click()
    page.wait_for_selector("#compared th >> text=someone/plain@main, plain U-Net")


ERRORS = (  # no two in succession alike, so that each is seen to arrive
    ("someone/nobody", "main", "Not found.", "未找到。"),
    ("someone/stories", "main", "Not a MedSegDiff checkpoint.", "不是 MedSegDiff 的模型。"),
    (NAME, "v9", "Not found.", "未找到。"),
    ("someone/pickles", "main", "Pickle file: refused, because loading one can run code.", "已拒绝。"),
    ("someone/damaged", "main", "is cut short", "文件不完整、已损坏或互不相符"),
    ("someone/foreign", "main", "this version of the project reads 1", "文件格式的版本不同"),
    ("nonsense", "main", "is no repository of the Hub; write owner/name", "不是 Hub 上的仓库"),
)


def test_errors_are_translated_and_contain_no_server_paths(page):
    for repository, revision, english, _ in ERRORS:
        ask(page, repository, revision)
        expect(page.locator("#loaded [role=alert]")).to_contain_text(english)
        assert client.HF_HUB_CACHE not in page.content()
    page.locator(".language label", has_text="中文").click()
    page.wait_for_function("document.documentElement.lang === 'zh'")
    for repository, revision, _, chinese in ERRORS:
        ask(page, repository, revision)
        expect(page.locator("#loaded [role=alert]")).to_contain_text(chinese)
        expect(page.locator("#loaded")).to_contain_text("该模型无法使用")
        assert client.HF_HUB_CACHE not in page.content()


def test_downloaded_checkpoints_load_without_a_connection(page, monkeypatch):
    ask(page, NAME)
    page.wait_for_selector(f"#loaded >> text={NAME}@main is loaded and selected")
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    ask(page, "someone/else")
    assert status(page).startswith("No connection.")
    ask(page, NAME)
    page.wait_for_selector(f"#loaded >> text={NAME}@main is loaded and selected")


def test_an_unresponsive_hub_does_not_block_the_page(page, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connect(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        ask(page, "someone/else")
        page.wait_for_selector("#loaded >> text=Fetching someone/else from the Hub")
        page.locator("#examples button").nth(1).click()
        page.wait_for_selector("#examples button:nth-child(2)[aria-pressed=true]")
        assert page.locator("#loaded").inner_text().startswith("Fetching")  # all this while
        page.locator("#run").click()
        page.wait_for_selector("#get-zip", state="visible")
        assert status(page).startswith("No connection.")
