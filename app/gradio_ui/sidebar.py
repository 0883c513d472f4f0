"""Build the sidebar: examples, upload, checkpoint and settings."""

from typing import Any

import gradio as gr

from app.components import thumbnails
from app.core import catalogue
from app.core.settings import CONTROLS, Choice, Control, Flags, Number, Slide, read
from app.gradio_ui import hub, volume_controls
from app.gradio_ui.page_state import QUICK, LatestRequest, PageState, Update, refusing
from app.i18n import Words, words
from app.inputs import volumes
from app.inputs.images import InputImage
from app.views import descriptions

__all__ = ["Sidebar", "build_details", "build_sidebar", "connect_sidebar", "described", "descriptions_of"]


class Sidebar:
    """The widgets of the sidebar that are not in `PageState`."""

    __slots__ = (
        "brief",
        "card",
        "domain",
        "estimate",
        "examples",
        "run",
        "slices",
        "stop",
        "suggested",
        "switch",
        "upload",
        "warning",
    )

    examples: Any
    warning: Any
    run: Any
    stop: Any
    upload: Any
    brief: Any
    card: Any
    domain: Any
    suggested: Any  # name of a checkpoint that fits the image better
    switch: Any
    estimate: Any
    slices: volume_controls.VolumeControls


def build_sidebar(page: PageState) -> Sidebar:
    """Create the first part of the sidebar: examples, checkpoint, Run and Stop."""
    sidebar, en = Sidebar(), words("en")
    first = next(iter(page.session.sources), None)
    card = page.session.card_of(first)
    sidebar.examples = gr.HTML(
        descriptions.thumbnails(catalogue.EXAMPLES[0], card, en),
        html_template=thumbnails.MARKUP,
        js_on_load=thumbnails.SCRIPT,
        elem_id="examples",
    )
    sources = list(page.session.sources)
    page.checkpoint = page.localized(
        gr.Dropdown,
        lambda w: {"label": w("model.label")},
        choices=sources,
        value=first,
        interactive=True,
        filterable=False,
        elem_id="checkpoint",
    )
    sidebar.brief = gr.HTML(descriptions.brief(card, en), elem_classes="words brief", elem_id="brief")
    warning = descriptions.warning(card, en)
    sidebar.warning = gr.HTML(warning, visible=bool(warning), elem_classes="warning")
    sidebar.domain = gr.HTML("", elem_classes="words domain", elem_id="domain")
    sidebar.suggested = gr.State(None, time_to_live=3600)
    sidebar.switch = gr.Button(visible=False, size="sm", elem_id="switch")
    with gr.Row(elem_classes="act"):
        sidebar.run = page.localized(
            gr.Button, lambda w: {"value": w("run.button")}, variant="primary", elem_id="run", scale=2, min_width=80
        )
        sidebar.stop = page.localized(
            gr.Button,
            lambda w: {"value": w("run.stop")},
            variant="stop",
            elem_id="stop",
            interactive=False,
            scale=1,
            min_width=80,
        )
    sidebar.estimate = gr.HTML("", elem_classes="words", elem_id="estimate")
    return sidebar


def build_details(page: PageState, sidebar: Sidebar) -> None:
    """Create the second part of the sidebar: upload, settings, checkpoint details and Hub."""
    page.localized(
        gr.HTML,
        lambda w: {
            "value": f"<h2>{w('picture.yours_heading')}</h2><p>{w('picture.privacy')}</p>"
            f"{descriptions.in_browser(w)}{descriptions.chrome(w)}"
        },
        elem_classes="privacy",
    )
    sidebar.upload = page.localized(
        gr.File,
        lambda w: {"label": w("picture.yours_heading")},
        show_label=False,
        height=130,  # no file_types: files are recognised by content, and DICOM often has no suffix
        elem_id="upload",
    )
    page.localized(gr.HTML, lambda w: {"value": f"<p>{w('picture.formats')}</p>"}, elem_classes="words formats")
    sidebar.slices = volume_controls.build(page)
    with page.localized(gr.Accordion, lambda w: {"label": w("settings.heading")}, open=False, elem_id="settings"):
        page.controls = [_control(page, control) for control in CONTROLS]
    with page.localized(gr.Accordion, lambda w: {"label": w("model.about")}, open=False, elem_id="about"):
        card = descriptions.card(page.session.card_of(page.checkpoint.value), words("en"))
        sidebar.card = gr.HTML(card, elem_classes="words")
        hub.build(page)


def _control(page: PageState, control: Control) -> Any:
    at = f"settings.{control.field}"

    def texts(w: Words) -> dict[str, Any]:
        update: dict[str, Any] = {"label": w(f"{at}.label"), "info": w(f"{at}.help")}
        if isinstance(control, Choice | Flags):
            update["choices"] = [(descriptions.option(control.field, choice, w), choice) for choice in control.choices]
        return update

    common: dict[str, Any] = {"value": control.default, "interactive": True, "elem_id": f"set-{control.field}"}
    match control:
        case Slide(low=low, high=high, step=step):
            return page.localized(gr.Slider, texts, minimum=low, maximum=high, step=step, **common)
        case Number(low=low, high=high):
            return page.localized(gr.Number, texts, minimum=low, maximum=high, precision=0, **common)
        case Choice():
            return page.localized(gr.Dropdown, texts, filterable=False, **common)
        case Flags():
            return page.localized(gr.CheckboxGroup, texts, **common)


