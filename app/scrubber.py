"""The film: views of a run side by side over one time line, scrubbed in the browser without asking the server.

All tiles of all steps travel as one sprite sheet; the browser draws the tiles of a step from it. The time line is the
browser's own range input, so keyboards and screen readers know it. Films of the same run keep step with each other.

A front end shows MARKUP, STYLE and SCRIPT as a component whose value is what `film` returns: plain JSON types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app import paint
from app.i18n import Words

__all__ = ["MARKUP", "SCRIPT", "STYLE", "Bar", "Position", "View", "film"]


_QUALITY = 60  # of the sheet's JPEG; most of its bytes are noise, which nobody reads pixel by pixel


@dataclass(frozen=True, slots=True)
class Bar:
    """The colour scale of a view, with its ends in words."""

    colours: Sequence[str]
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class View:
    """One tile of the film: a picture for every position."""

    title: str
    tiles: Sequence[paint.RGB]
    alts: Sequence[str]
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """One place on the time line."""

    label: str  # short, beside the time line
    say: str  # a sentence for those who listen


def film(
    views: Sequence[View],
    positions: Sequence[Position],
    words: Words,
    *,
    run: str = "",
    at: int = -1,
    legend: Sequence[tuple[str, str, str]] = (),
    status: str = "",
    progress: float | None = None,
    smooth: bool = True,
    lead: bool = True,
) -> dict[str, Any]:
    """Put a film together.

    Arguments:
        views: the tiles, left to right; each has one picture for every position, all of one size.
        positions: the places on the time line.
        words: the visitor's language.
        run: films that share this name keep step.
        at: position to begin with; negative counts from the end.
        legend: (colour, "solid", "thin" or "dotted", words).
        status: a line of text under a film that is still being made.
        progress: share done of a run that is still going; None shows the time line.
        lead: whether the last of three tiles comes first, and large, where there is no room for three.
        smooth: whether tiles may be interpolated when enlarged; cells of a small map may not.
    """
    if not views:
        return {}
    height, width = views[0].tiles[0].shape[:2]
    return {
        "sprite": paint.data_uri(paint.sheet([view.tiles for view in views]), _QUALITY),
        "tile": [width, height],
        "views": [
            {
                "title": view.title,
                "alts": list(view.alts),
                "bar": {"colours": list(view.bar.colours), "low": view.bar.low, "high": view.bar.high}
                if view.bar
                else None,
            }
            for view in views
        ],
        "positions": [{"label": p.label, "say": p.say} for p in positions],
        "run": run,
        "at": at % len(positions),
        "legend": [{"colour": colour, "line": line, "words": text} for colour, line, text in legend],
        "status": status,
        "progress": progress,
        "smooth": smooth,
        "lead": lead,
        "words": {key: words(f"film.{key}") for key in ("play", "pause", "back", "forward", "line", "keys")}
        | {"stopped": words("run.stopped")},
    }


MARKUP = '<div class="film"></div>'

STYLE = """
.film { --line: var(--border-color-primary); color: var(--body-text-color); }
.film .tiles { display: grid; gap: 12px 14px; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); }
@media (max-width: 620px) {
    .film .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
    .film .tiles.triple figure:last-child { grid-column: 1 / -1; order: -1; }
}
.film figure { margin: 0; min-width: 0; }
.film canvas { display: block; width: 100%; border-radius: 6px; background: #8882; }
.film canvas.cells { image-rendering: pixelated; }
.film figcaption { font-size: 13px; line-height: 1.35; margin-bottom: 6px; color: var(--soft); }
.film .bar { display: grid; grid-template-columns: auto 1fr auto; gap: 6px; align-items: center; font-size: 11px;
    margin-top: 5px; color: var(--soft); font-variant-numeric: tabular-nums; }
.film .bar i { height: 6px; border-radius: 3px; }
.film .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12px; margin-top: 8px;
    color: var(--soft); }
