"""The left side: a drawn picture or one's own, the checkpoint, the settings."""

from typing import Any

import gradio as gr

from app import catalogue, thumbs, volumes, wording
from app.gradio_ui import hub, picker
from app.gradio_ui.desk import QUICK, Desk, Update, Wish, refusing
from app.i18n import Words, words
from app.settings import CONTROLS, Choice, Control, Flags, Number, Slide, read
from app.subjects import Subject

__all__ = ["Act", "lay", "lay_more", "said", "spoken", "wire"]

_SUFFIXES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".nii", ".gz", ".nrrd", ".mha"]


class Act:
    """The widgets of this side that are not the desk's."""

    __slots__ = ("brief", "card", "domain", "estimate", "examples", "run", "slices", "stop", "upload", "warning")

    examples: Any
    warning: Any
    run: Any
    stop: Any
    upload: Any
    brief: Any
    card: Any
    domain: Any
    estimate: Any
    slices: picker.Picker


def lay(desk: Desk) -> Act:
    """Lay what comes first: picture, checkpoint, run."""
    act, en = Act(), words("en")
    first = next(iter(desk.session.sources), None)
    card = desk.session.card_of(first)
    act.examples = gr.HTML(
        wording.thumbnails(catalogue.EXAMPLES[0], card, en),
        html_template=thumbs.MARKUP,
        js_on_load=thumbs.SCRIPT,
        elem_id="examples",
    )
    sources = list(desk.session.sources)
    desk.checkpoint = desk.say(
        gr.Dropdown,
        lambda w: {"label": w("model.label")},
        choices=sources,
        value=first,
        interactive=True,
        filterable=False,
        elem_id="checkpoint",
    )
    act.brief = gr.HTML(wording.brief(card, en), elem_classes="words brief", elem_id="brief")
    warning = wording.warning(card, en)
    act.warning = gr.HTML(warning, visible=bool(warning), elem_classes="warning")
    act.domain = gr.HTML("", elem_classes="words domain", elem_id="domain")
    with gr.Row(elem_classes="act"):
        act.run = desk.say(
            gr.Button, lambda w: {"value": w("run.button")}, variant="primary", elem_id="run", scale=2, min_width=80
        )
        act.stop = desk.say(
            gr.Button,
            lambda w: {"value": w("run.stop")},
            variant="stop",
            elem_id="stop",
            interactive=False,
            scale=1,
            min_width=80,
        )
    act.estimate = gr.HTML("", elem_classes="words", elem_id="estimate")
    return act


def lay_more(desk: Desk, act: Act) -> None:
    """Lay what may wait: a picture of one's own, settings, the checkpoint's card, the Hub."""
    desk.say(
        gr.HTML,
        lambda w: {"value": f"<h2>{w('picture.yours_heading')}</h2><p>{w('picture.privacy')}</p>{wording.chrome(w)}"},
        elem_classes="privacy",
    )
    act.upload = desk.say(
        gr.File,
        lambda w: {"label": w("picture.yours_heading")},
        show_label=False,
        file_types=_SUFFIXES,
        height=130,
        elem_id="upload",
    )
    desk.say(gr.HTML, lambda w: {"value": f"<p>{w('picture.formats')}</p>"}, elem_classes="words formats")
    act.slices = picker.lay(desk)
    with desk.say(gr.Accordion, lambda w: {"label": w("settings.heading")}, open=False, elem_id="settings"):
        desk.controls = [_control(desk, control) for control in CONTROLS]
    with desk.say(gr.Accordion, lambda w: {"label": w("model.about")}, open=False, elem_id="about"):
        card = wording.card(desk.session.card_of(desk.checkpoint.value), words("en"))
        act.card = gr.HTML(card, elem_classes="words")
        hub.lay(desk)


def _control(desk: Desk, control: Control) -> Any:
    at = f"settings.{control.field}"

    def texts(w: Words) -> dict[str, Any]:
        said: dict[str, Any] = {"label": w(f"{at}.label"), "info": w(f"{at}.help")}
        if isinstance(control, Choice | Flags):
            said["choices"] = [(wording.option(control.field, choice, w), choice) for choice in control.choices]
        return said

    common: dict[str, Any] = {"value": control.default, "interactive": True, "elem_id": f"set-{control.field}"}
    match control:
        case Slide(low=low, high=high, step=step):
            return desk.say(gr.Slider, texts, minimum=low, maximum=high, step=step, **common)
        case Number(low=low, high=high):
            return desk.say(gr.Number, texts, minimum=low, maximum=high, precision=0, **common)
        case Choice():
            return desk.say(gr.Dropdown, texts, filterable=False, **common)
        case Flags():
            return desk.say(gr.CheckboxGroup, texts, **common)


