"""What the rooms of one page share: the visitor's choices, the run on the screen, the language.

A visitor's picture and last run live in the session's memory, in two states; models are shared. A room is drawn when
somebody looks at it and not before, so a run sends one room's pictures, not all.
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
    "refusal",
    "refusing",
]

Update = dict[Any, Any]
TabCache = dict[str, object]
"""By room, what its painting or comparison was made of; where the scene is of that still, the room keeps it."""

Texts = Callable[[Words], dict[str, Any]]

SILENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Of events that show themselves how far they are.

Left to itself, Gradio's page writes the state of an event on everything that it may change, at every step of a run, and
copies the films and charts there for it: a browser at a sixth of a desk's speed did nothing else.
"""

QUICK: dict[str, Any] = {**SILENT, "queue": False}
"""Of events that only look something up: they never wait for a run."""

BUSY: dict[str, Any] = {
    **SILENT,
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "trigger_mode": "once",
}
"""Of events that run a network: one at a time on this server, the others wait in line."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is on the screen: a picture, the checkpoint chosen for it, and a finished run where there is one."""

    target: InputImage
    checkpoint: str | None
    recording: Recording | None
    finished_run: FinishedRun | None  # None: `recording` is a shipped one
    tab_cache: TabCache = field(default_factory=dict)

    @property
    def labels(self) -> Any:
        """The mask at the picture's own size: of this run, or of the recording, whose picture is as small as that."""
        if self.finished_run is not None:
            return self.finished_run.labels
        return None if self.recording is None else self.recording.outcome.labels

    @property
    def members(self) -> Any:
        """The members' masks at the picture's own size."""
        if self.finished_run is not None:
            return self.finished_run.members
        return () if self.recording is None else self.recording.outcome.members


@dataclass(frozen=True, slots=True)
class Tab:
    """One place of the page: what may change in it, and how it shows a scene."""

    key: str
    widgets: list[Any]
    show: Callable[[Selection, Words], Update]


class LocalizedWidgets:
    """Create widgets with text in every language: `localized(gr.Button, lambda w: {"value": w("run.button")}, size="sm")`."""

    __slots__ = ("texts",)

    def __init__(self) -> None:
        self.texts: dict[Any, Texts] = {}  # of every widget that says something

    def __call__(self, kind: Callable[..., Any], texts: Texts, **fixed: Any) -> Any:
        """Make a widget, and remember how it says what it says in any language."""
        widget = kind(**texts(words("en")), **fixed)
        self.texts[widget] = texts
        return widget


@dataclass(slots=True)
class LatestRequest:
    """What one visitor chose last. Choices overlap on their way, and the one that ends last need not be the last one made."""

    checkpoint: str | None = None  # None: none has been chosen yet
    pictures: int = 0  # brought so far
    slices: int = 0  # of volumes, looked at so far
    language: str | None = None  # None: still that of the greeting

    def words(self, language: str) -> Words:
        """Speak the language that has been chosen since, or this one."""
        return words(self.language or language)

    def until_another(
        self, name: str | None, updates: Iterator[Update], *, of_volume: bool = False
    ) -> Iterator[Update]:
        """Pass on what a run shows, and end it when another picture, slice or checkpoint is chosen.

        What it would still show is not of what is on the screen. A run of all slices outlasts the choice of one.
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
    """The widgets that more than one room looks at, and the words of all."""

    session: Session
    demo: gr.Blocks
    language: Any = None
    checkpoint: Any = None
    controls: list[Any] = field(default_factory=list)  # in the order of settings.CONTROLS
    tab: Any = None  # the radio that says which room is on the screen
    image: Any = None  # None: the first drawn picture; a seed; a picture of one's own
    finished_run: Any = None  # the visitor's own finished run, or None
    volume_cache: VolumeCache = field(default_factory=VolumeCache)  # visitors' volumes
    named: Any = None  # the checkpoint of the scene on the screen
    latest: Any = None  # never replaced: what one event notes in it, those under way see
    fetched: Any = None  # the event that a checkpoint came from the Hub
    drawn: Any = None  # keys of the rooms that already show the scene
    tab_cache: Any = None  # what a new run of the same picture takes away from no room
    tabs: dict[str, Tab] = field(default_factory=dict)
    localized: LocalizedWidgets = field(default_factory=LocalizedWidgets)

    def states(self) -> None:
        """Lay the states; they forget after an hour."""
        self.image, self.finished_run = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600)
        self.drawn = gr.State((), time_to_live=3600)
        self.tab_cache = gr.State({}, time_to_live=3600)
        self.latest = gr.State(LatestRequest(), time_to_live=3600)
        self.named = gr.State(self.opening.checkpoint, time_to_live=3600)

    @property
    def texts(self) -> dict[Any, Texts]:
        """How every widget says what it says."""
        return self.localized.texts

    @property
    def opening(self) -> Selection:
        """The scene of a page just opened."""
        return self.selection(None, None, next(iter(self.session.sources), None))

    @property
    def seen(self) -> list[Any]:
        """The inputs that make a scene, after the language."""
        return [self.language, self.image, self.finished_run, self.checkpoint]

    @property
    def shown(self) -> list[Any]:
        """All widgets that show a scene, and the states that hold it."""
        widgets = [widget for tab in self.tabs.values() for widget in tab.widgets]
        return [self.tab, *widgets, self.image, self.finished_run, self.named, self.drawn, self.tab_cache]

    def selection(
        self, image: object, finished_run: FinishedRun | None, name: str | None, tab_cache: TabCache | None = None
    ) -> Selection:
        """Turn what the session holds into a scene."""
        if isinstance(image, InputImage):
            target, seed = image, None
        else:
            seed = image if isinstance(image, int) else catalogue.EXAMPLES[0]
            target = phantom(seed, self.session.task(name))
        path = None if finished_run or seed is None else catalogue.recordings().get((name or "", seed))
        recording = finished_run.recording if finished_run else catalogue.recording(path) if path else None
        return Selection(target, name, recording, finished_run, tab_cache or {})

    def draw(self, key: str, selection: Selection, w: Words) -> Update:
        """Show a scene in one room, and note that the others have not seen it yet."""
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
        """Show the scene in a room that somebody looks at, unless it does already."""
        if key in drawn or key not in self.tabs:
            return {self.drawn: gr.skip()}
        shown = self.tabs[key].show(self.selection(image, finished_run, name, tab_cache), words(language))
        return shown | {self.drawn: (*drawn, key)}


def refusal(sentence: str, w: Words | None = None) -> gr.Error:
    """Make of a sentence what the page shows when something cannot be done; without a language, for a program."""
    title = (w or words("en"))("errors.title")
    return gr.Error(sentence, title=title, print_exception=False, duration=12)


@contextmanager
def refusing(w: Words, key: str) -> Iterator[None]:
    """Turn what our own packages refuse into one sentence on the page, in the visitor's language."""
    try:
        yield
    except gr.Error:  # a sentence already
        raise
    except ValueError as error:
        raise refusal(w.because(key, error), w) from None
