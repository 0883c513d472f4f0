// Drawing: images, maps and contours on canvases.

export const COLOURS = [
  "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#0072B2", "#882255", "#999933", "#AA4499", "#44AA99", "#661100",
  "#EE99AA", "#332288", "#888888", "#FF3399",
];
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const LONGEST = 640; // pixels of a canvas

export const colour = (label) => COLOURS[(label - 1) % COLOURS.length];
const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const RGB = COLOURS.map(parse);
const SCALE = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (VIRIDIS.length - 1);
  const left = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [a, b] = [parse(VIRIDIS[left]), parse(VIRIDIS[left + 1])];
  return a.map((v, c) => v + (b[c] - v) * (place - left));
});

/** Give a canvas the shape of a picture, at a sensible size, and return its context. */
function fit(canvas, height, width) {
  const scale = LONGEST / Math.max(height, width);
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  return canvas.getContext("2d");
}

/** Paint height x width pixels, coloured by `shade(index) -> [r, g, b]`, over the whole canvas. */
function paint(canvas, height, width, shade, shape = { height, width }, smooth = true) {
  const source = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = shade(i);
    image.data[4 * i] = r;
    image.data[4 * i + 1] = g;
    image.data[4 * i + 2] = b;
    image.data[4 * i + 3] = 255;
  }
  source.getContext("2d").putImageData(image, 0, 0);
  const context = fit(canvas, shape.height, shape.width);
  context.imageSmoothingEnabled = smooth;
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
}

export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function drawPicture(canvas, picture) {
  const { pixels } = picture;
  paint(canvas, picture.height, picture.width, (i) => [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]]);
}

/** One grey map of bytes at the network's size, in the picture's shape. */
export function drawGrey(canvas, bytes, size, picture) {
  paint(canvas, size, size, (i) => [bytes[i], bytes[i], bytes[i]], picture);
}

/** Class probabilities in bytes (one map, or background first): grey for one class, else each class in its colour. */
export function drawClasses(canvas, bytes, channels, size, picture) {
  if (channels === 1) return drawGrey(canvas, bytes, size, picture);
  const area = size * size;
  return paint(canvas, size, size, (i) => {
    const mixed = [0, 0, 0];
    for (let c = 1; c < channels; c++) {
      const rgb = RGB[(c - 1) % RGB.length];
      for (let k = 0; k < 3; k++) mixed[k] += (bytes[c * area + i] / 255) * rgb[k];
    }
    return mixed;
  }, picture);
}

/** A label image, background dark. */
export function drawLabels(canvas, labels, height, width) {
  paint(canvas, height, width, (i) => (labels[i] ? RGB[(labels[i] - 1) % RGB.length] : [11, 18, 32]), { height, width }, false);
}

/** A map from 0 to `most` in the colours of viridis. */
export function drawMap(canvas, values, height, width, most, picture = { height, width }, least = 0) {
  const reach = most - least || 1;
  paint(canvas, height, width, (i) => SCALE[Math.max(0, Math.min(255, Math.round((255 * (values[i] - least)) / reach)))], picture);
}

/** Outline each class where it is the most probable; bytes as for drawClasses. */
export function drawContours(canvas, bytes, channels, size) {
  const area = size * size;
  for (let c = 1; c < Math.max(2, channels); c++) {
    const field = new Float32Array(area);
    for (let i = 0; i < area; i++) {
      let other = channels === 1 ? 255 - bytes[i] : 0;
      if (channels > 1) for (let k = 0; k < channels; k++) if (k !== c) other = Math.max(other, bytes[k * area + i]);
      field[i] = bytes[channels === 1 ? i : c * area + i] - other - 0.5;
    }
    outline(canvas, field, size, size, colour(c));
  }
}

/** Outline each class of a label image. */
export function drawLabelContours(canvas, labels, height, width, classes) {
  for (let c = 1; c <= classes; c++) {
    outline(canvas, Float32Array.from(labels, (label) => (label === c ? 1 : -1)), height, width, colour(c));
  }
}

/** Marching squares: the zero line of a field, with a dark rim so that it is seen on any image. */
function outline(canvas, field, height, width, stroke) {
  const context = canvas.getContext("2d");
  const [sx, sy] = [canvas.width / width, canvas.height / height];
  const path = new Path2D();
  const cross = (a, b) => a / (a - b);
  for (let y = 0; y < height - 1; y++) {
    for (let x = 0; x < width - 1; x++) {
      const i = y * width + x;
      const [a, b, c, d] = [field[i], field[i + 1], field[i + width + 1], field[i + width]];
      const kind = (a > 0) | ((b > 0) << 1) | ((c > 0) << 2) | ((d > 0) << 3);
      if (kind === 0 || kind === 15) continue;
      const top = () => [x + cross(a, b), y];
      const right = () => [x + 1, y + cross(b, c)];
      const bottom = () => [x + cross(d, c), y + 1];
      const left = () => [x, y + cross(a, d)];
      for (const [from, to] of SEGMENTS[kind]({ top, right, bottom, left })) {
        path.moveTo((from[0] + 0.5) * sx, (from[1] + 0.5) * sy);
        path.lineTo((to[0] + 0.5) * sx, (to[1] + 0.5) * sy);
      }
    }
  }
  const thickness = Math.max(canvas.width, canvas.height) / 210;
  for (const [line, style] of [[2 * thickness, "#000a"], [thickness, stroke]]) {
    Object.assign(context, { lineWidth: line, strokeStyle: style, lineCap: "round" });
    context.stroke(path);
  }
}

const one = (from, to) => (e) => [[e[from](), e[to]()]];
const SEGMENTS = {
  1: one("top", "left"), 2: one("top", "right"), 3: one("left", "right"), 4: one("right", "bottom"),
  5: (e) => [[e.top(), e.left()], [e.right(), e.bottom()]], 6: one("top", "bottom"), 7: one("left", "bottom"),
  8: one("left", "bottom"), 9: one("top", "bottom"), 10: (e) => [[e.top(), e.right()], [e.left(), e.bottom()]],
  11: one("right", "bottom"), 12: one("left", "right"), 13: one("top", "right"), 14: one("top", "left"),
};
