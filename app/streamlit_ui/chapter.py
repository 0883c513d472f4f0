"""Show one chapter; all share the same layout, and two have a body of their own."""

import html
from collections.abc import Callable

import streamlit as st

from app.core import catalogue
from app.core.frames import Recording
from app.course.bench import Bench
from app.course.chapter import Chapter, Seen, source
from app.course.chapters import CHAPTERS
from app.course.glossary import Glossary, rows
from app.course.visit import OPTIONS, PREDICTION, QUESTIONS, Visit
from app.i18n import Words
from app.streamlit_ui import live, widgets
from app.streamlit_ui.symbols import listed
from app.views import descriptions
from app.views.panels import PANELS, Panel, charts_of, film_of

__all__ = ["equations", "page", "recorded", "replayed", "seen_in", "seen_of"]

_BODIES: dict[str, Callable[[Bench, Chapter, Visit, Words], Seen]] = {"training": live.training, "own": live.own}
_FORMULAS = {"raters", "forward"}  # need no network and stay interactive


def replayed(bench: Bench, chapter: Chapter, visit: Visit) -> bool:
    """Return whether a chapter replays recordings: on request, or without a checkpoint for it."""
    if chapter.key in _FORMULAS:
        return False
    if visit.recordings:
        return True
    if chapter.key == "own":
        return not bench.session.sources
    return bool(chapter.kind) and bench.checkpoint(chapter.kind) is None


