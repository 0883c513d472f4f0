"""The page in Gradio: widgets and wires. What they show is made elsewhere.

A visitor's picture and last run live in the session's memory; models are shared. Every event of the page is private; two
endpoints are public, `segment` and `model_info`. Whatever our own packages refuse becomes one sentence on the page.
"""

import html
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app import catalogue, panels, scrubber, views, wording
from app import session as core
from app.frames import Frame, Opening, Recording
from app.i18n import LANGUAGES, Words, choose, words
from app.session import Finished, Session, Subject
from app.settings import CONTROLS, Choice, Control, Flags, Number, Slide, read

__all__ = ["build", "serve"]

_FRAMES_PER_SECOND = 10
_DELETE_CACHE = (300, 900)  # every 5 minutes, what is older than 15: gone within 20, as the page promises
_FILES = ("mask", "probability", "disagreement", "report")
_SUFFIXES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".nii", ".gz", ".nrrd", ".mha"]
# A chart drawn where nobody sees it does not know its width; it measures again when the window says so.
_SHOW_PANEL = """(key) => {
    document.querySelector('.area-stage').dataset.view = key;
    setTimeout(() => window.dispatchEvent(new Event('resize')), 60);
}"""
_STYLE = Path(__file__).with_name("page.css")

Update = dict[Any, Any]
Texts = Callable[[Words], dict[str, Any]]


def serve(session: Session, *, port: int | None = None, host: str | None = None) -> tuple[str, Callable[[], None]]:
    """Open the page; return its address, and what waits until somebody interrupts."""
    demo = build(session)
    _, address, _ = demo.launch(
        server_port=port,
        server_name=host,
        prevent_thread_lock=True,
        quiet=True,
        theme=_theme(),
        css=_STYLE.read_text(encoding="utf-8") + scrubber.STYLE,
        max_file_size="32mb",
        allowed_paths=[],
        run_history=False,  # it would keep pictures in the browser
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
    )


def build(session: Session) -> gr.Blocks:
    """Lay out the page and wire it. Nothing heavy is imported before somebody asks for it."""
    return _Page(session).demo


