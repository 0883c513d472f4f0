"""Fixtures: a server with a tiny untrained checkpoint and a recording of it, and a browser."""

import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, v2_config):
    """The folder of an untrained V2 with every component: 32 x 32 pixels."""
    from medsegdiff.checkpoint import save
    from medsegdiff.config import DiffusionConfig, Domain
    from medsegdiff.nn.build import build

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(v2_config)
    domain = Domain(task="skin-lesion", modality="dermoscopy, RGB", labels=("lesion",), source="none", licence="CC0")
    diffusion = DiffusionConfig(parametrization="x_0", scale=0.3)
    training = {"iterations_done": 0}
    save(folder, model, model_config=v2_config, diffusion=diffusion, domain=domain, training=training)
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The folder of an untrained plain U-Net for the same task: 64 x 64 pixels."""
    from medsegdiff.checkpoint import save
    from medsegdiff.config import DiffusionConfig, Domain, UNetConfig
    from medsegdiff.nn.build import build

    folder, config = tmp_path_factory.mktemp("checkpoints") / "plain", UNetConfig(image_size=64, widths=(8, 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config)
    domain = Domain(task="skin-lesion", modality="dermoscopy, RGB", labels=("lesion",), licence="CC0")
    save(folder, model, model_config=config, diffusion=DiffusionConfig(), domain=domain, training={})
    return folder


@pytest.fixture(scope="session")
def session(checkpoint):
    """A session with the tiny checkpoint only."""
    from app.core.session import Session

    return Session({"tiny": str(checkpoint)}, "cpu")


@pytest.fixture(scope="session")
def recorded(session, tmp_path_factory):
    """A run of the tiny checkpoint on a phantom, as a file."""
    from app.core import catalogue
    from scripts.record_runs import record

    return record(session, "tiny", catalogue.examples("skin-lesion")[0], tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def address(session, recorded, monkeypatch_module):
    from app import gradio_ui
    from app.core import catalogue

    found = catalogue.recordings(recorded.parent)
    monkeypatch_module.setattr(catalogue, "recordings", lambda: found)
    return gradio_ui.serve(session)[0]


@pytest.fixture
def lesion(tmp_path):
    """An image file that is not square."""
    path = tmp_path / "picture.png"
    from app.inputs.images import phantom

    Image.fromarray(phantom(5).picture.pixels[:192]).save(path)
    return path


@pytest.fixture
def ended(monkeypatch) -> list[int]:
    """Numbers of events that runs yielded before they ended."""
    from app.core.session import Session

    counts, run = [], Session.run

    def counted(self, *arguments):
        seen = 0
        try:
            for event in run(self, *arguments):
                seen += 1
                yield event
        finally:
            counts.append(seen)

    monkeypatch.setattr(Session, "run", counted)
    return counts


@pytest.fixture
def slow_steps(request, monkeypatch):
    """Slow every step of a run down by a second, or as many as the parameter says, so that it can be observed in progress.

    A run that is to be interrupted has to last far longer than what a busy machine needs for the clicks before.
    """
    import time

    from app.core.session import Session
    from app.inputs import volumes

    def slowly(run):
        def slow(*arguments):
            for event in run(*arguments):
                yield event
                time.sleep(getattr(request, "param", 1.0))

        return slow

    monkeypatch.setattr(Session, "run", slowly(Session.run))
    monkeypatch.setattr(volumes, "segment", slowly(volumes.segment))


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page; requests to other hosts and JavaScript errors fail the test."""
    windows = []

    def visit(address, **look):
        page = browser.new_context(
            **({"viewport": {"width": 1280, "height": 900}, "locale": "en-US"} | look)
        ).new_page()
        page.set_default_timeout(60_000)
        page.strangers, page.faults, page.pending = [], [], set()
        known = (address, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(known) else page.strangers.append(r.url))
        # Requests under way, for `settled`; a heartbeat is never answered.
        page.on("request", lambda r: None if "/heartbeat/" in r.url else page.pending.add(r))
        page.on("requestfinished", lambda r: page.pending.discard(r))
        page.on("requestfailed", lambda r: page.pending.discard(r))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text) if "Content Security" in said.text else None)
        windows.append(page)
        return page

    yield visit
    for page in windows:
        assert not page.strangers
        assert not page.faults
        page.context.close()


@pytest.fixture
def page(visit, address):
    """The page in English, fully loaded."""
    page = visit(address)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page
