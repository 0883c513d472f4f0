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
let film = null, at = 0, shape = '', timer = null, announcement = null, parts = {}, sheet = null, stopped = false, opacity = 1;

const pause = () => {
  clearInterval(timer); timer = null;
  if (parts.play) { icon(parts.play, 'play'); name(parts.play, film.words.play); }
};
const draw = () => {
  if (!film) return;
  const [w, h] = film.tile;
  const last = film.views.length - 1;
  const tile = (context, row) =>
    context.drawImage(sheet, Math.min(at, film.views[row].tiles - 1) * w, row * h, w, h, 0, 0, w, h);
  parts.canvases.forEach((canvas, row) => {
    const view = film.views[row], context = canvas.getContext('2d');
    parts.captions[row].textContent = view.titles[at] || view.title;
    canvas.setAttribute('aria-label', view.alts[at] || view.alts[0] || view.title);
    if (!sheet) return;
    context.globalAlpha = 1;
    if (film.overlay && row === last) { tile(context, 0); context.globalAlpha = opacity; }
    tile(context, row);
  });
};
const go = (to, notify = true) => {
  at = Math.max(0, Math.min(film.positions.length - 1, to));
  const p = film.positions[at];
  draw();
  parts.now.textContent = film.progress === null ? p.label : film.status;
  if (parts.range) { parts.range.value = at; parts.range.setAttribute('aria-valuetext', p.spoken); }
  clearTimeout(announcement);
  if (!timer) announcement = setTimeout(() => { parts.announcement.textContent = film.progress === null ? p.spoken : film.status; }, 350);
  if (notify && film.run) {
    window.__film = { run: film.run, at };
    window.dispatchEvent(new CustomEvent('film', { detail: { run: film.run, at, from: root } }));
  }
};
const play = () => {
  if (timer) return pause();
  icon(parts.play, 'pause'); name(parts.play, film.words.pause);
  if (at >= film.positions.length - 1) go(0);
  const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)').matches;
  timer = setInterval(() => {
    if (!root.isConnected) return pause();
    go(at + 1);
    if (at >= film.positions.length - 1) { window.__opened = true; pause(); go(at); }
  }, reducedMotion ? 1500 : Math.max(120, Math.min(450, 6000 / film.positions.length)));
};
const build = () => {
  root.replaceChildren();
  const tiles = make('div', root, 'tiles');
  const count = film.views.length;
  tiles.style.setProperty('--columns', count <= 3 ? Math.max(2, count) : 4);
  tiles.classList.toggle('triple', count === 3 && film.lead);
  tiles.classList.toggle('overlaid', film.overlay);
  parts = { captions: [] };
  parts.canvases = film.views.map((view) => {
    const figure = make('figure', tiles);
    parts.captions.push(make('figcaption', figure, '', view.title));
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
  });
  if (film.overlay && film.progress === null) {
    const label = make('label', tiles.lastChild, 'opacity', film.words.opacity);
    const range = make('input', label);
    Object.assign(range, { type: 'range', min: 0, max: 100, value: 100 * opacity });
    range.oninput = () => { opacity = range.value / 100; draw(); };
    range.onkeydown = (event) => event.stopPropagation();  // arrow keys move this slider, not the timeline
  }
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
  parts.announcement = make('output', root, 'unseen');
  parts.announcement.setAttribute('aria-live', 'polite');
};
const show = () => {
  const next = props.value;
  if (stopped && next && next.progress > 0) return;  // a step sent before Stop was pressed
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
  // The film of the opening page plays once, until the visitor does anything.
  const opening = film.autoplay && !window.__opened && !matchMedia('(prefers-reduced-motion: reduce)').matches;
  go(opening && start === film.at ? 0 : start, false);
  const image = new Image();
  image.onload = () => {
    sheet = image; draw(); root.dataset.shown = film.progress === null ? 'run' : 'live';
    if (opening && !window.__opened && !timer) play();
  };
  image.src = film.sprite;
};
window.addEventListener('film', (event) => {
  const { run, at: to, from } = event.detail;
  if (!film || film.progress !== null || run !== film.run || from === root || to >= film.positions.length) return;
  if (timer) pause();  // two timelines of one run: the one moved last leads
  if (to !== at) go(to, false);
});
window.addEventListener('film-stop', () => {
  if (!film || film.progress === null) return;
  stopped = true;
  film.status = film.words.stopped + ' ' + film.status.split(' · ').slice(0, 2).join(' · ');
  parts.now.textContent = film.status;
  parts.progress.hidden = true;
});
for (const kind of ['pointerdown', 'keydown']) addEventListener(kind, () => { window.__opened = true; }, { capture: true });
watch('value', show);
show();