.film .legend span { display: inline-flex; align-items: center; gap: 6px; }
.film .legend i { width: 20px; height: 0; border-top: 4px solid; outline: 1px solid #0006; }
.film .legend i.thin { border-top-width: 2px; }
.film .legend i.dotted { border-top-style: dashed; outline: none; filter: drop-shadow(0 0 1px #000); }
.film .time { display: grid; grid-template-columns: auto auto auto 1fr; gap: 6px; align-items: center; margin-top: 12px; }
.film .time button { width: 40px; height: 40px; border-radius: 8px; border: 1px solid var(--line); cursor: pointer;
    background: var(--button-secondary-background-fill); color: inherit; display: grid; place-items: center; }
.film .time button:hover { background: var(--button-secondary-background-fill-hover); }
.film .time button { padding: 0; }
.film .time button svg { width: 16px; height: 16px; fill: currentColor; margin: 0; display: block; }
.film .time input { width: 100%; accent-color: var(--color-accent); height: 40px; margin: 0; cursor: pointer; }
.film :is(button, input):focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
.film .now { grid-column: 1 / -1; font-size: 14px; min-height: 1.4em; font-variant-numeric: tabular-nums; }
.film progress { appearance: none; width: 100%; height: 8px; margin-top: 16px; border: 0; border-radius: 4px; overflow: hidden;
    background: #8883; display: block; }
.film progress::-webkit-progress-bar { background: #8883; }
.film progress::-webkit-progress-value { background: var(--color-accent); }
.film progress::-moz-progress-bar { background: var(--color-accent); }
.film .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""

SCRIPT = r"""
const root = element.querySelector('.film') || element;
const icons = {
  play: 'M3 1.5v13l11-6.5z', pause: 'M3 2h3.5v12H3zM9.5 2H13v12H9.5z',
  back: 'M3 2h2v12H3zM13 2v12L6 8z', forward: 'M11 2h2v12h-2zM3 2v12l7-6z'
};
const make = (tag, parent, cls, text) => {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  if (parent) parent.appendChild(e);
  return e;
};
const icon = (button, name) => {
  button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${icons[name]}"/></svg>`;
};
const name = (button, words) => { button.title = words; button.setAttribute('aria-label', words); };
let film = null, at = 0, shape = '', timer = null, voice = null, parts = {}, sheet = null, stopped = false;

const pause = () => {
  clearInterval(timer); timer = null;
  if (parts.play) { icon(parts.play, 'play'); name(parts.play, film.words.play); }
};
const draw = () => {
  if (!film) return;
  const [w, h] = film.tile;
  parts.canvases.forEach((canvas, row) => {
    canvas.setAttribute('aria-label', film.views[row].alts[at] || film.views[row].title);
    if (sheet) canvas.getContext('2d').drawImage(sheet, at * w, row * h, w, h, 0, 0, w, h);
  });
};
const go = (to, tell = true) => {
  at = Math.max(0, Math.min(film.positions.length - 1, to));
  const p = film.positions[at];
  draw();
  parts.now.textContent = film.progress === null ? p.label : film.status;
  if (parts.range) { parts.range.value = at; parts.range.setAttribute('aria-valuetext', p.say); }
  clearTimeout(voice);
  voice = setTimeout(() => { parts.voice.textContent = film.progress === null ? p.say : film.status; }, 350);
  if (tell && film.run) {
    window.__film = { run: film.run, at };
    window.dispatchEvent(new CustomEvent('film', { detail: { run: film.run, at, from: root } }));
  }
};
const play = () => {
  if (timer) return pause();
  icon(parts.play, 'pause'); name(parts.play, film.words.pause);
  if (at >= film.positions.length - 1) go(0);
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  timer = setInterval(() => {
    if (!root.isConnected) return pause();
    if (at >= film.positions.length - 1) return pause();
    go(at + 1);
  }, calm ? 1500 : Math.max(120, Math.min(450, 6000 / film.positions.length)));
};
const build = () => {
  root.replaceChildren();
  const tiles = make('div', root, 'tiles');
  const count = film.views.length;
  tiles.style.setProperty('--columns', count <= 3 ? Math.max(2, count) : 4);
  tiles.classList.toggle('triple', count === 3 && film.lead);
  parts = { canvases: film.views.map((view) => {
    const figure = make('figure', tiles);
    make('figcaption', figure, '', view.title);
    const canvas = make('canvas', figure, film.smooth ? '' : 'cells');
    [canvas.width, canvas.height] = film.tile;
    canvas.setAttribute('role', 'img');
    if (view.bar) {
      const bar = make('div', figure, 'bar');
      make('span', bar, '', view.bar.low);
      make('i', bar).style.background = `linear-gradient(90deg, ${view.bar.colours.join(',')})`;
      make('span', bar, '', view.bar.high);
    }
    return canvas;
  }) };
  if (film.legend.length) {
    const legend = make('div', root, 'legend');
    film.legend.forEach((entry) => {
      const span = make('span', legend);
      make('i', span, entry.line).style.borderColor = entry.colour;
      span.append(entry.words);
    });
  }
  if (film.progress !== null) {
    parts.progress = make('progress', root);
    parts.progress.max = 1;
    parts.progress.setAttribute('aria-label', film.words.line);
  }
  const time = make('div', root, 'time');
  if (film.progress === null && film.positions.length > 1) {
    const button = (kind, act) => {
      const b = make('button', time, kind);
      b.type = 'button'; b.onclick = act;
      icon(b, kind); name(b, film.words[kind]);
      return b;
    };
    button('back', () => { pause(); go(at - 1); });
    parts.play = button('play', play);
    button('forward', () => { pause(); go(at + 1); });
    parts.range = make('input', time);
    Object.assign(parts.range, { type: 'range', min: 0, max: film.positions.length - 1, step: 1, title: film.words.keys });
    parts.range.setAttribute('aria-label', film.words.line);
    parts.range.oninput = () => { pause(); go(+parts.range.value); };
    root.onkeydown = (event) => {
      if (event.target === parts.range && event.key !== ' ') return;
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: film.positions.length - 1 }[event.key];
      if (to !== undefined) { pause(); go(to); event.preventDefault(); }
      else if (event.key === ' ' && event.target === parts.range) { play(); event.preventDefault(); }
    };
  }
  parts.now = make('div', time, 'now');
  parts.now.setAttribute('aria-hidden', 'true');
  parts.voice = make('output', root, 'unseen');
  parts.voice.setAttribute('aria-live', 'polite');
};
const show = () => {
  const next = props.value;
  if (stopped && next && next.progress > 0) return;  // a step that was on its way when somebody pressed Stop
  stopped = false;
  if (!next || !next.sprite) { pause(); film = null; shape = ''; sheet = null; root.replaceChildren(); return; }
  pause();
  film = JSON.parse(JSON.stringify(next));
  const now = JSON.stringify([film.views.map((v) => [v.title, v.bar]), film.tile, film.positions.length,
    film.legend, film.progress === null, film.words, film.smooth]);
  if (now !== shape) { build(); shape = now; }
  if (parts.progress) parts.progress.value = film.progress;
  const shared = window.__film;
  const start = film.run && shared && shared.run === film.run ? shared.at : film.at;
  go(start, false);
  const image = new Image();
  image.onload = () => { sheet = image; draw(); root.dataset.shown = film.progress === null ? 'run' : 'live'; };
  image.src = film.sprite;
};
window.addEventListener('film', (event) => {
  if (film && film.progress === null && event.detail.run === film.run && event.detail.from !== root
      && event.detail.at < film.positions.length) { if (event.detail.at !== at) go(event.detail.at, false); }
});
window.addEventListener('film-stop', () => {
  if (!film || film.progress === null) return;
  stopped = true;
  film.status = film.words.stopped + ' ' + film.status.split(' · ').slice(0, 2).join(' · ');
  parts.now.textContent = film.status;
  parts.progress.hidden = true;
});
watch('value', show);
show();
"""
