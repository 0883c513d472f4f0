"""A link for a class: the settings of this page without its picture, and what of the page the class shall not see."""

from typing import Any

import gradio as gr

from app import links
from app.gradio_ui.desk import QUICK, Desk, refusing
from app.i18n import words

__all__ = ["lay"]

_WHOLE = "(query) => location.origin + location.pathname + query"


def lay(desk: Desk) -> None:
    """Lay what to hide, the button, and the link; called when the rooms are laid."""
    with desk.say(gr.Accordion, lambda w: {"label": w("share.heading")}, open=False, elem_id="share"):
        desk.say(gr.HTML, lambda w: {"value": f"<p>{w('share.text')}</p>"}, elem_classes="words")
        hide = desk.say(
            gr.CheckboxGroup,
            lambda w: {"label": w("share.hide"), "choices": [(w(f"share.{name}"), name) for name in links.HIDEABLE]},
            value=[],
            interactive=True,
            elem_id="hide",
        )
        make = desk.say(gr.Button, lambda w: {"value": w("share.make")}, size="sm", elem_id="make-link")
        link = desk.say(
            gr.Textbox,
            lambda w: {"label": w("share.link")},
            interactive=False,
            buttons=["copy"],
            max_lines=6,
            visible=False,
            elem_id="link",
        )

    def write(language: str, name: str | None, subject: object, room: str, hidden: list[str], *values: Any) -> str:
        seed = subject if isinstance(subject, int) else None
        shipped = name if name in desk.session.sources else None
        hides = [part for part in links.HIDEABLE if part in hidden]
        with refusing(words(language), "errors.settings"):
            return links.write(values, language=language, checkpoint=shipped, example=seed, room=room, hide=hides)

    chosen = [desk.language, desk.checkpoint, desk.subject, desk.room, hide, *desk.controls]
    made = make.click(write, chosen, link, **QUICK).success(None, link, link, js=_WHOLE, **QUICK)
    made.then(lambda: gr.update(visible=True), None, link, **QUICK)
