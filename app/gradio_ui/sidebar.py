"""Build the sidebar: examples, upload, checkpoint and settings."""

import html
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.components import tasks, thumbnails
from app.core import catalogue
from app.core.settings import read
from app.gradio_ui import batch, hub, volume_controls
from app.gradio_ui.events import QUICK, SILENT, Update, refusing
from app.gradio_ui.page_state import LatestRequest, PageState, in_every_language
from app.i18n import Words, words
from app.inputs import volumes
from app.inputs.images import InputImage
from app.views import batch_views, descriptions

__all__ = ["Sidebar", "build_sidebar", "connect_sidebar", "described", "descriptions_of", "unknown_checkpoint"]

FileText = Callable[[Words], str]
"""What names an upload, as HTML."""

# Run several files, or an upload that fits its checkpoint, as soon as the run of another image has ended.
_RUN_NEW = """(shown) => {
    const many = shown && shown.includes('data-batch');
    const run = document.getElementById(many ? 'batch-run' : 'run'), until = Date.now() + 10000;
    const busy = () => run.disabled || 'busy' in run.dataset;
    const press = () => busy() && Date.now() < until ? setTimeout(press, 100) : run.click();
    if (many) setTimeout(() => document.getElementById('batch').scrollIntoView({ block: 'nearest' }), 300);
    if (many || shown && shown.includes('data-run')) setTimeout(press, 100);
}"""


@dataclass(frozen=True, slots=True)
class Sidebar:
    """The widgets of the sidebar, besides the shared controls."""

    tasks: gr.HTML
    examples: gr.HTML
    brief: gr.HTML
    warning: gr.HTML
    unknown: gr.HTML  # states that the link names a checkpoint that is not here
    domain: gr.HTML
    suggested: gr.State  # name of a checkpoint that fits the image better
    switch: gr.Button
    run: gr.Button
    stop: gr.Button
    estimate: gr.HTML
    upload: gr.File
    file: gr.Row  # names the upload and removes it
    shown: gr.HTML
    remove: gr.Button
    slices: volume_controls.VolumeControls
    batch: batch.Batch
    card: gr.HTML
    fetched: Dependency  # the event that loads a checkpoint from the Hub


def build_sidebar(page: PageState) -> Sidebar:
    """Create the two parts of the sidebar."""
    with gr.Column(elem_classes="area-choose"):
        first = _build_first_part(page)
    with gr.Column(elem_classes="area-more"):
        second = _build_second_part(page)
    return Sidebar(**first, **second)


def _build_first_part(page: PageState) -> dict[str, Any]:
    """Create the tasks, the examples, the upload, Run and Stop."""
    en, card = words("en"), page.session.card_of(page.opening.checkpoint)
    chosen = gr.HTML(
        descriptions.tasks(_cards(page), page.opening.checkpoint, en),
        html_template=tasks.MARKUP,
        js_on_load=tasks.SCRIPT,
        elem_id="tasks",
    )
    page.controls.checkpoint.render()
    unknown = gr.HTML("", visible=False, elem_classes="warning", elem_id="unknown")
    examples = gr.HTML(
        descriptions.thumbnails(page.first(page.opening.checkpoint), card, en),
        html_template=thumbnails.MARKUP,
        js_on_load=thumbnails.SCRIPT,
        elem_id="examples",
    )
    upload = page.localized(
        gr.File,
        lambda w: {"label": w("picture.yours_heading")},
        show_label=False,
        file_count="multiple",
        height=60,  # no file_types: files are recognised by content, and DICOM often has no suffix
        elem_id="upload",
    )
    with gr.Row(visible=False, elem_id="file") as file:
        shown = gr.HTML("", elem_classes="words", elem_id="file-name")
        remove = page.localized(
            gr.Button, lambda w: {"value": w("picture.remove")}, size="sm", scale=0, min_width=80, elem_id="remove"
        )
    page.localized(
        gr.HTML,
        lambda w: {
            "value": f"<p>{w('picture.identify')}</p><details><summary>{w('picture.details')}</summary>"
            f"<p>{w('picture.formats')}</p><p>{w('picture.privacy')}</p></details>"
            f"{descriptions.in_browser(w)}{descriptions.chrome(w)}"
        },
        elem_classes="privacy",
    )
    domain = gr.HTML("", elem_classes="words domain", elem_id="domain")
    suggested = gr.State(None, time_to_live=3600)
    switch = gr.Button(visible=False, size="sm", elem_id="switch")
    with gr.Row(elem_classes="act"):
        run = page.localized(
            gr.Button, lambda w: {"value": w("run.button")}, variant="primary", elem_id="run", scale=2, min_width=80
        )
        stop = page.localized(
            gr.Button,
            lambda w: {"value": w("run.stop")},
            variant="stop",
            elem_id="stop",
            interactive=False,
            scale=1,
            min_width=80,
        )
    estimate = gr.HTML("", elem_classes="words", elem_id="estimate")
    brief = gr.HTML(descriptions.brief(card, en), elem_classes="words brief", elem_id="brief")
    text = descriptions.warning(card, en)
    warning = gr.HTML(text, visible=bool(text), elem_classes="warning")
    return {
        "tasks": chosen,
        "examples": examples,
        "brief": brief,
        "warning": warning,
        "unknown": unknown,
        "domain": domain,
        "suggested": suggested,
        "switch": switch,
        "run": run,
        "stop": stop,
        "estimate": estimate,
        "upload": upload,
        "file": file,
        "shown": shown,
        "remove": remove,
    }


