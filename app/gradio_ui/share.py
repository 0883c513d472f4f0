"""Create a link that restores the settings of the page and hides chosen parts of it."""

from typing import Any

import gradio as gr

from app.core import links
from app.gradio_ui.events import QUICK, refusing
from app.gradio_ui.page_state import PageState
from app.gradio_ui.sidebar import Sidebar
from app.i18n import words

__all__ = ["build"]

_WHOLE = "(query) => location.origin + location.pathname + query"
_HIDE = "() => ({ __type__: 'update', visible: false })"


def build(page: PageState, sidebar: Sidebar) -> None:
    """Create the choice of parts to hide, the button and the link; call it after the tabs have been built."""
    with page.localized(gr.Accordion, lambda w: {"label": w("share.heading")}, open=False, elem_id="share"):
        page.localized(gr.HTML, lambda w: {"value": f"<p>{w('share.text')}</p>"}, elem_classes="words")
        hide = page.localized(
            gr.CheckboxGroup,
            lambda w: {"label": w("share.hide"), "choices": [(w(f"share.{name}"), name) for name in links.HIDEABLE]},
            value=[],
            interactive=True,
            elem_id="hide",
        )
        make = page.localized(gr.Button, lambda w: {"value": w("share.make")}, size="sm", elem_id="make-link")
        link = page.localized(
            gr.Textbox,
            lambda w: {"label": w("share.link")},
            interactive=False,
            buttons=["copy"],
            max_lines=6,
            visible=False,
            elem_id="link",
        )

    def write(language: str, name: str | None, image: object, tab: str, hidden: list[str], *values: Any) -> str:
        seed = image if isinstance(image, int) else None
        shipped = name if name in page.session.sources else None
        hides = [part for part in links.HIDEABLE if part in hidden]
        with refusing(words(language), "errors.settings"):
            return links.write(values, language=language, checkpoint=shipped, example=seed, tab=tab, hide=hides)

    before = [page.controls.language, page.controls.checkpoint]
    after = [page.controls.tab, hide, *page.controls.settings]
    made = make.click(write, [*before, page.states.image, *after], link, **QUICK).success(
        None, link, link, js=_WHOLE, **QUICK
    )
    made.then(lambda: gr.update(visible=True), None, link, **QUICK)
    # Once something else is chosen, the link would restore what was chosen before. The examples show the image: a change
    # of a state is not dispatched to the browser by an event that does not queue.
    for widget in (*before, sidebar.examples, *after):
        widget.change(None, None, link, js=_HIDE, **QUICK)