def seen_of(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Compute the content of a chapter for the current values of its controls."""
    values = visit.values[chapter.key] | {"at": visit.places.get(chapter.key), "recorded": visit.recordings}
    with bench.turn:
        return chapter.see(bench, values, w)


def page(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Show a chapter, from its question to its link, and return its content."""
    number = next(i for i, c in enumerate(CHAPTERS, 1) if c.key == chapter.key)
    c, mark = f"course.{chapter.key}", Glossary(w.language)
    above = (
        f"{w('course.chapter', number=number, total=len(CHAPTERS))} · {w('course.minutes', minutes=chapter.minutes)}"
    )
    st.html(
        f"<p class=above>{html.escape(above)}</p><h1 class=question>{html.escape(w(f'{c}.title'))}</h1>"
        f"<p class=ask>{mark(w(f'{c}.question'))}</p>"
    )
    _choice(chapter, visit, w, PREDICTION, f"**{w('course.predict')}** · {w(f'{c}.predict')}", f"{c}.predict", row=True)
    replay = replayed(bench, chapter, visit)
    with st.container(key="lesson"):
        left, right = st.columns([1, 2.5], gap="large")
    with left, st.container(key="side"):
        if not replay and chapter.controls:
            _drawer(chapter, visit, w)
        box = st.container()
    before = visit.finished(chapter)
    with right:
        reading = st.container(key="reading")
    with reading:
        seen = _body(bench, chapter, visit, w, replay, mark)
    new = visit.judge(chapter, seen) or visit.finished(chapter) != before
    with box:
        if replay:
            widgets.tasks([(w("course.replay_task"), visit.finished(chapter))], w("course.tasks"), w("course.done"))
        else:
            done, skipped = visit.done[chapter.key], seen.facts.get("skipped", ())
            rows = [(w(f"{c}.task_{t.key}"), t.key in done) for t in chapter.tasks if t.key not in skipped]
            widgets.tasks(rows, w("course.tasks"), w("course.done"))
    with reading:
        _notice(chapter, visit, w, c, mark)
        st.html(f"<h3>{html.escape(w('course.equation'))}</h3>")
        equations(chapter, w, mark)
        if not replay and (symbols := listed(chapter, seen, visit, w)):
            st.html(symbols)
    _below(chapter, visit, w, c, mark)
    if new:
        st.rerun()  # update the list of chapters, which was drawn earlier
    return seen


def _drawer(chapter: Chapter, visit: Visit, w: Words) -> None:
    """Show the controls; on a phone, in a drawer at the bottom of the screen, which its heading opens."""
    heading = html.escape(w("course.change"))
    with st.container(key="drawer"):
        st.html(f"<h3>{heading}</h3><details><summary>{heading}</summary></details>")
        with st.container(key="controls"):
            widgets.controls(chapter, visit, w)
            st.button(w("course.reset"), on_click=_reset, args=(chapter, visit), type="tertiary", key="reset")


def _reset(chapter: Chapter, visit: Visit) -> None:
    for control in chapter.controls:
        visit.values[chapter.key][control.field] = control.default
        widgets.forget(chapter, control.field)
    visit.places.pop(chapter.key, None)


def _body(bench: Bench, chapter: Chapter, visit: Visit, w: Words, replay: bool, mark: Glossary) -> Seen:
    try:
        if replay:
            return _replay(bench, chapter, visit, w)
        if chapter.key in _BODIES:
            return _BODIES[chapter.key](bench, chapter, visit, w)
        with st.spinner(w("course.computing")):
            seen = seen_of(bench, chapter, visit, w)
        widgets.show(chapter, seen, visit, mark=mark)
        return seen
    except ValueError as error:
        st.error(w.because("course.failed", error))
        return Seen()


def _panels(chapter: Chapter) -> list[Panel]:
    return [p for p in PANELS if chapter.key == "own" or p.key == chapter.panel]


def recorded(bench: Bench, chapter: Chapter, w: Words) -> dict[str, tuple[str, Recording]]:
    """Return the recorded runs of the network that a chapter is about, with their labels."""
    found = {}
    for (name, seed), path in catalogue.recordings().items():
        if not name.startswith(catalogue.TASK):
            continue  # a recording takes tens of megabytes
        recording = catalogue.recording(path)
        kind = "v2" if recording.opening.anchor else "v1"
        if chapter.kind in ("", kind) and any(p.needs(recording) for p in _panels(chapter)):
            found[f"{name}-{seed}"] = (w("course.replay_name", seed=seed, name=name), recording)
    return found


def seen_in(recording: Recording, panel: Panel, w: Words, run: str) -> Seen:
    """Show the steps and one panel of a recorded run."""
    steps = next(p for p in PANELS if p.key == "steps")
    films = [film_of(p, recording, w, run) for p in dict.fromkeys((steps, panel))]
    return Seen(tuple(f for f in films if f), tuple(charts_of(panel, recording, w)))


def _replay(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Replay recorded runs, without loading a network."""
    why = "course.replay" if visit.recordings else "course.no_model"
    st.html(f"<p class=soft>{html.escape(w(why))}</p>{descriptions.in_browser(w)}")
    if chapter.key == "training":
        st.html(f"<p class=soft>{html.escape(w('course.training.recorded'))}</p>")
        seen = chapter.see(bench, {}, w)
        widgets.show(chapter, seen, visit, prefix="replay.")
        _record_replay(chapter, visit, "training", 1)
        return Seen()
    found = recorded(bench, chapter, w)
    if not found:
        st.info(w("course.replay_none"))
        return Seen()

    def begin() -> None:
        visit.places.pop(chapter.key, None)

    def pictured(key: str) -> str:
        seed = int(key.rpartition("-")[2])
        return widgets.pictured(seed, w, found[key][0])

    chosen = st.segmented_control(
        w("course.replay_run"), list(found), format_func=pictured, default=next(iter(found)), required=True,
        key=f"replay.{chapter.key}.{w.language}", on_change=begin,
    ) or next(iter(found))  # fmt: skip
    recording = found[chosen][1]
    available = [p for p in _panels(chapter) if p.needs(recording)]
    panel = available[0]
    if len(available) > 1:
        key = st.segmented_control(
            w("course.panels"),
            [p.key for p in available],
            format_func=lambda k: w(f"panel.{k}.title"),
            default=available[0].key,
            required=True,
            key=f"replay.panel.{w.language}",
        )
        panel = next(p for p in available if p.key == key)
    seen = seen_in(recording, panel, w, f"replay-{chosen}")
    widgets.show(chapter, seen, visit, prefix=f"replay.{chosen}.{panel.key}.")
    _record_replay(chapter, visit, chosen, 2)
    return Seen()


def _record_replay(chapter: Chapter, visit: Visit, name: str, enough: int) -> None:
    """Record that a recording was scrubbed; `enough` different ones complete a replayed chapter."""
    if chapter.key in visit.places:
        seen = set(visit.facts[chapter.key].get("replayed", ())) | {name}
        visit.facts[chapter.key]["replayed"] = sorted(seen)
        if len(seen) >= enough:
            visit.done[chapter.key] |= {task.key for task in chapter.tasks}


def equations(chapter: Chapter, w: Words, mark: Callable[[str], str] = html.escape) -> None:
    """Show the equations of a chapter with their sources."""
    for equation in chapter.equations:
        st.latex(equation.latex)
        st.html(f"<p class=place>{mark(w.known(equation.place, equation.place))}</p>")


def _choice(
    chapter: Chapter, visit: Visit, w: Words, number: str, question: str, options: str, *, row: bool = False
) -> None:
    """Ask a question with three options, below each other or in a row; the visit keeps the answer."""
    answers, key = visit.answers[chapter.key], f"{chapter.key}.question{number}.{w.language}"
    st.session_state[key] = answers.get(number)

    def choose() -> None:
        answers[number] = st.session_state[key]

    st.radio(question, OPTIONS, format_func=lambda o: w(f"{options}_{o}"), key=key, on_change=choose, horizontal=row)


def _marked(good: bool, words: str, text: str) -> None:
    st.html(f"<p class='answer {'right' if good else 'wrong'}'><b>{html.escape(words)}</b> {text}</p>")


def _questions(chapter: Chapter, visit: Visit, w: Words, c: str, explained: Glossary) -> None:
    """Show the questions of a chapter; an answer is marked and explained once it is chosen."""
    st.html(f"<h3>{html.escape(w('course.questions'))}</h3>")
    answers = visit.answers[chapter.key]
    for column, number, right in zip(st.columns(2, gap="large"), QUESTIONS, chapter.answers, strict=True):
        with column:
            _choice(chapter, visit, w, number, w(f"{c}.q{number}"), f"{c}.q{number}")
            if number in answers:
                good = answers[number] == right
                words = w("course.right" if good else "course.wrong", answer=w(f"{c}.q{number}_{right}"))
                _marked(good, words, explained(w(f"{c}.a{number}")))


def _notice(chapter: Chapter, visit: Visit, w: Words, c: str, mark: Glossary) -> None:
    """Judge the prediction and say what to notice, once a task is done or on request."""
    if not visit.done[chapter.key] and chapter.key not in visit.noticed:
        later, now = st.columns([3, 1], vertical_alignment="center")
        later.html(f"<p class=soft>{html.escape(w('course.notice_later'))}</p>")
        now.button(
            w("course.notice_now"), on_click=visit.noticed.add, args=(chapter.key,), key="notice", width="stretch"
        )
        return
    predicted, answer = visit.answers[chapter.key].get(PREDICTION), w(f"{c}.predict_{chapter.prediction}")
    if predicted is None:
        st.html(f"<p class=soft>{html.escape(w('course.predict_answer', answer=answer))}</p>")
    else:
        good = predicted == chapter.prediction
        _marked(good, w("course.predicted_right" if good else "course.predicted_wrong", answer=answer), "")
    st.html(f"<div class=notice><h3>{html.escape(w('course.notice'))}</h3><p>{mark(w(f'{c}.notice'))}</p></div>")


def _below(chapter: Chapter, visit: Visit, w: Words, c: str, mark: Glossary) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.html(f"<h3>{html.escape(w('course.differ'))}</h3><p>{mark(w(f'{c}.differ'))}</p>")
        _fidelity(chapter, w)
    with right:
        st.html(f"<h3>{html.escape(w('course.code'))}</h3>")
        places = ", ".join(chapter.sources)
        st.html(f"<p class=soft>{html.escape(w('course.code_from', places=places))}</p>")
        for spec in chapter.sources:
            st.code(source(spec), language="python", wrap_lines=True)
    _questions(chapter, visit, w, c, mark)
    _exercises(chapter, w)
    if visit.notebook[chapter.key]:
        with st.expander(w("course.notebook"), key="notebook"):
            st.caption(w("course.notebook_hint"))
            st.table(widgets.rows_of(visit.notebook[chapter.key], w))
    _link(chapter, visit, w)
    _turn(chapter, visit, w)


def _fidelity(chapter: Chapter, w: Words) -> None:
    """Show the rows of docs/fidelity.md that a chapter names, or their numbers where the document is not here."""
    numbers = ", ".join(chapter.fidelity)
    if not rows():
        st.html(f"<p class=soft>{html.escape(w('course.differ_rows', rows=numbers))}</p>")
        return
    with st.expander(w("course.fidelity", rows=numbers), key="fidelity"):
        for number in chapter.fidelity:
            row = rows()[number]
            cells = (("paper", row.paper), ("released", row.released), ("here", row.here))
            parts = "".join(
                f"<dt>{html.escape(w(f'course.fidelity_{k}'))}</dt><dd>{html.escape(v)}</dd>" for k, v in cells
            )
            st.html(f"<p class=quiz>{number}: {html.escape(row.subject)}</p><dl class=row>{parts}</dl>")


def _exercises(chapter: Chapter, w: Words) -> None:
    """Offer the notebook of a chapter, if the notebooks are here."""
    number = next(i for i, c in enumerate(CHAPTERS, 1) if c.key == chapter.key)
    folder = "notebooks" if w.language == "en" else f"notebooks/{w.language}"
    file = catalogue.ROOT / (name := f"{folder}/{number:02d}-{chapter.key}.ipynb")
    if file.is_file():
        st.html(
            f"<h3>{html.escape(w('course.exercises'))}</h3><p class=soft>{html.escape(w('course.exercises_hint'))}</p>"
        )
        st.download_button(
            w("course.exercises_get", name=name),
            file.read_bytes(),
            file.name,
            "application/x-ipynb+json",
            key="exercises",
            on_click="ignore",
            icon=":material/download:",
        )


def _link(chapter: Chapter, visit: Visit, w: Words) -> None:
    with st.expander(w("course.link"), key="link"):
        st.caption(w("course.link_hint"))
        hide = st.multiselect(
            w("course.hide"),
            [control.field for control in chapter.controls],
            default=sorted(visit.hidden & {control.field for control in chapter.controls}),
            format_func=lambda field: widgets.label_of(field, w),
            key=f"hide.{chapter.key}.{w.language}",
        )
        address = (st.context.url or "").partition("?")[0]
        st.code(visit.link(address, hide), language=None, wrap_lines=True)
    st.button(
        w("course.print"), on_click=lambda: st.session_state.update(printing=True), key="print", icon=":material/print:"
    )


def _turn(chapter: Chapter, visit: Visit, w: Words) -> None:
    number = next(i for i, c in enumerate(CHAPTERS) if c.key == chapter.key)
    back, on = st.columns(2)

    def go(key: str) -> None:
        visit.chapter = key

    if number > 0:
        other = CHAPTERS[number - 1].key
        title = w("course.before", title=w(f"course.{other}.title"))
        back.button(title, on_click=go, args=(other,), key="back", width="stretch")
    if number + 1 < len(CHAPTERS):
        other = CHAPTERS[number + 1].key
        title = w("course.next", title=w(f"course.{other}.title"))
        on.button(title, on_click=go, args=(other,), key="next", type="primary", width="stretch")