def _build_second_part(page: PageState) -> dict[str, Any]:
    """Create the controls of volumes, the settings, the checkpoint's details and the Hub."""
    slices, several = volume_controls.build(page), batch.build(page)
    with page.localized(gr.Accordion, lambda w: {"label": w("settings.heading")}, open=False, elem_id="settings"):
        for setting in page.controls.settings:
            setting.render()
    with page.localized(gr.Accordion, lambda w: {"label": w("model.about")}, open=False, elem_id="about"):
        text = descriptions.card(page.session.card_of(page.opening.checkpoint), words("en"))
        card = gr.HTML(text, elem_classes="words")
        fetched = hub.build(page)
    return {"slices": slices, "batch": several, "card": card, "fetched": fetched}


def _cards(page: PageState) -> dict[str, catalogue.Card]:
    """Return the metadata of every checkpoint that can be run, by name."""
    return {name: page.session.card(name) for name in (*page.session.sources, *page.session.fetched)}


def connect_sidebar(page: PageState, sidebar: Sidebar) -> None:
    """Connect the events of the sidebar; call it after the tabs have been built."""

    def present(tab: str, image: object, name: str | None, w: Words) -> Update:
        """Show the recorded run of an image, or the image without one, in a tab."""
        chosen = {page.states.image: image, page.states.finished_run: None, page.states.named: name}
        shown = page.draw(tab, page.selection(image, None, name), w)
        return {page.states.tab_cache: {}} | sidebar.batch.hidden() | shown | chosen

    def present_here(image: object, name: str | None, w: Words, latest: LatestRequest) -> Update:
        """Show the recorded run of an image in the current tab; without one, switch to the Run tab."""
        tab = latest.tab
        if tab == "comparison" or page.selection(image, None, name).recording:
            return present(tab, image, name, w)
        shown = present("run", image, name, w)
        return shown | {page.controls.tab: "run"} if tab == latest.tab != "run" else shown

    def show_new(
        image: object, name: str | None, w: Words, latest: LatestRequest, shown: FileText = lambda _: ""
    ) -> Update:
        """Show a new image with the latest selected checkpoint; `shown` names the file."""
        name, latest.pictures = latest.checkpoint or name, latest.pictures + 1
        with latest.choosing():
            update = present_here(image, name, w, latest) | sidebar.slices.shown(image, latest)
            update[sidebar.file] = gr.update(visible=isinstance(image, InputImage))
            update |= name_file(shown, w, latest) | described(page, sidebar, image, name, w)
            latest.choose(image)
        return update

    def name_file(shown: FileText, w: Words, latest: LatestRequest) -> Update:
        """Name an upload, or several."""
        update = in_every_language(lambda w: {sidebar.shown: shown(w)})
        latest.keep(update)
        return update[w.language]

    def choose_example(name: str, language: str, latest: LatestRequest, event: gr.EventData) -> Update:
        w, seed = words(language), event.seed  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 10**6:
            return {sidebar.examples: gr.skip()}
        return show_new(seed, name, w, latest)

    def choose_checkpoint(image: object, name: str, language: str, shown: str | None, latest: LatestRequest) -> Update:
        latest.checkpoint, before = name, latest.pictures
        if name == shown:  # selected by a link, which has shown it already
            return {sidebar.domain: gr.skip()}
        w, cards = words(language), (page.session.card_of(shown), page.session.card_of(name))
        with latest.choosing():
            turned = volumes.turn(page.volume_cache, image, *cards)
            update = present_here(turned, name, w, latest) | described(page, sidebar, turned, name, w)
            if (latest.checkpoint, latest.pictures) != (name, before):  # a later choice has been shown already
                return {sidebar.domain: gr.skip()}
            latest.choose(turned)
        update[sidebar.unknown] = gr.update(visible=False)
        if turned is image or not isinstance(turned, InputImage):
            return update | sidebar.slices.cleared(latest)
        file = name_file(partial(descriptions.uploaded, turned), w, latest)
        return update | sidebar.slices.shown(turned, latest) | file

    def show_slice(image: InputImage, name: str | None, w: Words, latest: LatestRequest) -> Update:
        file = name_file(partial(descriptions.uploaded, image), w, latest)
        return present("run", image, name, w) | checked(page, sidebar, image, name, w) | file

    def read_upload(
        paths: list[str] | None, name: str, language: str, latest: LatestRequest
    ) -> Generator[Update, None, None]:
        """Read an upload and select the checkpoint that fits it; an upload that fits none is shown, but not run.

        Several files are left to the batch.
        """
        w = words(language)
        if not paths:
            yield {sidebar.upload: None}
            return
        if len(paths) > 1:
            latest.pictures += 1  # ends a run under way
            shown = name_file(partial(batch_views.uploaded, len(paths)), w, latest)
            shown |= {page.controls.tab: "run", sidebar.file: gr.update(visible=True), sidebar.upload: None}
            yield shown | sidebar.batch.filled(paths)
            return
        yield {sidebar.file: gr.update(visible=True), sidebar.shown: f'<p role="status">{w("picture.reading")}</p>'}
        try:
            with refusing(w, "errors.picture"):
                image = volumes.take(paths[0], page.volume_cache, page.session.card_of(name))
        except gr.Error:
            yield {sidebar.file: gr.update(visible=False), sidebar.shown: "", sidebar.upload: None}
            raise
        suggested = page.session.check(name, image).suggested
        if suggested:
            image = volumes.turn(page.volume_cache, image, page.session.card_of(name), page.session.card(suggested))
            assert isinstance(image, InputImage)
            name = latest.checkpoint = suggested
        judged = page.session.check(name, image).verdict
        fits = judged is None or judged.level != "other"
        yield show_new(image, name, w, latest, partial(descriptions.uploaded, image, switched=suggested, run=fits)) | {
            page.controls.checkpoint: name,
            sidebar.upload: None,  # which would keep a link to a file that is about to be deleted
        }

    def remove(name: str, language: str, latest: LatestRequest) -> Update:
        """Show the first example instead of the upload."""
        return show_new(None, name, words(language), latest)

    file = [sidebar.file, sidebar.shown]
    everything = [*page.shown, *sidebar.slices.widgets, *sidebar.batch.widgets, *descriptions_of(sidebar), *file]
    sidebar.examples.click(
        choose_example,
        [page.controls.checkpoint, page.controls.language, page.states.latest],
        everything,
        trigger_mode="once",
        **QUICK,
    )
    chosen = [page.states.image, page.controls.checkpoint, page.controls.language]
    page.controls.checkpoint.change(
        choose_checkpoint, [*chosen, page.states.named, page.states.latest], [*everything, sidebar.unknown], **QUICK
    )

    def estimate(name: str | None, language: str, *values: object) -> str:
        try:
            return descriptions.estimate(page.session.estimate(name, read(values)), words(language))
        except ValueError:
            return ""

    counting = [page.controls.checkpoint, page.controls.language, *page.controls.settings]
    page.demo.load(estimate, counting, sidebar.estimate, **QUICK)
    for widget in counting:
        widget.change(estimate, counting, sidebar.estimate, trigger_mode="always_last", **QUICK)
    sidebar.upload.upload(
        read_upload,
        [sidebar.upload, page.controls.checkpoint, page.controls.language, page.states.latest],
        [*everything, page.controls.checkpoint, sidebar.upload],
        concurrency_id="read",
        concurrency_limit=16,
        **SILENT,
    ).success(None, [sidebar.shown], None, js=_RUN_NEW, **QUICK)
    sidebar.remove.click(
        remove, [page.controls.checkpoint, page.controls.language, page.states.latest], everything, **QUICK
    )
    sidebar.tasks.click(_named, None, page.controls.checkpoint, **QUICK)
    checking = [sidebar.domain, sidebar.suggested, sidebar.switch]
    shown = [*page.shown, sidebar.batch.group, *sidebar.slices.widgets, *checking, *file]
    volume_controls.connect(page, sidebar.slices, show_slice, shown)
    sidebar.switch.click(lambda name: name or gr.skip(), sidebar.suggested, page.controls.checkpoint, **QUICK)


def _named(event: gr.EventData) -> Any:
    """Return the name of the checkpoint that was chosen among the tasks."""
    name = event.name  # pyright: ignore[reportAttributeAccessIssue]
    return name if isinstance(name, str) else gr.skip()


def unknown_checkpoint(unknown: str, shown: str | None, w: Words) -> Update:
    """State that the checkpoint that a link names is not here, and which one is shown instead."""
    text = w("model.unknown", name=f"{unknown:.80}", shown=shown or "–") if unknown else ""
    return gr.update(value=f"<p>{html.escape(text)}</p>", visible=bool(unknown))


def descriptions_of(sidebar: Sidebar) -> list[Any]:
    """All widgets that `described` can change."""
    return [
        sidebar.tasks,
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
    seed = image if isinstance(image, int) else page.first(name) if image is None else None
    return {
        sidebar.tasks: descriptions.tasks(_cards(page), name, w),
        sidebar.examples: descriptions.thumbnails(seed, card, w),
        sidebar.brief: descriptions.brief(card, w),
        sidebar.warning: gr.update(value=warning, visible=bool(warning)),
        sidebar.card: descriptions.card(card, w),
    } | checked(page, sidebar, page.selection(image, None, name).target, name, w)
