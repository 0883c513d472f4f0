const root = element.querySelector('.planes') || element;
const SIDES = [[1, 2], [0, 2], [0, 1]];  // the axes to the right and along the rows of the plane across x, y and z
let value = null, maps = null, at = [0, 0, 0], opacity = 0.5, panes = [];
const pixels = (image) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
};
const paint = (across) => {
  const { canvas, range, caption, lines } = panes[across];
  const [right, down] = SIDES[across], { size, columns, colours } = value;
  const [w, h] = [size[right], size[down]];
  const shown = new ImageData(w, h), place = [...at];
  let marked = 0;
  for (let j = 0; j < h; j++) for (let i = 0; i < w; i++) {
    place[right] = i;
    place[down] = across === 2 ? j : h - 1 - j;  // z grows towards the head, rows downwards
    const [x, y, z] = place;
    const from = 4 * ((Math.floor(z / columns) * size[1] + y) * maps.picture.width + (z % columns) * size[0] + x);
    const to = 4 * (j * w + i), label = maps.labels.data[from], grey = maps.picture.data[from];
    if (label) marked++;
    for (let c = 0; c < 3; c++) {
      shown.data[to + c] = label ? grey + opacity * (colours[(label - 1) % colours.length][c] - grey) : grey;
    }
    shown.data[to + 3] = 255;
  }
  canvas.getContext('2d').putImageData(shown, 0, 0);
  const index = at[across] * value.steps[across];  // counted as in the file
  const number = value.reversed[across] ? value.counts[across] - index : index + 1;
  const words = value.words.slice.replace('{plane}', value.names[across]).replace('{slice}', number)
    .replace('{slices}', value.counts[across]);
  caption.textContent = words;
  const spoken = `${words}. ${value.words.covers.replace('{share}', (100 * marked / (w * h)).toFixed(1))}`;
  canvas.setAttribute('aria-label', spoken);
  range.value = at[across];
  range.setAttribute('aria-valuetext', spoken);
  lines[0].style.left = `${100 * (at[right] + 0.5) / w}%`;
  lines[1].style.top = `${100 * ((across === 2 ? at[down] : h - 1 - at[down]) + 0.5) / h}%`;
};
const move = (axis, to) => { at[axis] = Math.max(0, Math.min(value.size[axis] - 1, to)); };
const draw = () => { if (maps) [0, 1, 2].forEach(paint); };
const build = () => {
  root.replaceChildren();
  const row = make('div', root, 'row');
  panes = [0, 1, 2].map((across) => {
    const [right, down] = SIDES[across], { size, spacing } = value;
    const figure = make('figure', row), caption = make('figcaption', figure);
    const frame = make('div', figure, 'frame'), canvas = make('canvas', frame);
    [canvas.width, canvas.height] = [size[right], size[down]];
    figure.style.flex = `${size[right] * spacing[right]} 1 0`;
    canvas.style.aspectRatio = (size[right] * spacing[right]) / (size[down] * spacing[down]);
    canvas.setAttribute('role', 'img');
    const lines = [make('i', frame, 'upright'), make('i', frame, 'level')];
    if (value.letters) make('b', frame, '', value.letters[across]).setAttribute('aria-hidden', 'true');
    const point = (event) => {
      if (!event.buttons || !maps) return;
      const box = canvas.getBoundingClientRect();
      const j = Math.floor((event.clientY - box.top) / box.height * size[down]);
      move(right, Math.floor((event.clientX - box.left) / box.width * size[right]));
      move(down, across === 2 ? j : size[down] - 1 - j);
      draw();
    };
    frame.onpointerdown = point;
    frame.onpointermove = point;
    let turned = 0;
    frame.addEventListener('wheel', (event) => {
      if (event.ctrlKey || !maps) return;
      event.preventDefault();
      turned += event.deltaY;
      if (Math.abs(turned) < 30) return;  // a touchpad sends many small steps
      move(across, at[across] + Math.sign(turned));
      turned = 0;
      draw();
    }, { passive: false });
    const range = make('input', figure);
    Object.assign(range, { type: 'range', min: 0, max: size[across] - 1, step: 1 });
    range.setAttribute('aria-label', value.names[across]);
    range.oninput = () => { move(across, +range.value); draw(); };
    return { canvas, range, caption, lines };
  });
  const label = make('label', root, '', value.words.opacity), range = make('input', label);
  Object.assign(range, { type: 'range', min: 0, max: 100, value: 100 * opacity });
  range.oninput = () => { opacity = range.value / 100; draw(); };
  make('p', root, '', value.words.help);
};
const show = () => {
  const next = props.value;
  maps = null;
  if (!next || !next.picture) { value = null; root.replaceChildren(); return; }
  const shown = value = JSON.parse(JSON.stringify(next));
  at = [...value.at];
  build();
  const load = (source) => new Promise((done) => { const image = new Image(); image.onload = () => done(pixels(image)); image.src = source; });
  Promise.all([load(value.picture), load(value.labels)]).then(([picture, labels]) => {
    if (value !== shown) return;  // another volume has been shown since
    maps = { picture, labels };
    draw();
  });
};
watch('value', show);
show();
