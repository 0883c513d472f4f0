"""The page put together and served: the head, the left side, the rooms, the language."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app import equaliser, gallery, links, scrubber
from app.gradio_ui import api, choose, compare, inside, share, truth, try_tab, uncertainty
from app.gradio_ui.callers import Callers
from app.gradio_ui.desk import QUICK, Desk, Kept, Update, Wish
from app.gradio_ui.far import MOST
from app.gradio_ui.mended import Page, Strays
from app.i18n import LANGUAGES, words
from app.i18n import choose as choose_language
from app.session import Session, Stage
from app.settings import CONTROLS

__all__ = ["build", "serve"]

_DELETE_CACHE = (300, 900)  # every 5 minutes, what is older than 15: gone within 20, as the page promises
_MCP = find_spec("mcp") is not None  # as requirements.txt has it; a plain Gradio is enough for the page
_ROOMS = ("try", "inside", "uncertainty", "compare", "truth")
# A chart drawn where nobody sees it does not know its width; it measures again when the window says so.
_SHOW_ROOM = """(key) => {
    document.querySelector('.area-stage').dataset.room = key;
    const part = document.querySelector('#parts input:checked');
    if (part) document.querySelector('.parts').dataset.part = part.value;
    setTimeout(() => window.dispatchEvent(new Event('resize')), 60);
}"""
# What a link hides from a class stays in the page, out of sight. What is shown on greeting would take away what somebody
# has begun before, so nothing can be begun; a greeting that fails is waited for no longer than ten seconds.
_OPEN = """(...given) => {
    document.body.dataset.hide = (new URLSearchParams(location.search).get('hide') || '').replaceAll(',', ' ');
    const layout = document.querySelector('.layout');
    layout.inert = true;
    setTimeout(() => { layout.inert = false; }, 10000);
    return given;
}"""
_GREETED = """() => {
    document.querySelector('.layout').inert = false;
    document.body.dataset.greeted = '';
}"""
_STYLE = Path(__file__).parents[1] / "page.css"


def serve(session: Session, *, port: int | None = None, host: str | None = None) -> tuple[str, Callable[[], None]]:
    """Open the page; return its address, and what waits until somebody interrupts."""
    callers = Callers()
    demo = build(session, callers)
    _, address, _ = demo.launch(
        server_port=port,
        server_name=host,
        prevent_thread_lock=True,
        quiet=True,
        theme=_theme(),
        css=_STYLE.read_text(encoding="utf-8") + scrubber.STYLE + equaliser.STYLE + gallery.STYLE,
        max_file_size=MOST,
        app_kwargs={"middleware": [Middleware(callers.numbering)]},
        allowed_paths=[],
        run_history=False,  # it would keep pictures in the browser
        mcp_server=_MCP,
        footer_links=["api", "settings"],
        show_error=False,
        enable_monitoring=False,
        strict_cors=True,
        ssr_mode=False,
        pwa=False,
        state_session_capacity=64,  # a session may hold a picture and a run
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
        # One blue dark enough for white letters.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def build(session: Session, callers: Callers) -> gr.Blocks:
    """Lay out the page and wire it. Nothing heavy is imported before somebody asks for it."""
    with Page(title="MedSegDiff", delete_cache=_DELETE_CACHE, analytics_enabled=False, fill_width=True) as demo:
        desk = Desk(session, demo)
        desk.states()
        _head(desk)
        with gr.Row(elem_classes="layout"):
            with gr.Column(elem_classes="area-choose"):
                act = choose.lay(desk)
            with gr.Column(elem_classes="area-more"):
                choose.lay_more(desk, act)
            with gr.Column(elem_classes="area-stage"):
                _stage(desk, act)
            with gr.Column(elem_classes="area-share"):
                share.lay(desk)
        choose.wire(desk, act)
        _wire_language(desk, act)
        api.lay(session, callers)
    if _MCP:
        demo.temp_file_sets.append(Strays())
    demo.queue(max_size=20, default_concurrency_limit=4)
    return demo


def _head(desk: Desk) -> None:
    with gr.Row(elem_classes="head", equal_height=True):
        desk.say(
            gr.HTML,
            lambda w: {"value": f"<h1>{w('page.title')}</h1><p>{w('page.subtitle')}</p>"},
            elem_classes="brand",
        )
        desk.language = desk.say(
            gr.Radio,
            lambda w: {"label": w("page.language")},
            choices=[(name, key) for key, name in LANGUAGES.items()],
            value="en",
            show_label=False,
            container=False,
            elem_classes="language",
            interactive=True,
        )
    desk.say(gr.HTML, lambda w: {"value": f"<p>{w('page.notice')}</p>"}, elem_classes="notice")


def _stage(desk: Desk, act: choose.Act) -> None:
    """Lay the rooms, one of them on the screen, and draw each when somebody comes in."""
    # A radio and not tabs: a room is shown at once by the browser and drawn by the server when it is first looked at.
    desk.room = desk.say(
        gr.Radio,
        lambda w: {"label": w("page.rooms"), "choices": [(w(f"room.{key}"), key) for key in _ROOMS]},
        value="try",
        show_label=False,
        container=False,
        interactive=True,
        elem_id="rooms",
    )
    laid: dict[str, Callable[[], Any]] = {
        "try": lambda: try_tab.lay(desk, act),
        "inside": lambda: inside.lay(desk),
        "uncertainty": lambda: uncertainty.lay(desk),
        "compare": lambda: compare.lay(desk),
        "truth": lambda: truth.lay(desk),
    }
    for key in _ROOMS:
        with gr.Column(elem_classes=["room", f"room-{key}"]):
            desk.rooms[key] = laid[key]()
    desk.room.change(None, [desk.room], None, js=_SHOW_ROOM, **QUICK)
    widgets = [widget for room in desk.rooms.values() for widget in room.widgets]
    seen = [desk.room, desk.drawn, desk.kept, *desk.seen]
    desk.room.change(desk.enter, seen, [*widgets, desk.drawn, desk.kept], **QUICK)


def _wire_language(desk: Desk, act: choose.Act) -> None:
    """Greet in the visitor's language, and let it be changed."""

    def relabel(language: str, subject: object, name: str | None) -> Update:
        w = words(language)
        told: Update = {widget: gr.update(**texts(w)) for widget, texts in desk.texts.items()}
        told[desk.language] = gr.update(value=language, **desk.texts[desk.language](w))
        return told | choose.said(desk, act, subject, name, w)

    def switch(wish: Wish, language: str, subject: object, name: str | None) -> Update:
        wish.language = language
        return relabel(language, subject, name)

    def greet(subject: object, name: str | None, request: gr.Request) -> Update:
        """Answer the address: its language, and what a link asks for; the rest may have been chosen meanwhile."""
        query = dict(request.query_params)
        language = choose_language(query.get("lang"), request.headers.get("accept-language"))
        asked = links.parse(query, desk.session.sources, _ROOMS)
        subject, name = subject if asked.example is None else asked.example, asked.checkpoint or name
        w, told = words(language), relabel(language, subject, name)
        values = {desk.checkpoint: asked.checkpoint, desk.room: asked.room}
        values |= {
            widget: None if value == control.default else value
            for widget, control, value in zip(desk.controls, CONTROLS, asked.values, strict=True)
        }
        given = {
            widget: gr.update(**desk.texts[widget](w), value=value)
            for widget, value in values.items()
            if value is not None
        }
        states = {desk.subject: asked.example, desk.named: asked.checkpoint}
        return told | given | {state: value for state, value in states.items() if value is not None}

    def redraw(key: str, kept: Kept, language: str, subject: object, stage: Stage | None, name: str | None) -> Update:
        w = words(language)
        painted = {room: of for room, of in kept.items() if room == "truth"}  # what is compared was told in words
        drawn = {desk.kept: painted} | desk.draw(key, desk.scene(subject, stage, name, painted), w)
        return drawn | choose.said(desk, act, subject, name, w)

    told = [*desk.texts, *choose.spoken(act)]
    widgets = [widget for room in desk.rooms.values() for widget in room.widgets]
    hello = desk.demo.load(greet, [desk.subject, desk.checkpoint], [*told, desk.subject, desk.named], js=_OPEN, **QUICK)
    again = desk.language.input(switch, [desk.wish, desk.language, desk.subject, desk.checkpoint], told, **QUICK)
    seen, shown = [desk.room, desk.kept, *desk.seen], [*widgets, desk.drawn, desk.kept, *choose.spoken(act)]
    hello.then(redraw, seen, shown, **QUICK).then(None, js=_GREETED, **QUICK)
    again.then(redraw, seen, shown, **QUICK)
    desk.language.change(None, [desk.language], js="(l) => { document.documentElement.lang = l }", **QUICK)
