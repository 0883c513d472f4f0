"""Build and serve the page: header, sidebar, tabs and language."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.components import diagram, equaliser, gallery, planes, scrubber, tasks, uncertainty
from app.core import links
from app.core.session import FinishedRun, Session
from app.core.settings import CONTROLS
from app.gradio_ui import api, comparison_tab, ensemble_tab, inside_tab, reference_mask_tab, run_tab, share
from app.gradio_ui.controls import TABS, LocalizedWidgets, create_controls
from app.gradio_ui.events import QUICK, Update
from app.gradio_ui.gradio_overrides import Page, UntrackedFiles, set_link_preview
from app.gradio_ui.mcp_disconnect import ConnectedCalls
from app.gradio_ui.page_state import LatestRequest, PageState, SessionStates, TabCache
from app.gradio_ui.remote_files import MOST
from app.gradio_ui.request_limits import limiting
from app.gradio_ui.sidebar import (
    Sidebar,
    build_sidebar,
    connect_sidebar,
    described,
    descriptions_of,
    unknown_checkpoint,
)
from app.gradio_ui.visitor_queue import VisitorQueue
from app.i18n import choose as choose_language
from app.i18n import words
from app.views import descriptions
from medsegdiff import reader

__all__ = ["build", "serve"]

_DELETE_CACHE = (300, 900)  # every 5 minutes, delete files older than 15: all are gone within 20 minutes, as stated
_MCP = find_spec("mcp") is not None  # optional: the page works without MCP
# Plotly charts drawn while hidden have no width; a resize event makes them measure again.
_SHOW_TAB = """(key) => {
    document.querySelector('.area-stage').dataset.tab = key;
    const part = document.querySelector('#parts input:checked');
    if (part) {
        document.querySelector('.parts').dataset.part = window.__panel = part.value;
        window.dispatchEvent(new CustomEvent('panel-shown', { detail: part.value }));
    }
    setTimeout(() => window.dispatchEvent(new Event('resize')), 60);
}"""
# Parts hidden by a link are hidden with CSS. The page does not accept input until it has been initialised from the link,
# which would overwrite the visitor's first choices; if that fails, input is accepted after ten seconds.
_OPEN = """(...given) => {
    document.body.dataset.hide = (new URLSearchParams(location.search).get('hide') || '').replaceAll(',', ' ');
    const layout = document.querySelector('.layout');
    layout.inert = true;
    // Gradio refuses a file that is too large in the browser, and says so in English.
    new MutationObserver(() => document.querySelectorAll('.toast-message-text').forEach((text) => {
        if (!text.textContent.startsWith('File(s) exceed')) return;
        text.textContent = JSON.parse(getComputedStyle(document.documentElement).getPropertyValue('--label-large'));
    })).observe(document.body, { childList: true, subtree: true });
    setTimeout(() => { layout.inert = false; }, 10000);
    return given;
}"""
_READY = """() => {
    document.querySelector('.layout').inert = false;
    document.body.dataset.ready = '';
}"""
_STYLE = Path(__file__).with_name("page.css")


def serve(session: Session, *, port: int | None = None, host: str | None = None) -> tuple[str, Callable[[], None]]:
    """Start the server; return its address and a function that blocks until it is interrupted."""
    reader.warm()
    w = words("en")
    set_link_preview(f"{w('page.title')}: {w('page.subtitle')}", w("page.lead"))
    calls = ConnectedCalls()
    demo = build(session, calls)
    visitors = VisitorQueue(demo)
    _, address, _ = demo.launch(
        server_port=port,
        server_name=host,
        prevent_thread_lock=True,
        quiet=True,
        theme=_theme(),
        css=_STYLE.read_text(encoding="utf-8")
        + scrubber.STYLE
        + diagram.STYLE
        + planes.STYLE
        + equaliser.STYLE
        + gallery.STYLE
        + tasks.STYLE
        + uncertainty.STYLE,
        max_file_size=MOST,
        app_kwargs={"middleware": [Middleware(limiting), Middleware(visitors.listening), Middleware(calls.middleware)]},
        allowed_paths=[],
        run_history=False,  # it would store images in the browser
        mcp_server=_MCP,
        footer_links=["api", "settings"],
        show_error=False,
        enable_monitoring=False,
        strict_cors=True,
        ssr_mode=False,
        pwa=False,
        state_session_capacity=64,  # each session can hold an image and a run
    )
    return address, demo.block_thread


def _theme() -> gr.themes.Base:
    sans = [
        "system-ui",
        "-apple-system",
        "Segoe UI",
        "Noto Sans CJK SC",
        "PingFang SC",
        "Microsoft YaHei",
        "sans-serif",
    ]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        font=sans,
        font_mono=["ui-monospace", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
    ).set(
        # A blue with enough contrast for white text.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def build(session: Session, calls: ConnectedCalls) -> gr.Blocks:
    """Create the widgets of the page and connect their events."""
    with Page(title="MedSegDiff", delete_cache=_DELETE_CACHE, analytics_enabled=False, fill_width=True) as demo:
        localized = LocalizedWidgets()
        controls = create_controls(localized, list(session.sources))
        states = SessionStates.create(next(iter(session.sources), None))
        page = PageState(session, demo, localized, controls, states)
        _head(page)
        with gr.Row(elem_classes="layout"):
            sidebar = build_sidebar(page)
            with gr.Column(elem_classes="area-stage"):
                _stage(page, sidebar)
            with gr.Column(elem_classes="area-share"):
                share.build(page, sidebar)
        connect_sidebar(page, sidebar)
        _wire_language(page, sidebar)
        api.build(session, calls)
    if _MCP:
        demo.temp_file_sets.append(UntrackedFiles())
    demo.queue(max_size=200, default_concurrency_limit=16)  # how many runs may wait, VisitorQueue decides
    return demo


def _head(page: PageState) -> None:
    recorded = page.opening.recording
    with gr.Row(elem_classes="head", equal_height=True):
        page.localized(gr.HTML, lambda w: {"value": descriptions.head(recorded, w)}, elem_classes="brand")
        page.controls.language.render()
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w('page.notice')}</p>"}, elem_classes="notice")


def _stage(page: PageState, sidebar: Sidebar) -> None:
    """Create the tabs; each is rendered when it is first opened."""
    page.controls.tab.render()
    builders: dict[str, Callable[[], Any]] = {
        "run": lambda: run_tab.build(page, sidebar),
        "inside": lambda: inside_tab.build(page),
        "ensemble": lambda: ensemble_tab.build(page),
        "comparison": lambda: comparison_tab.build(page, sidebar),
        "reference_mask": lambda: reference_mask_tab.build(page),
    }
    for key in TABS:
        with gr.Column(elem_classes=["page-tab", f"page-tab-{key}"]):
            page.tabs[key] = builders[key]()
    page.controls.tab.change(None, [page.controls.tab], None, js=_SHOW_TAB, **QUICK)
    states = page.states
    seen = [states.latest, page.controls.tab, states.drawn, states.tab_cache, states.named, *page.seen]
    page.controls.tab.change(page.enter, seen, [*page.tab_widgets, page.states.drawn, page.states.tab_cache], **QUICK)


def _wire_language(page: PageState, sidebar: Sidebar) -> None:
    """Initialise the page in the visitor's language, and connect the language switch."""

    def relabel(language: str, image: object, name: str | None) -> Update:
        w = words(language)
        update: Update = {widget: gr.update(**texts(w)) for widget, texts in page.localized.texts.items()}
        update[page.controls.language] = gr.update(value=language, **page.localized.texts[page.controls.language](w))
        return update | described(page, sidebar, image, name, w)

    def switch(latest: LatestRequest, language: str, image: object, name: str | None) -> Update:
        latest.language = language
        return relabel(language, image, name) | latest.texts.get(language, {})

    def initialise(latest: LatestRequest, image: object, name: str | None, request: gr.Request) -> Update:
        """Apply the query parameters of the page: the language and the choices of a link."""
        query = dict(request.query_params)
        language = choose_language(query.get("lang"), request.headers.get("accept-language"))
        link = links.parse(query, page.session.sources, TABS)
        latest.tab = link.tab or latest.tab
        image, name = image if link.example is None else link.example, link.checkpoint or name
        w, update = words(language), relabel(language, image, name)
        unknown = query.get("checkpoint", "") if link.checkpoint is None else ""
        update[sidebar.unknown] = unknown_checkpoint(unknown, name, w)
        values = {page.controls.checkpoint: link.checkpoint, page.controls.tab: link.tab}
        values |= {
            widget: None if value == control.default else value
            for widget, control, value in zip(page.controls.settings, CONTROLS, link.values, strict=True)
        }
        given = {
            widget: gr.update(**page.localized.texts[widget](w), value=value)
            for widget, value in values.items()
            if value is not None
        }
        states = {page.states.image: link.example, page.states.named: link.checkpoint}
        return update | given | {state: value for state, value in states.items() if value is not None}

    def redraw(
        latest: LatestRequest,
        tab_cache: TabCache,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
    ) -> Update:
        w = latest.words(language)
        # Keep a reference mask; the results of comparisons contain text and are cleared.
        kept = {key: of for key, of in tab_cache.items() if key != "comparison"}
        drawn = page.draw(latest.tab, page.selection(image, finished_run, name, kept), w)
        return {page.states.tab_cache: kept} | drawn | described(page, sidebar, image, name, w)

    localized = [*page.localized.texts, *descriptions_of(sidebar)]
    loaded = page.demo.load(
        initialise,
        [page.states.latest, page.states.image, page.controls.checkpoint],
        [*localized, sidebar.unknown, page.states.image, page.states.named],
        js=_OPEN,
        **QUICK,
    )
    switched = page.controls.language.input(
        switch,
        [page.states.latest, page.controls.language, page.states.image, page.controls.checkpoint],
        [*localized, sidebar.shown, *sidebar.slices.views],
        **QUICK,
    )
    seen, shown = (
        [page.states.latest, page.states.tab_cache, *page.seen],
        [*page.tab_widgets, page.states.drawn, page.states.tab_cache, *descriptions_of(sidebar)],
    )
    loaded.then(redraw, seen, shown, **QUICK).then(None, js=_READY, **QUICK)
    switched.then(redraw, seen, shown, **QUICK)
    page.controls.language.change(
        None, [page.controls.language], js="(l) => { document.documentElement.lang = l }", **QUICK
    )
