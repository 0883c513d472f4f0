"""Load checkpoints from the Hugging Face Hub, from the local cache if possible and with a time limit."""

import html
import time
from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.gradio_ui.events import QUICK, SILENT, Update
from app.gradio_ui.page_state import PageState
from app.i18n import Words, words

__all__ = ["build"]


def build(page: PageState) -> Dependency:
    """Create the input fields, the button, and the list of downloaded checkpoints; return the event that loads one.

    A loaded checkpoint is selected. A plain U-Net is not, since it has no denoising steps to show; it is offered for
    comparison.
    """
    page.localized(gr.HTML, lambda w: {"value": f"<h3>{w('model.hub')}</h3>"}, elem_classes="words")
    repository = _field(page, "repository", placeholder="owner/name")
    revision = _field(page, "revision", value="main")
    refresh = page.localized(gr.Checkbox, lambda w: {"label": w("hub.refresh")}, value=False, elem_id="hub-refresh")
    load = page.localized(gr.Button, lambda w: {"value": w("model.load")}, size="sm", elem_id="hub-load")
    loaded = gr.HTML("", elem_classes="words", elem_id="loaded")
    listing = page.localized(gr.Button, lambda w: {"value": w("hub.list")}, size="sm", elem_id="hub-list")
    downloaded = gr.HTML("", elem_classes="words", elem_id="downloaded")

    def fetch(repository: str, revision: str, refresh: bool, language: str) -> Iterator[Update]:
        from medsegdiff.hub import begun

        w, since = words(language), time.monotonic()
        download = begun(partial(page.session.fetch, repository, revision, refresh=bool(refresh)))
        while not download.done():
            line = html.escape(w("hub.fetching", repository=repository, seconds=int(time.monotonic() - since)))
            yield {loaded: f'<p role="status">{line}</p>', load: gr.update(interactive=False)}
            wait([download], 1.0)
        try:
            name = download.result()
        except (ValueError, OSError) as error:  # OSError: a full disk, for example
            yield {loaded: _refused(error, w), load: gr.update(interactive=True)}
            return
        plain = name in page.session.plain
        text = w("hub.plain" if plain else "hub.loaded", repository=name, digest=page.session.card(name).sha256)
        chosen = gr.skip() if plain else gr.update(choices=[*page.session.sources, name], value=name)
        yield {
            loaded: f"<p>{html.escape(text)}</p>",
            page.controls.checkpoint: chosen,
            load: gr.update(interactive=True),
        }

    fetched = load.click(
        fetch,
        [repository, revision, refresh, page.controls.language],
        [loaded, page.controls.checkpoint, load],
        **SILENT,
        concurrency_id="fetch",
        concurrency_limit=2,
        trigger_mode="once",
    )
    listing.click(lambda language: _listed(words(language)), [page.controls.language], [downloaded], **QUICK)
    return fetched


def _field(page: PageState, name: str, **fixed: Any) -> gr.Textbox:
    def texts(w: Words) -> dict[str, Any]:
        return {"label": w(f"model.{name}"), "info": w(f"model.{name}_hint")}

    return page.localized(gr.Textbox, texts, max_lines=1, max_length=120, elem_id=f"hub-{name}", **fixed)


def _refused(error: Exception, w: Words) -> str:
    """Format a failed download: its kind in the visitor's language, followed by the details."""
    state = w.known(f"hub.state_{getattr(error, 'state', '')}", "")
    details = html.escape(w.because("errors.checkpoint", error))
    heading = f"<b>{html.escape(state)}</b> " if state else ""
    return f'<p class="bad" role="alert">{heading}{details}</p>'


def _listed(w: Words) -> str:
    """Make a table of the checkpoints in the local Hub cache, as HTML."""
    from medsegdiff.hub import cached

    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(cell)}</td>"
            for cell in (
                one.repository,
                f"{', '.join(one.branches) or '-'} ({one.commit[:12]})",
                f"{one.size / 1e6:.0f} MB",
                one.sha256[:16],
            )
        )
        + "</tr>"
        for one in cached()
    )
    if not rows:
        return f"<p>{html.escape(w('hub.nothing'))}</p>"
    heads = "".join(f"<th>{html.escape(w(f'hub.{key}'))}</th>" for key in ("repository", "revision", "size", "digest"))
    return f"<table><tr>{heads}</tr>{rows}</table>"
