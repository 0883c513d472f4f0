"""Hold the state of one student's visit: chapter, values of the controls, and progress, for one browser session.

A link restores it: `?chapter=forward&lang=zh&scale=0.2&at=12&hide=seed,kind`. Values in a link are clipped to the range of
their control; missing ones have their defaults. Tasks that a link fulfils are not done: they count once their condition has
been false in between. The browser keeps what `kept` returns, and `restore` reads it back.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from app.course.chapter import Chapter, Seen, defaults, read
from app.course.chapters import CHAPTERS
from app.i18n import LANGUAGES, choose

__all__ = ["OPTIONS", "PREDICTION", "QUESTIONS", "TEACHER", "Visit"]

TEACHER = "teacher"
PREDICTION = "predict"  # the question before the experiment, beside QUESTIONS in `Visit.answers`
QUESTIONS = ("1", "2")  # of each chapter, after it
OPTIONS = ("a", "b", "c")  # of each question
_NOTES_KEPT = 12


@dataclass(slots=True)
class Visit:
    """The state of the page."""

    language: str = "en"
    chapter: str = CHAPTERS[0].key
    hidden: frozenset[str] = frozenset()
    recordings: bool = False
    values: dict[str, dict[str, Any]] = field(default_factory=lambda: {c.key: defaults(c) for c in CHAPTERS})
    places: dict[str, int] = field(default_factory=dict)  # position on the timeline of each chapter, after scrubbing
    done: dict[str, set[str]] = field(default_factory=lambda: {c.key: set() for c in CHAPTERS})
    notebook: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {c.key: [] for c in CHAPTERS})
    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {c.key: {} for c in CHAPTERS})
    answers: dict[str, dict[str, str]] = field(default_factory=lambda: {c.key: {} for c in CHAPTERS})  # by question
    noticed: set[str] = field(default_factory=set)  # chapters whose notes were asked for before any task was done
    restored: bool = False  # whether the browser has sent what it kept
    _linked: str = ""  # the chapter opened by a link, until its tasks are judged for the first time
    _given: dict[str, set[str]] = field(
        default_factory=lambda: {c.key: set() for c in CHAPTERS}
    )  # fulfilled by the link

    @classmethod
    def begin(cls, query: Mapping[str, str], locale: str | None) -> "Visit":
        """Create a visit from the query parameters of a link, clipping its values."""
        visit = cls(language=choose(query.get("lang"), locale))
        keys = {c.key for c in CHAPTERS} | {TEACHER}
        visit.chapter = query["chapter"] if query.get("chapter") in keys else visit.chapter
        visit.hidden = frozenset(name for name in query.get("hide", "").split(",") if name)
        visit.recordings = query.get("mode") == "recordings"
        for chapter in CHAPTERS:
            if chapter.key == visit.chapter:
                for control in chapter.controls:
                    if control.field in query:
                        visit.values[chapter.key][control.field] = read(control, query[control.field])
        visit._linked = visit.chapter
        if query.get("at", "").isdigit():
            visit.places[visit.chapter] = min(int(query["at"]), 999)
        return visit

    def query(self, hide: Iterable[str] = (), *, controls: bool = True) -> dict[str, str]:
        """Return the visit as query parameters of a link."""
        query = {"chapter": self.chapter, "lang": self.language}
        if self.recordings:
            query["mode"] = "recordings"
        chapter = next((c for c in CHAPTERS if c.key == self.chapter), None)
        if controls and chapter:
            for control in chapter.controls:
                value = self.values[chapter.key][control.field]
                if value != control.default:
                    query[control.field] = _text(value)
            if self.chapter in self.places:
                query["at"] = str(self.places[self.chapter])
        return query | ({"hide": ",".join(sorted(hide))} if hide else {})

    def link(self, address: str, hide: Iterable[str] = ()) -> str:
        """Return the link as a URL."""
        return f"{address}?{urlencode(self.query(hide), safe=',')}"

    def change(self, chapter: Chapter, values: Mapping[str, Any]) -> None:
        """Store the values of the controls; a change resets the position on the timeline."""
        if values != self.values[chapter.key]:
            self.places.pop(chapter.key, None)
            self.values[chapter.key] = dict(values)

    def judge(self, chapter: Chapter, seen: Seen) -> bool:
        """Mark the tasks that are done, add a row to the notebook, and return whether a new task was done.

        Tasks that the fact `skipped` names count as done, because what they need is not here. Without facts, nothing was
        computed (a replay or an error), and nothing is marked.
        """
        facts = dict(seen.facts) | self.facts[chapter.key]
        arrived, self._linked = self._linked == chapter.key, ""
        if not seen.facts:
            return False
        values = self.values[chapter.key] | {"at": self.places.get(chapter.key)}
        before = len(self.done[chapter.key])
        fulfilled = {task.key for task in chapter.tasks if task.done(values, facts)}
        if arrived:
            self._given[chapter.key] = set(fulfilled)
        self._given[chapter.key] &= fulfilled
        self.done[chapter.key] |= set(facts.get("skipped", ()))
        self.done[chapter.key] |= fulfilled - self._given[chapter.key]
        row = {name: (values | facts).get(name) for name in chapter.log}
        notes = self.notebook[chapter.key]
        if row and (not notes or notes[0] != row):
            self.notebook[chapter.key] = [row, *(n for n in notes if n != row)][:_NOTES_KEPT]
        return len(self.done[chapter.key]) > before

    def finished(self, chapter: Chapter) -> bool:
        """Return whether all tasks of a chapter are done."""
        return self.done[chapter.key] >= {task.key for task in chapter.tasks}

    def kept(self) -> str:
        """Return tasks done and answers as JSON, for the browser to keep."""
        return json.dumps(
            {
                c.key: {"done": sorted(self.done[c.key]), "answers": self.answers[c.key]}
                for c in CHAPTERS
                if self.done[c.key] or self.answers[c.key]
            }
        )

    def restore(self, text: str) -> None:
        """Add the tasks and answers that the browser kept; anything that is not part of the course is ignored."""
        self.restored = True
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            return
        for chapter in CHAPTERS:
            own = found.get(chapter.key) if isinstance(found, dict) else None
            if not isinstance(own, dict):
                continue
            done, answers = own.get("done"), own.get("answers")
            self.done[chapter.key] |= {t.key for t in chapter.tasks if isinstance(done, list) and t.key in done}
            if isinstance(answers, dict):
                valid = {n: answers[n] for n in (PREDICTION, *QUESTIONS) if answers.get(n) in OPTIONS}
                self.answers[chapter.key] = valid | self.answers[chapter.key]

    def forget(self) -> None:
        """Remove tasks done and answers, and hide the notes again."""
        self.noticed.clear()
        for chapter in CHAPTERS:
            self.done[chapter.key].clear()
            self.answers[chapter.key].clear()

    def set_language(self, language: str) -> None:
        """Change the language, if it is a known one."""
        self.language = language if language in LANGUAGES else self.language


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
