"""Hold what all tabs share: the state of the visitor, the shared controls, the models, and what is selected.

The image and the last run of a visitor are kept in two `gr.State` of the browser session; models are shared. A tab is
rendered when it is opened, so a run sends the images of one tab only.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.core import catalogue
from app.core.frames import Recording
from app.core.session import FinishedRun, Session
from app.gradio_ui.controls import LocalizedWidgets, SharedControls
from app.gradio_ui.events import Update, Updates
from app.i18n import LANGUAGES, Words, words
from app.inputs.images import InputImage, phantom
from app.inputs.volumes import VolumeCache

__all__ = ["LatestRequest", "PageState", "Selection", "SessionStates", "Tab", "TabCache", "in_every_language"]


def in_every_language(shown: Callable[[Words], Update]) -> dict[str, Update]:
    """Return what is shown, by language."""
    return {language: shown(words(language)) for language in LANGUAGES}


TabCache = dict[str, object]
"""For each tab, the image and checkpoint (or classes) of its current content, which is kept while they are unchanged;
under `given_mask`, the reference mask that the visitor gave for the image, and its source."""


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


@dataclass(slots=True)
class LatestRequest:
    """The latest choices of one visitor, shared by overlapping events so that an outdated one can stop."""

    checkpoint: str | None = None  # None: the initial one
    pictures: int = 0  # number of images shown so far
    slices: int = 0  # number of slices shown so far
    language: str | None = None  # None: the initial one
    tab: str = "run"
    chosen: bool = False  # whether the visitor has chosen an image or a checkpoint
    image: object = None  # the chosen one
    finished_run: FinishedRun | None = None  # of the chosen image
    under_way: list[None] = field(default_factory=list)  # one for each choice that is being shown
    texts: dict[str, Update] = field(default_factory=dict)  # by language, what `keep` has been given

    def keep(self, shown: dict[str, Update]) -> None:
        """Keep what is shown, in every language, for when another language is chosen."""
        for language, update in shown.items():
            self.texts.setdefault(language, {}).update(update)

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Hold back what needs the selection, such as a run, while a choice is being shown."""
        self.under_way.append(None)
        try:
            yield
        finally:
            self.under_way.pop()

    def choose(self, image: object) -> None:
        """Set the image that has been chosen; it has not been run yet."""
        self.chosen, self.image, self.finished_run = True, image, None

    def ran(self, image: object, name: str, finished_run: FinishedRun) -> None:
        """Keep the run of an image, unless another image or checkpoint has been chosen meanwhile."""
        if self.checkpoint in (None, name) and (not self.chosen or image == self.image):
            self.finished_run = finished_run

    def wait(self) -> None:
        """Wait for a choice that is being shown, at most ten seconds."""
        until = time.monotonic() + 10
        while self.under_way and time.monotonic() < until:
            time.sleep(0.02)

    def words(self, language: str) -> Words:
        """Return the texts in the latest chosen language, or in `language`."""
        return words(self.language or language)

    def until_another(self, name: str | None, updates: Updates, *, of_volume: bool = False) -> Updates:
        """Yield the updates of a run until another image, slice or checkpoint is chosen.

        Later updates would not match the selection. With `of_volume`, the run continues when another slice is chosen.
        """
        pictures, slices = self.pictures, self.slices
        with closing(updates):
            for update in updates:
                moved = self.slices != slices and not of_volume
                if self.pictures != pictures or moved or self.checkpoint not in (None, name):
                    return
                yield update

    def unless_another(self, name: str | None, act: Callable[[], Update], otherwise: Update) -> Update:
        """Return what an event changes, or `otherwise` if another image, slice or checkpoint is chosen meanwhile."""
        before = self.pictures, self.slices
        update = act()
        return update if (self.pictures, self.slices) == before and self.checkpoint in (None, name) else otherwise


