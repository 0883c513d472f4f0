"""Hold the state shared by all tabs: the visitor's choices, the run on the screen, and the language.

The image and the last run of a visitor are kept in two `gr.State` of the browser session; models are shared. A tab is
rendered when it is opened, so a run sends the images of one tab only.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.core import catalogue
from app.core.frames import Recording
from app.core.session import FinishedRun, Session
from app.i18n import Words, words
from app.inputs.images import InputImage, phantom
from app.inputs.volumes import VolumeCache

__all__ = [
    "BUSY",
    "QUICK",
    "SILENT",
    "LatestRequest",
    "LocalizedWidgets",
    "PageState",
    "Selection",
    "Tab",
    "TabCache",
    "Texts",
    "Update",
    "in_turn",
    "refusal",
    "refusing",
]

Update = dict[Any, Any]
TabCache = dict[str, object]
"""For each tab, the image and checkpoint (or classes) of its current content, which is kept while they are unchanged."""

Texts = Callable[[Words], dict[str, Any]]

SILENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Options of events that show their own progress.

By default Gradio shows a status on every output of an event at every update, and copies the films and charts for it. On a
slow browser this takes all of its time.
"""

QUICK: dict[str, Any] = {**SILENT, "queue": False}
"""Options of fast events: they do not wait in the queue behind runs."""

BUSY: dict[str, Any] = {
    **SILENT,
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "trigger_mode": "once",
}
"""Options of events that run a network: one at a time per server, the others wait in the queue."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The current selection: an image, a checkpoint, and a finished or recorded run if there is one."""

    target: InputImage
    checkpoint: str | None
    recording: Recording | None
    finished_run: FinishedRun | None  # None if `recording` is a shipped recording
    tab_cache: TabCache = field(default_factory=dict)

    @property
    def labels(self) -> Any:
        """The mask at the original size of the image; None without a run."""
        if self.finished_run is not None:
            return self.finished_run.labels
        return None if self.recording is None else self.recording.outcome.labels

    @property
    def members(self) -> Any:
        """The masks of the members at the original size of the image."""
        if self.finished_run is not None:
            return self.finished_run.members
        return () if self.recording is None else self.recording.outcome.members


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab of the page: its widgets, and the function that shows a selection."""

    key: str
    widgets: list[Any]
    show: Callable[[Selection, Words], Update]


class LocalizedWidgets:
    """Create widgets with text in every language: `localized(gr.Button, lambda w: {"value": w("run.button")}, size="sm")`."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        self.texts: dict[Any, Texts] = {}  # of every widget with text

    def __call__(self, kind: Callable[..., Any], texts: Texts, **fixed: Any) -> Any:
        """Create a widget, and register its text for changes of language."""
        widget = kind(**texts(words("en")), **fixed)
        self.texts[widget] = texts
        return widget


@dataclass(slots=True)
class LatestRequest:
    """The latest choices of one visitor, shared by overlapping events so that an outdated one can stop."""

    checkpoint: str | None = None  # None: the initial one
    pictures: int = 0  # number of images shown so far
    slices: int = 0  # number of slices shown so far
    language: str | None = None  # None: the initial one

    def words(self, language: str) -> Words:
        """Return the texts in the latest chosen language, or in `language`."""
        return words(self.language or language)

    def until_another(
        self, name: str | None, updates: Iterator[Update], *, of_volume: bool = False
    ) -> Iterator[Update]:
        """Yield the updates of a run until another image, slice or checkpoint is chosen.

        Later updates would not match the selection. With `of_volume`, the run continues when another slice is chosen.
        """
        pictures, slices = self.pictures, self.slices
        with closing(updates):  # pyright: ignore[reportArgumentType]  generators are
            for update in updates:
                moved = self.slices != slices and not of_volume
                if self.pictures != pictures or moved or self.checkpoint not in (None, name):
                    return
                yield update