class _Page:
    """The widgets of one page by name, and what happens to them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.texts: dict[Any, Texts] = {}  # of every widget that says something
        with gr.Blocks(
            title="MedSegDiff", delete_cache=_DELETE_CACHE, analytics_enabled=False, fill_width=True
        ) as self.demo:
            self.subject = gr.State(
                None, time_to_live=3600
            )  # None: the first drawn picture; a seed; a picture of one's own
            self.stage = gr.State(None, time_to_live=3600)  # the run on the screen
            self._head()
            with gr.Row(elem_classes="layout"):
                with gr.Column(elem_classes="area-choose"):
                    self._choose()
                with gr.Column(elem_classes="area-stage"):
                    self._stage()
                with gr.Column(elem_classes="area-more"):
                    self._more()
            self._wire()
            self._endpoints()
        self.demo.queue(max_size=20, default_concurrency_limit=4)

    # ------------------------------------------------------------------------------------------------------- layout

    def _say(self, kind: Callable[..., Any], texts: Texts, **fixed: Any) -> Any:
        """Make a widget that speaks, and remember how it says it in any language."""
        widget = kind(**texts(words("en")), **fixed)
        self.texts[widget] = texts
        return widget

    def _head(self) -> None:
        with gr.Row(elem_classes="head", equal_height=True):
            self._say(
                gr.HTML,
                lambda w: {"value": f"<h1>{w('page.title')}</h1><p>{w('page.subtitle')}</p>"},
                elem_classes="brand",
            )
            self.language = self._say(
                gr.Radio,
                lambda w: {"label": w("page.language")},
                choices=[(name, key) for key, name in LANGUAGES.items()],
                value="en",
                show_label=False,
                container=False,
                elem_classes="language",
                interactive=True,
            )
        self._say(gr.HTML, lambda w: {"value": f"<p>{w('page.notice')}</p>"}, elem_classes="notice")

    def _choose(self) -> None:
        self.examples = gr.HTML(
            wording.thumbnails(catalogue.EXAMPLES[0], words("en")),
            html_template='<div class="thumbs"></div>',
            js_on_load=scrubber.THUMBS,
            elem_id="examples",
        )
        self.checkpoint = self._say(
            gr.Dropdown,
            lambda w: {"label": w("model.label")},
            choices=list(self.session.sources),
            value=next(iter(self.session.sources), None),
            interactive=True,
            filterable=False,
            elem_id="checkpoint",
        )
        warning = wording.warning(self._card(self.checkpoint.value), words("en"))
        self.warning = gr.HTML(warning, visible=bool(warning), elem_classes="warning")
        with gr.Row(elem_classes="act"):
            self.run = self._say(
                gr.Button, lambda w: {"value": w("run.button")}, variant="primary", elem_id="run", scale=2, min_width=80
            )
            self.stop = self._say(
                gr.Button,
                lambda w: {"value": w("run.stop")},
                variant="stop",
                elem_id="stop",
                interactive=False,
                scale=1,
                min_width=80,
            )

    def _stage(self) -> None:
        self.films: dict[str, gr.HTML] = {}
        self.plots: dict[str, list[gr.Plot]] = {}
        recording, en = self._recorded(self.checkpoint.value, catalogue.EXAMPLES[0]), words("en")
        # The tabs are a radio: a gr.Tab once shown cannot be taken away again, and which panels there are depends on the run.
        self.view = self._say(
            gr.Radio,
            lambda w: {"label": w("page.views")},
            choices=wording.views(recording, en),
            value="steps",
            show_label=False,
            container=False,
            interactive=True,
            elem_id="views",
        )
        for panel in panels.PANELS:
            with gr.Column(elem_classes=["view", f"view-{panel.key}"]):
                opening = _kept(panel, recording, "en")[0] if recording and panel.key == "steps" else None
                self.films[panel.key] = gr.HTML(
                    opening, html_template=scrubber.MARKUP, js_on_load=scrubber.SCRIPT, elem_id=f"film-{panel.key}"
                )
                if panel.key == "steps":
                    facts = wording.facts(recording, en, live=False) if recording else ""
                    self.facts = gr.HTML(facts, elem_id="facts")
                    with gr.Row(elem_classes="files", visible=False) as self.file_row:
                        self.files = [self._file(name) for name in _FILES]
                self._say(gr.HTML, _panel_texts(panel.key), elem_classes="words")
                self.plots[panel.key] = [gr.Plot(show_label=False, container=False, visible=False) for _ in range(2)]

    def _file(self, name: str) -> gr.DownloadButton:
        key = "disagreement_file" if name == "disagreement" else name
        return self._say(
            gr.DownloadButton, lambda w: {"label": w(f"result.{key}")}, size="sm", elem_id=f"get-{name}", min_width=120
        )

    def _more(self) -> None:
        self._say(
            gr.HTML,
            lambda w: {"value": f"<h2>{w('picture.yours_heading')}</h2><p>{w('picture.privacy')}</p>"},
            elem_classes="privacy",
        )
        self.upload = self._say(
            gr.File,
            lambda w: {"label": w("picture.yours_heading")},
            show_label=False,
            file_types=_SUFFIXES,
            height=130,
            elem_id="upload",
        )
        self._say(gr.HTML, lambda w: {"value": f"<p>{w('picture.formats')}</p>"}, elem_classes="words")
        with self._say(gr.Accordion, lambda w: {"label": w("settings.heading")}, open=False, elem_id="settings"):
            self.controls = [self._control(control) for control in CONTROLS]
        with self._say(gr.Accordion, lambda w: {"label": w("model.about")}, open=False, elem_id="about"):
            self.card = gr.HTML(wording.card(self._card(self.checkpoint.value), words("en")), elem_classes="words")
            self._say(gr.HTML, lambda w: {"value": f"<h3>{w('model.hub')}</h3>"}, elem_classes="words")
            self.repository = self._say(
                gr.Textbox,
                lambda w: {"label": w("model.repository"), "info": w("model.repository_hint")},
                placeholder="owner/name",
                max_lines=1,
                max_length=120,
            )
            self.revision = self._say(
                gr.Textbox,
                lambda w: {"label": w("model.revision"), "info": w("model.revision_hint")},
                value="main",
                max_lines=1,
                max_length=120,
            )
            self.load = self._say(gr.Button, lambda w: {"value": w("model.load")}, size="sm")
            self.loaded = gr.HTML("", elem_classes="words", elem_id="loaded")

    def _control(self, control: Control) -> Any:
        at = f"settings.{control.field}"

        def texts(w: Words) -> dict[str, Any]:
            said: dict[str, Any] = {"label": w(f"{at}.label"), "info": w(f"{at}.help")}
            if isinstance(control, Choice | Flags):
                said["choices"] = [(wording.option(control.field, choice, w), choice) for choice in control.choices]
            return said

        common: dict[str, Any] = {"value": control.default, "interactive": True, "elem_id": f"set-{control.field}"}
        match control:
            case Slide(low=low, high=high, step=step):
                return self._say(gr.Slider, texts, minimum=low, maximum=high, step=step, **common)
            case Number(low=low, high=high):
                return self._say(gr.Number, texts, minimum=low, maximum=high, precision=0, **common)
            case Choice():
                return self._say(gr.Dropdown, texts, filterable=False, **common)
            case Flags():
                return self._say(gr.CheckboxGroup, texts, **common)

    # -------------------------------------------------------------------------------------------------------- wires

    def _wire(self) -> None:
        quick: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
        shown = [*self._shown(), self.subject, self.stage]
        chosen = [self.subject, self.checkpoint, self.language]
        said = [self.language, *self.texts, self.examples, self.warning, self.card]
        speaking = [self.language, self.subject, self.stage, self.checkpoint]
        for hello in (
            self.demo.load(self._greet, [self.subject, self.checkpoint], said, **quick),
            self.language.input(self._relabel, [self.language, self.subject, self.checkpoint], said, **quick),
        ):
            hello.then(self._redraw, speaking, self._shown(), **quick)
        self.language.change(None, [self.language], js="(l) => { document.documentElement.lang = l }", **quick)
        self.examples.click(
            self._choose_example,
            [self.checkpoint, self.language],
            [*shown, self.examples],
            trigger_mode="once",
            **quick,
        )
        self.checkpoint.change(self._choose_checkpoint, chosen, [*shown, self.warning, self.card], **quick)
        self.upload.upload(
            self._read_upload,
            [self.upload, self.language],
            [*shown, self.upload, self.examples],
            api_visibility="private",
            show_progress="minimal",
            concurrency_id="read",
            concurrency_limit=2,
        ).failure(lambda: None, None, self.upload, **quick)

        going = self.run.click(
            self._run,
            [*chosen, *self.controls],
            [*shown, self.run, self.stop],
            api_visibility="private",
            show_progress="hidden",
            concurrency_id="model",
            concurrency_limit=1,
            trigger_mode="once",
        )
        going.then(self._idle, None, [self.run, self.stop], **quick)
        self.stop.click(
            self._idle,
            None,
            [self.run, self.stop],
            cancels=[going],
            js="() => window.dispatchEvent(new Event('film-stop'))",
            **quick,
        )
        self.view.change(None, [self.view], None, js=_SHOW_PANEL, **quick)
        self.load.click(
            self._fetch,
            [self.repository, self.revision, self.language],
            [self.loaded, self.checkpoint, self.load],
            api_visibility="private",
            show_progress="hidden",
            concurrency_id="fetch",
            concurrency_limit=2,
            trigger_mode="once",
        )

    def _shown(self) -> list[Any]:
        """All widgets that show a run."""
        plots = [plot for pair in self.plots.values() for plot in pair]
        return [self.view, *self.films.values(), *plots, self.facts, self.file_row, *self.files]

    def _greet(self, subject: object, name: str, request: gr.Request) -> Update:
        language = choose(request.query_params.get("lang"), request.headers.get("accept-language"))
        return {self.language: gr.update(value=language)} | self._relabel(language, subject, name)

    def _relabel(self, language: str, subject: object, name: str) -> Update:
        w = words(language)
        said: Update = {widget: gr.update(**texts(w)) for widget, texts in self.texts.items()}
        said[self.language] = gr.update(value=language, **self.texts[self.language](w))
        return said | {self.examples: wording.thumbnails(_seed(subject), w), **self._checkpoint_words(name, w)}

    def _checkpoint_words(self, name: str | None, w: Words) -> Update:
        warning = wording.warning(self._card(name), w)
        return {
            self.warning: gr.update(value=warning, visible=bool(warning)),
            self.card: wording.card(self._card(name), w),
        }

    def _redraw(self, language: str, subject: object, stage: Recording | None, name: str) -> Update:
        w = words(language)
        return self._replay(stage, w, live=True) if stage is not None else self._waiting(subject, name, w)

    def _choose_example(self, name: str, language: str, event: gr.EventData) -> Update:
        w, seed = words(language), event.seed  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 10**6:
            return {self.examples: gr.skip()}
        return {
            **self._waiting(seed, name, w),
            self.subject: seed,
            self.stage: None,
            self.examples: wording.thumbnails(seed, w),
        }

    def _choose_checkpoint(self, subject: object, name: str, language: str) -> Update:
        w = words(language)
        shown = self._waiting(subject, name, w)
        shown[self.view] |= {"value": "steps"}  # the panel on the screen may not be among the new ones
        return shown | {self.stage: None} | self._checkpoint_words(name, w)

    def _read_upload(self, path: str | None, language: str) -> Update:
        w = words(language)
        if path is None:
            return {self.upload: None}
        try:
            subject = core.upload(path)
        except ValueError as error:
            raise _refusal(w("errors.picture", reason=_reason(error))) from None
        return {
            **self._waiting(subject, "", w),
            self.subject: subject,
            self.stage: None,
            self.upload: None,  # nothing of the file stays, not even its name on the page
            self.examples: wording.thumbnails(None, w),
        }

    def _run(self, subject: object, name: str, language: str, *values: object) -> Iterator[Update]:
        w = words(language)
        film = self.films["steps"]
        yield {self.run: gr.update(interactive=False), self.stop: gr.update(interactive=True), self.view: "steps"}
        opening: Opening | None = None
        try:
            if name is None:
                raise _refusal(w("model.none"))
            target = _target(subject)
            settings = read(values)
            hidden = gr.update(visible=False)
            yield {
                film: views.live(target.opening, None, w, w("run.loading"), 0.0),
                self.facts: "",
                self.file_row: hidden,
            }
            self.session.segmenter(name)
            began = shown = time.perf_counter()
            with closing(self.session.run(name, target, settings)) as events:
                for event in events:
                    match event:
                        case Opening():
                            opening = event
                            status = w("run.anchor" if opening.anchor else "run.looking")
                            yield {film: views.live(opening, None, w, status, 0.0)}
                            began = time.perf_counter()
                        case Frame() as frame:
                            now = time.perf_counter()
                            if frame.index and frame.index + 1 < frame.total and now - shown < 1 / _FRAMES_PER_SECOND:
                                continue
                            shown, done = now, frame.index + 1
                            left = (now - began) / done * (frame.total - done)
                            status = w("run.step", step=done, total=frame.total, t=frame.t, eta=f"{left:.1f}")
                            assert opening is not None
                            yield {film: views.live(opening, frame, w, status, done / frame.total)}
                        case Finished():
                            with TemporaryDirectory() as folder:  # the page's cache keeps copies, for a while
                                paths = core.write(folder, event)
                                files = {
                                    b: gr.update(value=str(paths[n])) for b, n in zip(self.files, _FILES, strict=True)
                                }
                                yield {
                                    **self._replay(event.recording, w, live=True),
                                    **files,
                                    self.file_row: gr.update(visible=True),
                                    self.stage: event.recording,
                                    **self._idle(),
                                }
        except ValueError as error:
            yield self._waiting(subject, "", w) | self._idle()
            raise _refusal(w("errors.settings", reason=_reason(error))) from None

    def _idle(self) -> Update:
        return {self.run: gr.update(interactive=True), self.stop: gr.update(interactive=False)}

    def _fetch(self, repository: str, revision: str, language: str) -> Iterator[Update]:
        w = words(language)
        yield {
            self.loaded: f"<p>{html.escape(w('model.fetching', repository=repository))}</p>",
            self.load: gr.update(interactive=False),
        }
        try:
            name = self.session.fetch(repository, revision)
        except ValueError as error:
            told = html.escape(w("errors.checkpoint", reason=_reason(error)))
            yield {self.loaded: f'<p class="bad" role="alert">{told}</p>', self.load: gr.update(interactive=True)}
            return
        yield {
            self.loaded: f"<p>{html.escape(w('model.loaded', repository=name))}</p>",
            self.checkpoint: gr.update(choices=[*self.session.sources, name], value=name),
            self.load: gr.update(interactive=True),
        }

    # --------------------------------------------------------------------------------------------------------- shows

    def _recorded(self, name: str | None, seed: int | None) -> Recording | None:
        path = catalogue.recordings().get((name or "", -1 if seed is None else seed))
        return catalogue.recording(path) if path else None

    def _waiting(self, subject: object, name: str, w: Words) -> Update:
        """Show a picture before it is run: its recorded run where there is one."""
        recording = self._recorded(name, _seed(subject)) if name else None
        if recording is not None:
            return self._replay(recording, w, live=False)
        target = _target(subject)
        shown: Update = {film: None for film in self.films.values()}
        shown[self.films["steps"]] = views.still(target.opening, w, wording.waiting(target, w))
        shown |= {plot: gr.update(visible=False, value=None) for pair in self.plots.values() for plot in pair}
        shown[self.view] = gr.update(choices=wording.views(None, w), value="steps")
        return shown | {self.facts: "", self.file_row: gr.update(visible=False)}

    def _replay(self, recording: Recording, w: Words, *, live: bool) -> Update:
        """Show a finished run."""
        shown: Update = {
            self.facts: wording.facts(recording, w, live=live),
            self.view: gr.update(choices=wording.views(recording, w)),
        }
        if not live:
            shown[self.file_row] = gr.update(visible=False)
        for panel in panels.PANELS:
            there = panel.needs(recording)
            drawn = (_drawn if live else _kept)(panel, recording, w.language) if there else (None, [])
            film, figures = drawn
            shown[self.films[panel.key]] = gr.update(value=film, visible=bool(film) or panel.key == "steps")
            for i, plot in enumerate(self.plots[panel.key]):
                shown[plot] = gr.update(value=figures[i] if i < len(figures) else None, visible=i < len(figures))
        return shown

    def _card(self, name: str | None) -> catalogue.Card | None:
        return None if name is None else self.session.card(name)

    # ----------------------------------------------------------------------------------------------------- endpoints

    def _endpoints(self) -> None:
        session = self.session

        def segment(
            picture: str, checkpoint: str | None, members: float, steps: float, seed: float, sampler: str, fuse: str
        ) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
            """Segment a picture: label image, probability and disagreement (16-bit PNG) at its own size, and a report.

            Research and teaching only. `checkpoint` is one of those `model_info` lists; the defaults are the page's.
            """
            try:
                given = {"members": members, "steps": steps, "seed": seed, "sampler": sampler, "fuse": fuse}
                settings = read([given.get(c.field, c.default) for c in CONTROLS], trace=False)
                subject = core.upload(picture)
                *_, finished = session.run(checkpoint or next(iter(session.sources), ""), subject, settings)
            except (ValueError, TypeError) as error:
                raise _refusal(_reason(error) + ".") from None
            assert isinstance(finished, Finished)
            with TemporaryDirectory() as folder:
                paths = core.write(folder, finished)
                yield (
                    str(paths["mask"]),
                    str(paths["probability"]),
                    str(paths["disagreement"]),
                    finished.recording.facts,
                )

        def model_info() -> dict[str, Any]:
            """List the checkpoints that `segment` may be asked for, with what each was trained on."""
            return {name: session.card(name).facts() for name in session.sources}

        by_field: dict[str, Any] = {control.field: control for control in CONTROLS}
        inputs: list[Any] = [
            gr.File(label="picture", visible=False),
            gr.Textbox(value=None, label="checkpoint", visible=False),
            *(gr.Number(value=by_field[f].default, label=f, visible=False) for f in ("members", "steps", "seed")),
            *(gr.Textbox(value=by_field[f].default, label=f, visible=False) for f in ("sampler", "fuse")),
        ]
        outputs: list[Any] = [gr.File(label=name, visible=False) for name in _FILES[:3]]
        outputs.append(gr.JSON(label="report", visible=False))
        gr.Button(visible=False).click(
            segment, inputs, outputs, api_name="segment", concurrency_id="model", concurrency_limit=1
        )
        gr.api(model_info, api_name="model_info", queue=False)


def _drawn(panel: panels.Panel, recording: Recording, language: str) -> tuple[dict[str, Any], list[Any]]:
    w, run = words(language), f"{recording.facts['digest'][:8]}-{id(recording)}"
    return panels.cast(panel, recording, w, run), panels.charts_of(panel, recording, w)


_kept = lru_cache(maxsize=64)(_drawn)  # shipped recordings never change, so they are drawn once for all visitors


# -------------------------------------------------------------------------------------------------------------- words


def _panel_texts(key: str) -> Texts:
    return lambda w: {"value": f"<p>{w(f'panel.{key}.text')}</p>"}


def _seed(subject: object) -> int | None:
    match subject:
        case None:
            return catalogue.EXAMPLES[0]
        case int():
            return subject
        case _:
            return None


def _target(subject: object) -> Subject:
    """Turn what the session holds into a picture."""
    if isinstance(subject, Subject):
        return subject
    return core.phantom(_seed(subject) or catalogue.EXAMPLES[0])


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".")


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False, duration=12)