def connect_sidebar(page: PageState, sidebar: Sidebar) -> None:
    """Connect the events of the sidebar; call it after the tabs have been built."""

    def present(tab: str, image: object, name: str | None, w: Words) -> Update:
        """Show the recorded run of an image in the current tab; without a recording, switch to the Run tab."""
        selection = page.selection(image, None, name)
        tab = tab if selection.recording else "run"
        return (
            {page.tab_cache: {}}
            | page.draw(tab, selection, w)
            | {
                page.image: image,
                page.finished_run: None,
                page.named: name,
                page.tab: tab,
            }
        )

    def show_new(tab: str, image: object, name: str | None, w: Words, latest: LatestRequest) -> Update:
        """Show a new image with the latest selected checkpoint."""
        name, latest.pictures = latest.checkpoint or name, latest.pictures + 1
        shown = present(tab, image, name, w) | sidebar.slices.shown(image)
        return shown | described(page, sidebar, image, name, w)

    def choose_example(tab: str, name: str, language: str, latest: LatestRequest, event: gr.EventData) -> Update:
        w, seed = words(language), event.seed  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 10**6:
            return {sidebar.examples: gr.skip()}
        return show_new(tab, seed, name, w, latest)

    def choose_checkpoint(
        tab: str, image: object, name: str, language: str, shown: str | None, latest: LatestRequest
    ) -> Update:
        latest.checkpoint, before = name, latest.pictures
        if name == shown:  # selected by a link, which has shown it already
            return {sidebar.domain: gr.skip()}
        w, tasks = words(language), (page.session.task(shown), page.session.task(name))
        turned = volumes.turn(page.volume_cache, image, *tasks)
        update = present(tab, turned, name, w) | described(page, sidebar, turned, name, w)
        if (latest.checkpoint, latest.pictures) != (name, before):  # a later choice has been shown already
            return {sidebar.domain: gr.skip()}
        return update | (sidebar.slices.cleared() if turned is image else sidebar.slices.shown(turned))

    def show_slice(image: InputImage, name: str | None, w: Words) -> Update:
        return present("run", image, name, w) | checked(page, sidebar, image, name, w)

    def read_upload(path: str | None, name: str, language: str, latest: LatestRequest) -> Update:
        w = words(language)
        if path is None:
            return {sidebar.upload: None}
        with refusing(w, "errors.picture"):
            card = page.session.card_of(name)
            image = volumes.take(path, page.volume_cache, card.task if card else "")
        # Reset the upload widget, so that the page does not keep the file name.
        return show_new("run", image, name, w, latest) | {sidebar.upload: None}

    everything = [*page.shown, *sidebar.slices.widgets, *descriptions_of(sidebar)]
    sidebar.examples.click(
        choose_example,
        [page.tab, page.checkpoint, page.language, page.latest],
        everything,
        trigger_mode="once",
        **QUICK,
    )
    chosen = [page.tab, page.image, page.checkpoint, page.language]
    page.checkpoint.change(choose_checkpoint, [*chosen, page.named, page.latest], everything, **QUICK)

    def estimate(name: str | None, language: str, *values: object) -> str:
        try:
            return descriptions.estimate(page.session.estimate(name, read(values)), words(language))
        except ValueError:
            return ""

    counting = [page.checkpoint, page.language, *page.controls]
    page.demo.load(estimate, counting, sidebar.estimate, **QUICK)
    for widget in counting:
        widget.change(estimate, counting, sidebar.estimate, trigger_mode="always_last", **QUICK)
    sidebar.upload.upload(
        read_upload,
        [sidebar.upload, page.checkpoint, page.language, page.latest],
        [*everything, sidebar.upload],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=sidebar.upload,  # otherwise an error is marked on every output
        concurrency_id="read",
        concurrency_limit=16,
    ).failure(
        lambda: None, None, sidebar.upload, **QUICK | {"show_progress_on": sidebar.upload}
    )  # clears the "Error" mark
    checking = [sidebar.domain, sidebar.suggested, sidebar.switch]
    volume_controls.connect(page, sidebar.slices, show_slice, [*page.shown, *sidebar.slices.widgets, *checking])
    sidebar.switch.click(lambda name: name or gr.skip(), sidebar.suggested, page.checkpoint, **QUICK)


def descriptions_of(sidebar: Sidebar) -> list[Any]:
    """All widgets that `described` can change."""
    return [
        sidebar.examples,
        sidebar.brief,
        sidebar.warning,
        sidebar.card,
        sidebar.domain,
        sidebar.suggested,
        sidebar.switch,
    ]


def checked(page: PageState, sidebar: Sidebar, image: InputImage, name: str | None, w: Words) -> Update:
    """Update the verdict on an image, and offer a checkpoint that fits it better."""
    check, card = page.session.check(name, image), page.session.card_of(name)
    label = w("domain.switch", name=check.suggested) if check.suggested else ""
    return {
        sidebar.domain: descriptions.domain(card, image, check, w),
        sidebar.suggested: check.suggested,
        sidebar.switch: gr.update(value=label, visible=check.suggested is not None),
    }


def described(page: PageState, sidebar: Sidebar, image: object, name: str | None, w: Words) -> Update:
    """Update the examples, the checkpoint description and the domain check."""
    card = page.session.card_of(name)
    warning = descriptions.warning(card, w)
    seed = image if isinstance(image, int) else catalogue.EXAMPLES[0] if image is None else None
    return {
        sidebar.examples: descriptions.thumbnails(seed, card, w),
        sidebar.brief: descriptions.brief(card, w),
        sidebar.warning: gr.update(value=warning, visible=bool(warning)),
        sidebar.card: descriptions.card(card, w),
    } | checked(page, sidebar, page.selection(image, None, name).target, name, w)