def wire(desk: Desk, act: Act) -> None:
    """Let a choice change the scene; called when every room is laid."""

    def present(room: str, subject: object, name: str | None, w: Words) -> Update:
        """Show a picture's recorded run in the room on the screen, or in the first room that it waits to be run."""
        scene = desk.scene(subject, None, name)
        room = room if scene.recording else "try"
        return (
            {desk.kept: {}}
            | desk.draw(room, scene, w)
            | {
                desk.subject: subject,
                desk.stage: None,
                desk.named: name,
                desk.room: room,
            }
        )

    def bring(room: str, subject: object, name: str | None, w: Words, wish: Wish) -> Update:
        """Present a new picture, with the checkpoint chosen last."""
        name, wish.pictures = wish.checkpoint or name, wish.pictures + 1
        shown = present(room, subject, name, w) | act.slices.shown(subject)
        return shown | said(desk, act, subject, name, w)

    def choose_example(room: str, name: str, language: str, wish: Wish, event: gr.EventData) -> Update:
        w, seed = words(language), event.seed  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 10**6:
            return {act.examples: gr.skip()}
        return bring(room, seed, name, w, wish)

    def choose_checkpoint(
        room: str, subject: object, name: str, language: str, shown: str | None, wish: Wish
    ) -> Update:
        wish.checkpoint, before = name, wish.pictures
        if name == shown:  # chosen by a link, which has shown it already
            return {act.domain: gr.skip()}
        w, tasks = words(language), (desk.session.task(shown), desk.session.task(name))
        turned = volumes.turn(desk.shelf, subject, *tasks)
        told = present(room, turned, name, w) | said(desk, act, turned, name, w)
        if (wish.checkpoint, wish.pictures) != (name, before):  # chosen since, and shown
            return {act.domain: gr.skip()}
        return told | (act.slices.cleared() if turned is subject else act.slices.shown(turned))

    def show_slice(subject: Subject, name: str | None, w: Words) -> Update:
        spoken = wording.domain(desk.session.card_of(name), subject, w)
        return present("try", subject, name, w) | {act.domain: spoken}

    def read_upload(path: str | None, name: str, language: str, wish: Wish) -> Update:
        w = words(language)
        if path is None:
            return {act.upload: None}
        with refusing(w, "errors.picture"):
            card = desk.session.card_of(name)
            subject = volumes.take(path, desk.shelf, card.task if card else "")
        # Nothing of the file stays, not even its name on the page.
        return bring("try", subject, name, w, wish) | {act.upload: None}

    everything = [*desk.shown, *act.slices.widgets, *spoken(act)]
    act.examples.click(
        choose_example,
        [desk.room, desk.checkpoint, desk.language, desk.wish],
        everything,
        trigger_mode="once",
        **QUICK,
    )
    chosen = [desk.room, desk.subject, desk.checkpoint, desk.language]
    desk.checkpoint.change(choose_checkpoint, [*chosen, desk.named, desk.wish], everything, **QUICK)

    def foretell(name: str | None, language: str, *values: object) -> str:
        try:
            return wording.estimate(desk.session.estimate(name, read(values)), words(language))
        except ValueError:
            return ""

    counting = [desk.checkpoint, desk.language, *desk.controls]
    desk.demo.load(foretell, counting, act.estimate, **QUICK)
    for widget in counting:
        widget.change(foretell, counting, act.estimate, trigger_mode="always_last", **QUICK)
    act.upload.upload(
        read_upload,
        [act.upload, desk.checkpoint, desk.language, desk.wish],
        [*everything, act.upload],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=act.upload,  # or a refusal leaves "Error" on everything that a picture would have changed
        concurrency_id="read",
        concurrency_limit=2,
    ).failure(lambda: None, None, act.upload, **QUICK | {"show_progress_on": act.upload})  # takes its "Error" away
    picker.wire(desk, act.slices, show_slice, [*desk.shown, *act.slices.widgets, act.domain])


def spoken(act: Act) -> list[Any]:
    """All that `said` may change."""
    return [act.examples, act.brief, act.warning, act.card, act.domain]


def said(desk: Desk, act: Act, subject: object, name: str | None, w: Words) -> Update:
    """Say what there is to choose, what the checkpoint is, and whether the picture is of its kind."""
    card = desk.session.card_of(name)
    warning = wording.warning(card, w)
    seed = subject if isinstance(subject, int) else catalogue.EXAMPLES[0] if subject is None else None
    return {
        act.examples: wording.thumbnails(seed, card, w),
        act.brief: wording.brief(card, w),
        act.warning: gr.update(value=warning, visible=bool(warning)),
        act.card: wording.card(card, w),
        act.domain: wording.domain(card, desk.scene(subject, None, name).target, w),
    }
