"""One student's visit: where they are, how the controls stand, what they have done. Lives in one browser session, no longer.

A link restores it: `?chapter=forward&lang=zh&scale=0.2&at=12&hide=seed,kind`. Whatever a link says is brought back into what
the control allows; what it does not say is as the chapter begins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from app.course.chapter import Chapter, Seen, defaults, read
from app.course.chapters import CHAPTERS
from app.i18n import LANGUAGES, choose

__all__ = ["TEACHER", "Visit"]

TEACHER = "teacher"
_NOTES_KEPT = 12


@dataclass(slots=True)
class Visit:
    """All that a page remembers."""

    language: str = "en"
    chapter: str = CHAPTERS[0].key
    hidden: frozenset[str] = frozenset()
    recordings: bool = False
    values: dict[str, dict[str, Any]] = field(default_factory=lambda: {c.key: defaults(c) for c in CHAPTERS})
    places: dict[str, int] = field(default_factory=dict)  # on the time line of each chapter, once touched
    done: dict[str, set[str]] = field(default_factory=lambda: {c.key: set() for c in CHAPTERS})
    notebook: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {c.key: [] for c in CHAPTERS})
    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {c.key: {} for c in CHAPTERS})

    @classmethod
    def begin(cls, asked: Mapping[str, str], locale: str | None) -> "Visit":
        """Start from a link, clamping what it says."""
        visit = cls(language=choose(asked.get("lang"), locale))
        keys = {c.key for c in CHAPTERS} | {TEACHER}
        visit.chapter = asked["chapter"] if asked.get("chapter") in keys else visit.chapter
        visit.hidden = frozenset(name for name in asked.get("hide", "").split(",") if name)
        visit.recordings = asked.get("mode") == "recordings"
        for chapter in CHAPTERS:
            if chapter.key == visit.chapter:
                for control in chapter.controls:
                    if control.field in asked:
                        visit.values[chapter.key][control.field] = read(control, asked[control.field])
        if asked.get("at", "").isdigit():
            visit.places[visit.chapter] = min(int(asked["at"]), 999)
        return visit

    def asked(self, hide: Iterable[str] = (), *, controls: bool = True) -> dict[str, str]:
        """Say the visit as the parameters of a link."""
        told = {"chapter": self.chapter, "lang": self.language}
        if self.recordings:
            told["mode"] = "recordings"
        chapter = next((c for c in CHAPTERS if c.key == self.chapter), None)
        if controls and chapter:
            for control in chapter.controls:
                value = self.values[chapter.key][control.field]
                if value != control.default:
                    told[control.field] = _said(value)
            if self.chapter in self.places:
                told["at"] = str(self.places[self.chapter])
        return told | ({"hide": ",".join(sorted(hide))} if hide else {})

    def link(self, address: str, hide: Iterable[str] = ()) -> str:
        """Write the link."""
        return f"{address}?{urlencode(self.asked(hide), safe=',')}"

    def change(self, chapter: Chapter, values: Mapping[str, Any]) -> None:
        """Take over the controls; the time line begins anew where one of them moved."""
        if values != self.values[chapter.key]:
            self.places.pop(chapter.key, None)
            self.values[chapter.key] = dict(values)

    def judge(self, chapter: Chapter, seen: Seen) -> bool:
        """Tick the tasks that are done now and write the notebook; tell whether anything new was done.

        Where there are no facts, nothing was computed: a replay, or something that was refused.
        """
        facts = dict(seen.facts) | self.facts[chapter.key]
        if not facts:
            return False
        values = self.values[chapter.key] | {"at": self.places.get(chapter.key)}
        before = len(self.done[chapter.key])
        self.done[chapter.key] |= {task.key for task in chapter.tasks if task.done(values, facts)}
        row = {name: (values | facts).get(name) for name in chapter.log}
        notes = self.notebook[chapter.key]
        if row and (not notes or notes[0] != row):
            self.notebook[chapter.key] = [row, *(n for n in notes if n != row)][:_NOTES_KEPT]
        return len(self.done[chapter.key]) > before

    def finished(self, chapter: Chapter) -> bool:
        """Tell whether every task of a chapter is done."""
        return self.done[chapter.key] >= {task.key for task in chapter.tasks}

    def speak(self, language: str) -> None:
        """Change the language."""
        self.language = language if language in LANGUAGES else self.language


def _said(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_said, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
