const root = element.querySelector('.diagram') || element;
const make = (tag, parent, attributes = {}, text = '') => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  if (text) e.textContent = text;
  parent.append(e);
  return e;
};
let at = 0, drawn = [];
const draw = () => {
  const v = props.value;
  drawn.forEach(({ block, group, picture, text }) => {
    group.classList.toggle('active', !!v.phases.length && block.phase === v.phases[at]);
    if (picture) picture.setAttribute('viewBox', `${Math.min(at, block.tiles - 1) * v.side} ${block.row * v.side} ${v.side} ${v.side}`);
    if (block.texts.length) text.textContent = block.texts[at];
    const alt = block.alts[Math.min(at, block.alts.length - 1)] || block.texts[at] || '';
    group.setAttribute('aria-label', [block.label.join(' '), block.note, alt].filter(Boolean).join('. '));
  });
};
const mark = (panel) => drawn.forEach(({ block, group }) => {
  if (block.panel) group.setAttribute('aria-pressed', block.panel === panel);
});
const draw_block = (svg, v, block) => {
  const [x, y, w, h] = block.box;
  const group = make('g', svg, { class: `block ${block.phase}${block.off ? ' off' : ''}`, role: block.panel ? 'button' : 'img' });
  if (block.panel) {
    group.setAttribute('tabindex', 0);
    group.dataset.panel = block.panel;
    const open = () => window.dispatchEvent(new CustomEvent('panel', { detail: block.panel }));
    group.onclick = open;
    group.onkeydown = (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } };
  }
  make('rect', group, { x, y, width: w, height: h, rx: h < 30 ? h / 2 : 8 });
  let picture = null, below = y + h / 2 - 8.5 * (block.label.length - 1) + 5;
  if (block.row >= 0) {
    const side = 64;
    picture = make('svg', group, { x: x + (w - side) / 2, y: y + 8, width: side, height: side });
    make('image', picture, { href: v.sprite, width: v.sheet[0], height: v.sheet[1] });
    below = y + 8 + side + 17;
  }
  let text = null;
  block.label.forEach((line, i) => { text = make('text', group, { x: x + w / 2, y: below + 17 * i }, line); });
  drawn.push({ block, group, picture, text });
};
const show = () => {
  const v = props.value;
  root.replaceChildren();
  drawn = [];
  if (!v || !v.blocks) return;
  const svg = make('svg', root, { viewBox: `0 0 ${v.size[0]} ${v.size[1]}`, role: 'group', 'aria-label': v.label });
  root.tabIndex = v.blocks.some((block) => block.panel) ? -1 : 0;  // a keyboard can scroll it
  svg.style.minWidth = `${0.86 * v.size[0]}px`;
  const name = `arrow-${Math.random().toString(36).slice(2)}`;
  const marker = make('marker', make('defs', svg), { id: name, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' });
  make('path', marker, { d: 'M0 0.5 8 4 0 7.5Z' });
  v.arrows.forEach(({ points, text, dashed }) => {
    make('polyline', svg, { points: points.join(' '), class: dashed ? 'dashed' : '', 'marker-end': `url(#${name})` });
    if (!text) return;
    const [[x1, y1], [x2]] = points.length > 2 ? points.slice(1, 3) : points;
    make('text', svg, { x: (x1 + x2) / 2, y: y1 - 5, class: 'note' }, text);
  });
  v.blocks.forEach((block) => draw_block(svg, v, block));
  at = window.__film && window.__film.run === v.run && v.phases.length ? window.__film.at : Math.max(0, v.phases.length - 1);
  draw();
  mark(v.here || window.__panel);
};
window.addEventListener('film', (event) => {
  const v = props.value;
  if (v && v.run && event.detail.run === v.run) { at = event.detail.at; draw(); }
});
window.addEventListener('panel-shown', (event) => mark(event.detail));
watch('value', show);
show();
