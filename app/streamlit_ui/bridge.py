"""The film and the equaliser of the Gradio page as Streamlit components: the very same markup, style and script.

Their scripts speak of `element`, `props.value` and `watch`; the bridge gives them these, and tells the server, when the hand
has rested for a moment, where the film stands or what was drawn. Data that did not change is not drawn again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import streamlit as st
from streamlit.components.v2 import component

from app.components import equaliser, scrubber

__all__ = ["beat", "faders", "film"]

_REST = 500  # milliseconds; longer than a step of a film that plays, which would ask the server at each

_LOOK = """
:host, .film, .equaliser { --border-color-primary: var(--st-border-color); --body-text-color: var(--st-text-color);
    --soft: color-mix(in srgb, var(--st-text-color) 74%, var(--st-background-color));
    --button-secondary-background-fill: var(--st-secondary-background-color);
    --button-secondary-background-fill-hover: color-mix(in srgb, var(--st-secondary-background-color) 85%, #888);
    --color-accent: var(--st-primary-color); font-family: var(--st-font); }
"""

_FRAME = """
export default function ({ data, parentElement, setStateValue }) {
  let held = parentElement.__held;
  if (!held) {
    held = parentElement.__held = { value: data.value, mark: data.mark, heard: [] };
    held.send = setStateValue;
    let resting = null;
    const tell = (what, value) => {
      clearTimeout(resting);
      resting = setTimeout(() => held.send(what, value), REST);
    };
    const props = {
      label: data.label,
      get value() { return held.value; },
      set value(drawn) { held.value = drawn; tell('drawn', drawn); },
    };
    const element = parentElement;
    const watch = (_, act) => held.heard.push(act);
    const trigger = () => {};
    SCRIPT
    window.addEventListener('film', (event) => {
      if (event.detail.from === root) tell('at', { run: event.detail.run, at: event.detail.at });
    });
  }
  held.send = setStateValue;
  if (held.mark !== data.mark) {
    held.mark = data.mark;
    held.value = data.value;
    held.heard.forEach((act) => act());
  }
}
"""


_AGAIN = """
export default function ({ data, parentElement, setStateValue }) {
  if (parentElement.__beat === data) return;
  parentElement.__beat = data;
  setTimeout(() => setStateValue('beat', data), 30);
}
"""


def _component(name: str, markup: str, style: str, script: str) -> Callable[..., Any]:
    js = _FRAME.replace("REST", str(_REST)).replace("SCRIPT", script)
    return component(f"medsegdiff.{name}", html=markup, css=_LOOK + style, js=js)


_FILM = _component("film", scrubber.MARKUP, scrubber.STYLE, scrubber.SCRIPT)
_BEAT = component("medsegdiff.beat", html="<i></i>", js=_AGAIN)
_FADERS = _component("equaliser", equaliser.MARKUP, equaliser.STYLE, equaliser.SCRIPT)


def beat(number: int, key: str) -> None:
    """Run what is around again as soon as the browser has come to this place: its pace, and it stops with it."""
    _BEAT(key=key, data=number, on_beat_change=lambda: None)


def film(value: Mapping[str, Any], key: str, moved: Callable[[int], None]) -> None:
    """Show a film; `moved` hears the place on the time line where somebody left it."""

    def heard() -> None:
        told = st.session_state[key].get("at")
        if told and told["run"] == value["run"]:
            moved(int(told["at"]))

    words = repr((value["positions"], value["views"], value["at"], value["run"]))
    mark = f"{crc32(value['sprite'].encode()):x}-{crc32(words.encode()):x}"
    _FILM(key=key, data={"value": dict(value), "mark": mark}, on_at_change=heard)


def faders(value: Sequence[float], label: str, key: str, drawn: Callable[[tuple[float, ...]], None]) -> None:
    """Show a row of faders; `drawn` hears what was drawn."""

    def heard() -> None:
        told = st.session_state[key].get("drawn")
        if told and len(told) == len(value):
            drawn(tuple(float(gain) for gain in told))

    _FADERS(key=key, data={"value": list(value), "label": label, "mark": "once"}, on_drawn_change=heard)
