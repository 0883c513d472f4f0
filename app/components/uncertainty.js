const root = element.querySelector('.uncertainty') || element;
const HEAT = [[213, 94, 0], [230, 159, 0], [240, 228, 66]];
let parts = null, maps = null, threshold = 50;
const pixels = (image, [w, h]) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0, w, h);
  return context.getImageData(0, 0, w, h);
};
const draw = () => {
  if (!maps) return;
  const v = props.value, [w, h] = v.size, { picture, probability, disagreement } = maps;
  const shown = new ImageData(w, h), limit = threshold * 2.55, heat = parts.heat.checked;
  const inside = (i) => probability.data[4 * i] >= limit;
  let marked = 0;
  for (let i = 0; i < w * h; i++) {
    const at = 4 * i;
    const d = disagreement.data[at] / 255, alpha = heat ? Math.min(1, 2 * d) : 0;
    const grey = heat ? 0.23 * (picture.data[at] + picture.data[at + 1] + picture.data[at + 2]) : 0;
    const place = Math.min(1.999, 2 * d), low = HEAT[Math.floor(place)], high = HEAT[Math.floor(place) + 1];
    for (let c = 0; c < 3; c++) {
      const base = heat ? grey : picture.data[at + c];
      shown.data[at + c] = base + alpha * (low[c] + (place % 1) * (high[c] - low[c]) - base);
    }
    shown.data[at + 3] = 255;
    if (inside(i)) marked++;
  }
  for (let y = 1; y < h - 1; y++) for (let x = 1; x < w - 1; x++) {
    const i = y * w + x;
    if (!inside(i) || (inside(i - 1) && inside(i + 1) && inside(i - w) && inside(i + w))) continue;
    for (const j of [i, i - 1, i - w, i - w - 1]) shown.data.set([255, 255, 255], 4 * j);
  }
  parts.canvas.getContext('2d').putImageData(shown, 0, 0);
  const text = v.words.covers.replace('{threshold}', (threshold / 100).toFixed(2)).replace('{share}', (100 * marked / (w * h)).toFixed(1));
  parts.covers.textContent = text;
  parts.range.setAttribute('aria-valuetext', text);
};
const build = (v) => {
  root.replaceChildren();
  parts = {};
  const figure = make('figure', root);
  parts.canvas = make('canvas', figure);
  [parts.canvas.width, parts.canvas.height] = v.size;
  parts.canvas.setAttribute('role', 'img');
  const side = make('div', root, 'side');
  const box = make('label', side, 'check');
  parts.heat = make('input', box);
  Object.assign(parts.heat, { type: 'checkbox', checked: true, oninput: draw });
  box.append(v.words.heat);
  const bar = make('div', side, 'bar');
  make('span', bar, '', v.words.none);
  make('i', bar);
  make('span', bar, '', v.words.most);
  const label = make('label', side, '', v.words.threshold);
  parts.range = make('input', label);
  Object.assign(parts.range, { type: 'range', min: 1, max: 99, step: 1, value: threshold });
  parts.range.oninput = () => { threshold = +parts.range.value; draw(); };
  parts.covers = make('p', side, 'covers');
  make('p', side, 'help', v.words.help);
};
const show = () => {
  const v = props.value;
  maps = null; threshold = 50;
  if (!v || !v.picture) { root.replaceChildren(); return; }
  build(v);
  parts.canvas.setAttribute('aria-label', v.alt);
  const load = (src) => new Promise((done) => { const image = new Image(); image.onload = () => done(pixels(image, v.size)); image.src = src; });
  Promise.all(['picture', 'probability', 'disagreement'].map((name) => load(v[name]))).then(([picture, probability, disagreement]) => {
    if (props.value !== v && props.value.picture !== v.picture) return;  // another run has been shown since
    maps = { picture, probability, disagreement };
    draw();
  });
};
watch('value', show);
show();