@dataclass(slots=True)
class PageState:
    """Widgets and states shared by several tabs, and the localised widgets of all."""

    session: Session
    demo: gr.Blocks
    language: Any = None
    checkpoint: Any = None
    controls: list[Any] = field(default_factory=list)  # in the order of settings.CONTROLS
    tab: Any = None  # the radio that selects the tab
    image: Any = None  # state: None (the first example), a seed, or an InputImage
    finished_run: Any = None  # state: the visitor's last FinishedRun, or None
    volume_cache: VolumeCache = field(default_factory=VolumeCache)  # uploaded volumes
    named: Any = None  # state: the checkpoint of the selection shown
    latest: Any = None  # state: a LatestRequest, mutated in place so that running events see the change
    fetched: Any = None  # the event that loads a checkpoint from the Hub
    drawn: Any = None  # state: keys of the tabs that already show the selection
    tab_cache: Any = None  # state: a TabCache
    tabs: dict[str, Tab] = field(default_factory=dict)
    localized: LocalizedWidgets = field(default_factory=LocalizedWidgets)

    def states(self) -> None:
        """Create the session states, which expire after an hour."""
        self.image, self.finished_run = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600)
        self.drawn = gr.State((), time_to_live=3600)
        self.tab_cache = gr.State({}, time_to_live=3600)
        self.latest = gr.State(LatestRequest(), time_to_live=3600)
        self.named = gr.State(self.opening.checkpoint, time_to_live=3600)

    @property
    def texts(self) -> dict[Any, Texts]:
        """The localised text of every widget."""
        return self.localized.texts

    @property
    def opening(self) -> Selection:
        """The initial selection."""
        return self.selection(None, None, next(iter(self.session.sources), None))

    @property
    def seen(self) -> list[Any]:
        """The inputs from which event handlers build a selection, preceded by the language."""
        return [self.language, self.image, self.finished_run, self.checkpoint]

    @property
    def shown(self) -> list[Any]:
        """All widgets and states that change with the selection."""
        widgets = [widget for tab in self.tabs.values() for widget in tab.widgets]
        return [self.tab, *widgets, self.image, self.finished_run, self.named, self.drawn, self.tab_cache]

    def selection(
        self, image: object, finished_run: FinishedRun | None, name: str | None, tab_cache: TabCache | None = None
    ) -> Selection:
        """Build the selection from the session states."""
        if isinstance(image, InputImage):
            target, seed = image, None
        else:
            seed = image if isinstance(image, int) else catalogue.EXAMPLES[0]
            target = phantom(seed, self.session.task(name))
        path = None if finished_run or seed is None else catalogue.recordings().get((name or "", seed))
        recording = finished_run.recording if finished_run else catalogue.recording(path) if path else None
        return Selection(target, name, recording, finished_run, tab_cache or {})

    def draw(self, key: str, selection: Selection, w: Words) -> Update:
        """Show a selection in one tab, and mark the other tabs as outdated."""
        return self.tabs[key].show(selection, w) | {self.drawn: (key,)}

    def enter(
        self,
        key: str,
        drawn: tuple[str, ...],
        tab_cache: TabCache,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
    ) -> Update:
        """Show the selection in a tab that was opened, unless it is up to date."""
        if key in drawn or key not in self.tabs:
            return {self.drawn: gr.skip()}
        shown = self.tabs[key].show(self.selection(image, finished_run, name, tab_cache), words(language))
        return shown | {self.drawn: (*drawn, key)}


def in_turn(page: PageState, updates: Iterator[Update], waiting: Update) -> Iterator[Update]:
    """Pass on what a run shows once it is its turn; until then repeat an update that says that it waits."""
    with page.session.turns.place() as ahead, closing(updates):  # pyright: ignore[reportArgumentType]  generators are
        while ahead(0.5):
            yield waiting
        for update in updates:
            ahead(0)
            yield update


def refusal(sentence: str, w: Words | None = None) -> gr.Error:
    """Create the error that the page shows as a message; without a language, in English for API clients."""
    title = (w or words("en"))("errors.title")
    return gr.Error(sentence, title=title, print_exception=False, duration=12)


@contextmanager
def refusing(w: Words, key: str) -> Iterator[None]:
    """Convert a ValueError to an error message in the visitor's language; `key` is the message with a {reason}."""
    try:
        yield
    except gr.Error:  # already a message
        raise
    except ValueError as error:
        raise refusal(w.because(key, error), w) from None
