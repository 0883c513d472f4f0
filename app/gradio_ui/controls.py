"""Create widgets with text in every language, and the controls that several parts of the page read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component

from app.core.settings import CONTROLS, Choice, Control, Flags, Number, Slide
from app.i18n import LANGUAGES, Words, words
from app.views import descriptions

__all__ = ["TABS", "LocalizedWidgets", "SharedControls", "Texts", "create_controls"]

Texts = Callable[[Words], dict[str, Any]]
_W = TypeVar("_W")

TABS = ("run", "inside", "ensemble", "comparison", "reference_mask")


class LocalizedWidgets:
    """Create widgets with text in every language: `localized(gr.Button, lambda w: {"value": w("run.button")}, size="sm")`."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        self.texts: dict[Any, Texts] = {}  # of every widget with text

    def __call__(self, kind: Callable[..., _W], texts: Texts, **fixed: Any) -> _W:
        """Create a widget, and register its text for changes of language."""
        widget = kind(**texts(words("en")), **fixed)
        self.texts[widget] = texts
        return widget


@dataclass(frozen=True, slots=True)
class SharedControls:
    """The controls whose values many events read. Each is placed on the page with its `render()`."""

    language: gr.Radio
    checkpoint: gr.Dropdown
    settings: list[Component]  # in the order of `settings.CONTROLS`
    tab: gr.Radio


def create_controls(localized: LocalizedWidgets, checkpoints: list[str]) -> SharedControls:
    """Create the shared controls; the first checkpoint is selected."""
    bare: dict[str, Any] = {"show_label": False, "container": False, "interactive": True, "render": False}
    return SharedControls(
        language=localized(
            gr.Radio,
            lambda w: {"label": w("page.language")},
            choices=[(name, key) for key, name in LANGUAGES.items()],
            value="en",
            elem_classes="language",
            **bare,
        ),
        checkpoint=localized(
            gr.Dropdown,
            lambda w: {"label": w("model.label")},
            choices=checkpoints,
            value=next(iter(checkpoints), None),
            interactive=True,
            filterable=False,
            elem_id="checkpoint",  # hidden: it holds the name that the tiles choose
            render=False,
        ),
        settings=[_setting(localized, control) for control in CONTROLS],
        # A Radio instead of gr.Tabs: the browser switches at once, and the server renders a tab when it is first opened.
        tab=localized(
            gr.Radio,
            lambda w: {"label": w("page.tabs"), "choices": [(w(f"tab.{key}"), key) for key in TABS]},
            value="run",
            elem_id="tabs",
            **bare,
        ),
    )


def _setting(localized: LocalizedWidgets, control: Control) -> Component:
    at = f"settings.{control.field}"

    def texts(w: Words) -> dict[str, Any]:
        update: dict[str, Any] = {"label": w(f"{at}.label"), "info": w(f"{at}.help")}
        if isinstance(control, Choice | Flags):
            update["choices"] = [(descriptions.option(control.field, choice, w), choice) for choice in control.choices]
        if control.default is None:
            update["placeholder"] = w(f"{at}.auto")
        return update

    common: dict[str, Any] = {"value": control.default, "interactive": True, "elem_id": f"set-{control.field}"}
    common["render"] = False
    match control:
        case Slide(low=low, high=high, step=step):
            return localized(gr.Slider, texts, minimum=low, maximum=high, step=step, **common)
        case Number(step=step):  # `settings.read` checks its range, in the visitor's language
            return localized(gr.Number, texts, precision=0 if step == 1 else None, step=step, **common)
        case Choice():
            return localized(gr.Dropdown, texts, filterable=False, **common)
        case Flags():
            return localized(gr.CheckboxGroup, texts, **common)
