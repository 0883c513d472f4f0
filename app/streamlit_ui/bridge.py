"""Wrap the film and the equaliser components of the Gradio page as Streamlit components.

Their scripts use `element`, `props.value` and `watch`, which the wrapper provides. It sends the position of the film or the
gains of the equaliser to the server once they have been unchanged for a moment, and redraws only when the data change.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import streamlit as st
from streamlit.components.v2 import component

from app.components import diagram as drawing
from app.components import equaliser, scrubber

__all__ = ["VIEWS", "beat", "diagram", "faders", "film", "keep"]

VIEWS = 16  # most views of a film that can be outlined
_REST = 500  # milliseconds without change before an update is sent; longer than a frame of a playing film

_LOOK = """
:host, .film, .equaliser { --border-color-primary: var(--st-border-color); --body-text-color: var(--st-text-color);
    --soft: color-mix(in srgb, var(--st-text-color) 74%, var(--st-background-color));
    --block-background-fill: var(--st-background-color); --strong: var(--st-text-color);
    --button-secondary-background-fill: var(--st-secondary-background-color);
    --button-secondary-background-fill-hover: color-mix(in srgb, var(--st-secondary-background-color) 85%, #888);
    --color-accent: var(--st-primary-color); font-family: var(--st-font); }
"""

_MARKED = """
.diagram text { font-size: 12.5px; }
.diagram [aria-pressed="true"] > rect { fill: color-mix(in srgb, var(--color-accent) 22%, transparent); }
"""

_PINNED = """
.film { background: var(--st-background-color); }
@media (min-height: 560px) and (max-width: 640px), (min-height: 720px) and (min-width: 641px) {  /* it stays in view */
    .pinned .tiles { max-height: 46vh; overflow-y: auto; scrollbar-width: thin; }
    .pinned canvas { width: min(100%, 34vh); max-height: 34vh; object-fit: contain; }
}
@media (min-height: 560px) and (max-width: 640px) {  /* two tiles and a part of the third, so that one sees there are more */
    .pinned .tiles { grid: repeat(3, auto) / auto-flow min(37vw, 24vh); overflow: auto hidden; gap: 0 8px; }
    .pinned .tiles:has(figure:only-child) { grid-auto-columns: min(56vw, 27vh); }
    .pinned .tiles figure, .pinned .tiles:is(.triple, .overlaid) figure:last-child { grid-column: auto; margin-bottom: 4px; }
    .pinned .tiles figcaption { font-size: 12px; margin-bottom: 3px; }
    .pinned .legend { margin-top: 4px; gap: 0 12px; font-size: 11px; }
    .pinned .time { margin-top: 4px; gap: 0 6px; }
    .pinned .time .now { font-size: 13px; }
}
"""

_LIT = "".join(f".film figure:nth-child({i + 1}) canvas {{ outline: var(--lit-{i}, none); }}\n" for i in range(VIEWS))
_LIT += ".film canvas { outline-offset: -4px; }"

_FRAME = """
export default function ({ data, parentElement, setStateValue }) {
  let held = parentElement.__held;
  if (!held) {
    held = parentElement.__held = { value: data.value, mark: data.mark, listeners: [] };
    held.send = setStateValue;
    let resting = null;
    const send = (what, value) => {
      clearTimeout(resting);
      resting = setTimeout(() => held.send(what, value), REST);
    };
    const props = {
      label: data.label,
      get value() { return held.value; },
      set value(drawn) { held.value = drawn; send('drawn', drawn); },
    };
    const element = parentElement;
    const watch = (_, act) => held.listeners.push(act);
    const trigger = () => {};
    SCRIPT
    window.addEventListener('film', (event) => {
      if (event.detail.from === root) send('at', { run: event.detail.run, at: event.detail.at });
    });
  }
  held.send = setStateValue;
  const redraw = data.mark && held.mark !== data.mark;
  held.mark = data.mark;
  if (redraw) {
    held.value = data.value;
    held.listeners.forEach((act) => act());
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

_KEEP = """
export default function ({ data, parentElement, setStateValue }) {
  window.onbeforeunload = data.warn ? (event) => { event.preventDefault(); return ''; } : null;
  const name = 'medsegdiff-course';
  try {
    if (data.text !== null) localStorage.setItem(name, data.text);
    else if (!parentElement.__sent) setStateValue('kept', localStorage.getItem(name) || '{}');
  } catch {
    if (!parentElement.__sent) setStateValue('kept', '{}');  // no storage, as in some private windows
  }
  parentElement.__sent = true;
}
"""


def _component(name: str, markup: str, style: str, script: str) -> Callable[..., Any]:
    js = _FRAME.replace("REST", str(_REST)).replace("SCRIPT", script)
    return component(f"medsegdiff.{name}", html=markup, css=_LOOK + style, js=js)


_FILM = _component("film", scrubber.MARKUP, scrubber.STYLE + _LIT, scrubber.SCRIPT)
_PICTURE = _component(
    "picture", f"<div class=pinned>{scrubber.MARKUP}</div>", scrubber.STYLE + _LIT + _PINNED, scrubber.SCRIPT
)
_STORE = component("medsegdiff.keep", html="<i></i>", js=_KEEP)
_BEAT = component("medsegdiff.beat", html="<i></i>", js=_AGAIN)
_DIAGRAM = _component(
    "diagram",
    drawing.MARKUP,
    drawing.STYLE + _MARKED,
    drawing.SCRIPT
    + """
    window.addEventListener('panel', (event) => {
      if (parentElement.isConnected) held.send('opened', { key: event.detail, from: held.value.here });
    });
    """,
)
_FADERS = _component("equaliser", equaliser.MARKUP, equaliser.STYLE, equaliser.SCRIPT)


def beat(number: int, key: str) -> None:
    """Rerun the enclosing fragment once the browser has rendered it; reruns stop when the browser disconnects."""
    _BEAT(key=key, data=number, on_beat_change=lambda: None)


def keep(text: str | None, key: str, restored: Callable[[str], None], *, warn: bool) -> None:
    """Keep a text in the browser across reloads; None reads it, and `restored` is called with what was kept.

    With `warn`, the browser asks before the page is left or reloaded.
    """

    def on_change() -> None:
        sent = st.session_state[key].get("kept")
        if text is None and isinstance(sent, str):
            restored(sent)

    _STORE(key=key, data={"text": text, "warn": warn}, on_kept_change=on_change)


def film(value: Mapping[str, Any], key: str, moved: Callable[[int], None], *, pinned: bool = False) -> None:
    """Show a film; `moved` is called with the position on the timeline after scrubbing.

    A `pinned` one stays in view while the page scrolls, so it is at most about half as high as the window. The custom
    property --lit-N outlines view N.
    """

    def on_change() -> None:
        sent = st.session_state[key].get("at")
        if sent and sent["run"] == value["run"]:
            moved(int(sent["at"]))

    words = repr((value["positions"], value["views"], value["at"], value["run"]))
    mark = f"{crc32(value['sprite'].encode()):x}-{crc32(words.encode()):x}"
    shown = _PICTURE if pinned else _FILM
    shown(key=key, data={"value": dict(value), "mark": mark}, on_at_change=on_change)


def diagram(value: Mapping[str, Any], key: str, opened: Callable[[str], None]) -> None:
    """Show a block diagram; `opened` is called with what the chosen block opens."""

    def on_change() -> None:
        sent = st.session_state[key].get("opened")
        if sent and isinstance(sent.get("key"), str):
            opened(sent["key"])

    mark = f"{crc32(repr(sorted(value.items())).encode()):x}"
    _DIAGRAM(key=key, data={"value": dict(value), "mark": mark}, on_opened_change=on_change)


def faders(
    value: Sequence[float], label: str, key: str, drawn: Callable[[tuple[float, ...]], None], preset: str
) -> None:
    """Show a row of faders; `drawn` is called with the new gains. Another `preset` redraws them, an empty one does not."""

    def on_change() -> None:
        sent = st.session_state[key].get("drawn")
        if sent and len(sent) == len(value):
            drawn(tuple(float(gain) for gain in sent))

    _FADERS(key=key, data={"value": list(value), "label": label, "mark": preset}, on_drawn_change=on_change)
