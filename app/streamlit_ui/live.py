"""Show the two chapters with data of the visitor: a network in training, and an uploaded image."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app.core.catalogue import Card
from app.core.frames import Frame
from app.core.session import RunOutput
from app.core.settings import CONTROLS, read
from app.course.bench import CASES, Bench
from app.course.chapter import Chapter, Seen
from app.course.chapters import own as own_chapter
from app.course.chapters import training as training_chapter
from app.course.toy import held_out, trained_on
from app.course.visit import Visit
from app.export.files import write_result
from app.i18n import Words
from app.inputs.images import InputImage, phantom, upload
from app.streamlit_ui import bridge, widgets
from app.views import descriptions

__all__ = ["own", "training"]

_TICK = 0.8  # seconds of training between two updates
_PATIENCE = 3.0  # seconds to wait for the lock on computing
_LARGEST = 32  # MB


# --------------------------------------------------------------------------------------------------------- train one


def training(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Train in slices of under a second while the page is open; each visitor has a network of their own."""
    from app.course.trainer import Trainer  # imports torch

    state: Any = st.session_state.setdefault("training", {"trainer": None, "running": False, "runs": 0})
    options = (visit.values[chapter.key]["toy_rate"], visit.values[chapter.key]["toy_pool"])

    def begin() -> None:
        pools = bench.keep(("pools",), lambda: (trained_on(), held_out()))
        before = state["trainer"]
        runs = state["runs"] + bool(before and before.history.noise)  # other weights only after a training
        with bench.turn:
            trainer = Trainer(runs, pools[0].first(options[1]), pools[1], float(options[0]))
        state.update(trainer=trainer, running=False, runs=runs, sampled=None, options=options)

    def toggle() -> None:
        trainer: Trainer = state["trainer"]
        if state["running"] and trainer.history.noise and not trainer.finished:
            visit.facts[chapter.key]["paused"] = True
        state["running"] = not state["running"]
        visit.places.pop(chapter.key, None)  # the newest preview, until the visitor scrubs again

    if state["trainer"] is None:
        begin()
    trainer: Trainer = state["trainer"]
    if options[1] != state["options"][1] and not trainer.history.noise:
        begin()
        trainer = state["trainer"]
    trainer.rate = float(options[0])
    buttons = st.columns([1, 1, 2])
    if trainer.finished:
        state["running"] = False
        buttons[0].button(w("course.training.finished"), disabled=True, key="finished", width="stretch")
    else:
        name = "pause" if state["running"] else "resume" if trainer.history.noise else "start"
        buttons[0].button(w(f"course.training.{name}"), on_click=toggle, type="primary", key="toggle", width="stretch")
    buttons[1].button(w("course.training.again"), on_click=begin, key="again", width="stretch")
    if options[1] != state["options"][1]:
        st.caption(w("course.training.other_pool", trained=state["options"][1], chosen=options[1]))

    def tick() -> None:
        if state["running"]:
            if bench.turn.acquire(timeout=_PATIENCE):
                try:
                    trainer.advance(_TICK)
                finally:
                    bench.turn.release()
            else:
                st.caption(w("course.training.waiting"))
        run = f"training-{state['runs']}"
        seen = training_chapter.show(trainer.history, trainer.testing, w, run)
        widgets.show(chapter, seen, visit)
        state["facts"] = seen.facts
        learnt = seen.facts["best"] >= 0.7 and "learn" not in visit.done[chapter.key]
        if state["running"] and (trainer.finished or learnt):
            st.rerun()
        if state["running"]:
            state["beats"] = state.get("beats", 0) + 1
            bridge.beat(state["beats"], "beat")

    st.fragment(tick)()
    _sample(bench, state, trainer, chapter, visit, w)
    return Seen(facts=state.get("facts", {}))


def _sample(bench: Bench, state: dict[str, Any], trainer: Any, chapter: Chapter, visit: Visit, w: Words) -> None:
    if state["running"] or not trainer.history.noise:
        return
    st.html(f"<h3>{w('course.training.sample')}</h3>")
    which, seed, steps, button = st.columns([1, 1, 1, 1], vertical_alignment="bottom")
    chosen = which.number_input(w("course.training.which"), 1, len(trainer.testing.labels), key="sample.which")
    drawn = seed.number_input(w("settings.seed.label"), 0, 9999, key="sample.seed")
    count = steps.number_input(w("course.training.steps"), 1, 50, 10, key="sample.steps")
    if button.button(w("course.training.sample"), key="sample", width="stretch"):
        facts = visit.facts[chapter.key]
        facts["sampled"] = facts.get("sampled", False) or trainer.history.previews[-1].dice >= training_chapter.TRAINED
        with bench.turn:
            state["sampled"] = training_chapter.sampled(trainer, int(chosen) - 1, int(drawn), int(count), w)
    st.caption(w("course.training.sample_hint"))
    if state.get("sampled"):
        bridge.film(state["sampled"].films[0], "film.sample", lambda at: None)


