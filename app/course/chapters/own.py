"""Chapter 10. Run the model on an image of your own."""

from app.core.frames import Recording
from app.core.settings import CONTROLS, Flags
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Task, Values
from app.i18n import Words
from app.views.panels import PANELS, charts_of, film_of

__all__ = ["CHAPTER", "facts_of", "show"]

_ALL = next(c for c in CONTROLS if isinstance(c, Flags)).default


def show(recording: Recording, words: Words, run: str) -> dict[str, Seen]:
    """Build the content of every panel of a run, by title."""
    return {
        words(f"panel.{panel.key}.title"): Seen(
            tuple(made for made in [film_of(panel, recording, words, run)] if made),
            tuple(charts_of(panel, recording, words)),
            (Fact("", words(f"panel.{panel.key}.text")),),
        )
        for panel in PANELS
        if panel.needs(recording)
    }


def facts_of(recording: Recording, own: bool) -> dict[str, object]:
    """Collect the facts of a finished run that the tasks use."""
    settings = recording.facts["settings"]
    return {
        "ran": True,
        "own": own,
        "off": not all(settings["switches"][name] for name in _ALL),
        "members": settings["members"],
        "steps": settings["steps"],
        "seed": settings["seed"],
        "disagreement": round(recording.facts["disagreement"], 4),
        "seconds": recording.facts["seconds"],
    }


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    """Return no content: the front end shows the visitor's run."""
    return Seen()


CHAPTER = Chapter(
    key="own",
    see=_see,
    controls=CONTROLS,
    tasks=(
        Task("run", lambda v, f: bool(f.get("ran"))),
        Task("members", lambda v, f: f.get("members", 0) >= 10),
        Task("off", lambda v, f: bool(f.get("off"))),
    ),
    equations=(Equation(r"\epsilon_\theta(x_t,I,t)=D\bigl((E^I_t+E^x_t,\,t),\,t\bigr)", "V1 eq. 2"),),
    sources=("medsegdiff.pipeline:Segmenter.run",),
    fidelity=("F26", "F27", "F7b"),
    blocks=("image",),
    minutes=20,
    answers=("c", "b"),
    prediction="c",
    log=("members", "steps", "seed", "disagreement", "seconds"),
)