@dataclass(frozen=True, slots=True)
class SessionStates:
    """What the server keeps of a visitor between events, for an hour."""

    image: gr.State  # None (the first example), a seed, or an InputImage
    finished_run: gr.State  # the visitor's last FinishedRun, or None
    named: gr.State  # the checkpoint of the selection shown
    latest: gr.State  # a LatestRequest, mutated in place so that running events see the change
    drawn: gr.State  # keys of the tabs that already show the selection
    tab_cache: gr.State  # a TabCache

    @classmethod
    def create(cls, checkpoint: str | None) -> "SessionStates":
        """Create the states of a visitor who has done nothing yet."""
        initial = {"image": None, "finished_run": None, "named": checkpoint, "latest": LatestRequest()}
        initial |= {"drawn": (), "tab_cache": {}}
        return cls(**{name: gr.State(value, time_to_live=3600) for name, value in initial.items()})


@dataclass(frozen=True, slots=True)
class PageState:
    """What the parts of the page share."""

    session: Session
    demo: gr.Blocks
    localized: LocalizedWidgets
    controls: SharedControls
    states: SessionStates
    volume_cache: VolumeCache = field(default_factory=VolumeCache)  # uploaded volumes
    tabs: dict[str, Tab] = field(default_factory=dict)  # by key, in the order in which they are built

    @property
    def opening(self) -> Selection:
        """The initial selection."""
        return self.selection(None, None, next(iter(self.session.sources), None))

    @property
    def seen(self) -> list[Any]:
        """The inputs from which event handlers build a selection, preceded by the language."""
        return [
            self.controls.language,
            self.states.image,
            self.states.finished_run,
            self.controls.checkpoint,
        ]

    @property
    def shown(self) -> list[Any]:
        """All widgets and states that change with the selection."""
        states = self.states
        kept = [states.image, states.finished_run, states.named, states.drawn, states.tab_cache]
        return [self.controls.tab, *self.tab_widgets, *kept]

    @property
    def tab_widgets(self) -> list[Any]:
        """The widgets of all tabs that change with the selection."""
        return [widget for tab in self.tabs.values() for widget in tab.widgets]

    def selection(
        self, image: object, finished_run: FinishedRun | None, name: str | None, tab_cache: TabCache | None = None
    ) -> Selection:
        """Build the selection from the session states."""
        if isinstance(image, InputImage):
            target, seed = image, None
        else:
            seed = image if isinstance(image, int) else self.first(name)
            target = phantom(seed, self.session.task(name))
        path = None if finished_run or seed is None else catalogue.recordings().get((name or "", seed))
        recording = finished_run.recording if finished_run else catalogue.recording(path) if path else None
        return Selection(target, name, recording, finished_run, tab_cache or {})

    def current(self, latest: LatestRequest, inputs: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """Return the values of the inputs of an event, with the latest image and its run.

        An event that begins while a choice is being shown has received the image of the choice before.
        """
        latest.wait()
        held = {self.states.image: latest.image, self.states.finished_run: latest.finished_run} if latest.chosen else {}
        return [held.get(widget, value) for widget, value in zip(inputs, values, strict=True)]

    def first(self, name: str | None) -> int:
        """Return the seed of the first example for a checkpoint."""
        return catalogue.examples(self.session.task(name))[0]

    def draw(self, key: str, selection: Selection, w: Words) -> Update:
        """Show a selection in one tab, and mark the other tabs as outdated."""
        return self.tabs[key].show(selection, w) | {self.states.drawn: (key,)}

    def enter(
        self,
        latest: LatestRequest,
        key: str,
        drawn: tuple[str, ...],
        tab_cache: TabCache,
        named: str | None,
        language: str,
        image: object,
        finished_run: FinishedRun | None,
        name: str | None,
    ) -> Update:
        """Show the selection in a tab that was opened, unless it is up to date."""
        unchanged: Update = {self.states.drawn: gr.skip()}
        if key not in self.tabs:
            return unchanged
        latest.tab = key
        latest.wait()
        if latest.chosen and image != latest.image:  # of a choice that has been shown meanwhile
            drawn, tab_cache, image, finished_run = (), {}, latest.image, latest.finished_run
        elif name != named:  # the states are those of the checkpoint before
            drawn, tab_cache, finished_run = (), {}, None
        if key in drawn:
            return unchanged

        def show() -> Update:
            selection = self.selection(image, finished_run, name, tab_cache)
            return self.tabs[key].show(selection, latest.words(language)) | {self.states.drawn: (*drawn, key)}

        return latest.unless_another(name, show, unchanged)