# ------------------------------------------------------------------------------------------------------ your own image


def own(bench: Bench, chapter: Chapter, visit: Visit, w: Words) -> Seen:
    """Run the model on an uploaded image, which is kept in the memory of this session only."""
    state: dict[str, Any] = st.session_state.setdefault("own", {"turn": 0, "result": None})
    st.html(f"<p class=privacy><b>{w('course.notice_medical')}</b> {w('course.own.privacy')}</p>")
    file = st.file_uploader(
        w("course.own.upload"),
        max_upload_size=_LARGEST,
        help=w("course.own.formats"),
        key=f"upload.{state['turn']}",
    )
    phantoms = st.container()
    row = st.columns([1.6, 1, 1.2], vertical_alignment="bottom")
    name = row[0].selectbox(w("model.label"), list(bench.session.sources), key="own.checkpoint")
    card = bench.session.card(name)
    case = phantoms.segmented_control(
        w("course.own.phantom"), CASES, format_func=lambda seed: widgets.pictured(seed, w, task=card.task),
        default=CASES[0], required=True, key=f"own.case.{card.task}.{w.language}", disabled=file is not None,
    )  # fmt: skip
    go = row[1].button(w("course.own.run"), type="primary", key="own.run", width="stretch")

    def forget() -> None:
        state.update(turn=state["turn"] + 1, result=None)
        visit.facts[chapter.key].clear()

    if file is not None or state["result"]:
        row[2].button(w("course.own.forget"), on_click=forget, key="own.forget", width="stretch")
    warning = descriptions.warning(card, w)
    if warning:
        st.html(warning)
    if go:
        image = _read(file, card) if file is not None else phantom(case or CASES[0], card.task)
        values = [visit.values[chapter.key][control.field] for control in CONTROLS]
        state["result"] = _run(bench, name, image, values, w)
        visit.facts[chapter.key] = own_chapter.facts_of(state["result"]["recording"], file is not None)
    if not state["result"]:
        st.html(f"<p class=soft>{w('course.own.empty')}</p>")
        return Seen()
    return _shown(state["result"], chapter, visit, w)


def _read(file: Any, card: Card) -> InputImage:
    """Read an upload through a temporary file, which is deleted immediately."""
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(file.getvalue())
        copy.flush()
        return upload(copy.name, card)


def _run(bench: Bench, name: str, image: InputImage, values: list[Any], w: Words) -> dict[str, Any]:
    settings = read(values)
    bar = st.progress(0.0, w("course.computing"))
    with bench.turn, tempfile.TemporaryDirectory() as folder:
        finished = None
        for event in bench.session.run(name, image, settings):
            match event:
                case Frame(index=index, total=total, t=t):
                    bar.progress((index + 1) / total, w("course.training.step", step=index + 1, total=total, t=t))
                case RunOutput():
                    finished = event
        assert finished is not None
        paths = write_result(folder, finished)
        files = {key: Path(paths[key]).read_bytes() for key in ("mask", "report")}
    bar.empty()
    return {"recording": finished.recording, "files": files, "run": f"own-{np.random.default_rng().integers(2**53)}"}


def _shown(result: dict[str, Any], chapter: Chapter, visit: Visit, w: Words) -> Seen:
    recording = result["recording"]
    st.html(descriptions.facts(recording, w, live=True))
    masks, report, _ = st.columns([1, 1, 2])
    masks.download_button(w("course.own.download"), io.BytesIO(result["files"]["mask"]), "mask.png", "image/png")
    text = json.dumps(json.loads(result["files"]["report"]), indent=2)
    report.download_button(w("course.own.report"), text, "run.json", "application/json")
    shown = own_chapter.show(recording, w, result["run"])
    chosen = st.segmented_control(
        w("course.panels"), list(shown), default=next(iter(shown)), required=True, key=f"own.panel.{w.language}"
    )
    widgets.show(chapter, shown.get(chosen, next(iter(shown.values()))), visit, prefix=f"{chosen}.")
    return Seen(facts=visit.facts[chapter.key])
