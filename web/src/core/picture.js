// Grey values to 8-bit pixels, pictures to the network's square and maps back; as medsegdiff/image_ref.py does.

export const MIN_SIDE = 8;
export const MAX_PIXELS = 4096 * 4096;

/** 8-bit grey of values through a window, repeated to RGB; what is no number becomes black. */
export function greyPixels(values, [low, high], inverted = false) {
  const pixels = new Uint8Array(values.length * 3);
  for (let i = 0; i < values.length; i++) {
    const share = (values[i] - low) / (high - low);
    const level = roundEven(255 * Math.min(1, Math.max(0, Number.isNaN(share) ? 0 : share)));
    pixels.fill(inverted ? 255 - level : level, 3 * i, 3 * i + 3);
  }
  return pixels;
}

function roundEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** Percentiles 0.5 and 99.5 of the finite values; their extremes where those coincide. */
export function robustWindow(values) {
  const found = percentilesOf(values, [0.5, 99.5]);
  if (!found) throw new RangeError("no finite values");
  return found;
}

/**
 * Two percentiles, in per cent, of the finite values (of at most 2^24, thinned evenly), or their extremes where those
 * coincide; null where no value is finite.
 */
export function percentilesOf(values, percentiles) {
  const stride = Math.ceil(values.length / 2 ** 24);
  const sample = [];
  for (let i = 0; i < values.length; i += stride) if (Number.isFinite(values[i])) sample.push(values[i]);
  if (!sample.length) return null;
  const sorted = Float32Array.from(sample).sort();
  const at = (percentile) => {
    const place = (percentile / 100) * (sorted.length - 1);
    const left = Math.floor(place);
    const [a, b] = [sorted[left], sorted[Math.min(left + 1, sorted.length - 1)]];
    const t = place - left;
    return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
  };
  let [low, high] = percentiles.map(at);
  if (low === high) [low, high] = [sorted[0], sorted[sorted.length - 1]];
  return [low, low < high ? high : low + Math.max(1, Math.abs(low))];
}

/**
 * The window of a slice by the rule of a checkpoint, as Intensity.resolve in medsegdiff/image_ref.py.
 *
 * rule: { window, percentiles, per_slice, stretch }; own: the file's window; values: of the slice;
 * whole(percentiles): percentiles of the whole volume, null if no value is finite.
 */
export function resolveWindow(rule, own, values, whole) {
  if (!rule?.window.length && !rule?.percentiles.length) return own;
  const extremes = whole([0, 100]);
  const hounsfield = rule.window.length > 0 && rule.window[0] < 0; // no CT image is without a negative value
  if (!extremes || (hounsfield && extremes[0] >= 0)) return own;
  const found = (percentiles) => (rule.per_slice ? percentilesOf(values, percentiles) : whole(percentiles));
  if (rule.percentiles.length) return found(rule.percentiles) ?? own;
  const occurring = rule.stretch ? found([0, 100]) : null;
  if (!occurring) return rule.window;
  const [low, high] = [Math.max(rule.window[0], occurring[0]), Math.min(rule.window[1], occurring[1])];
  return low < high ? [low, high] : rule.window;
}

/** The part of a picture that the network sees: the field about the middle, as Geometry.box in medsegdiff/resize.py. */
export function seenBox(height, width, field) {
  const [rows, columns] = [height, width].map((side) => Math.max(roundEven(side * field), 1));
  return { top: Math.floor((height - rows) / 2), left: Math.floor((width - columns) / 2), rows, columns };
}

/** The pixels of a box, each of `channels` values, row by row. */
export function crop(values, width, channels, { top, left, rows, columns }) {
  const part = new values.constructor(rows * columns * channels);
  for (let y = 0; y < rows; y++) {
    const from = ((top + y) * width + left) * channels;
    part.set(values.subarray(from, from + columns * channels), y * columns * channels);
  }
  return part;
}

/** Squeeze the field of an RGB picture to a square in [-1, 1], channel by channel; one channel is its luminance. */
export function toNetwork(picture, size, channels = 3, field = 1) {
  const { pixels, height, width } = picture;
  const box = seenBox(height, width, field);
  const { rows, columns } = box;
  const seen = crop(pixels, width, 3, box);
  const image = new Float32Array(channels * size * size);
  const plane = new Float32Array(rows * columns);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < plane.length; i++) {
      const [red, green, blue] = [seen[3 * i], seen[3 * i + 1], seen[3 * i + 2]];
      plane[i] = channels === 3 ? seen[3 * i + c] : 0.299 * red + 0.587 * green + 0.114 * blue;
    }
    const resized = resize(plane, rows, columns, size, size);
    for (let i = 0; i < resized.length; i++) {
      image[c * size * size + i] = Math.min(1, Math.max(-1, resized[i] / 127.5 - 1));
    }
  }
  return image;
}

/** Bring the maps of `channels` classes from the network's square to a picture's sides; outside the field is background. */
export function toOriginal(maps, size, height, width, channels = 1, field = 1) {
  const count = maps.length / (size * size);
  const { top, left, rows, columns } = seenBox(height, width, field);
  const home = new Float32Array(count * height * width);
  for (let i = 0; i < count; i++) {
    const map = resize(maps.subarray(i * size * size, (i + 1) * size * size), size, size, rows, columns);
    const whole = home.subarray(i * height * width, (i + 1) * height * width);
    if (channels > 1 && i % channels === 0) whole.fill(1);
    for (let y = 0; y < rows; y++) whole.set(map.subarray(y * columns, (y + 1) * columns), (top + y) * width + left);
  }
  return home;
}

/** Bilinear resampling with a wider kernel where a side shrinks, as torch's interpolate(mode="bilinear", antialias=True). */
export function resize(values, height, width, newHeight, newWidth) {
  const [columns, rows] = [taps(width, newWidth), taps(height, newHeight)];
  const across = new Float32Array(height * newWidth);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, weights } = columns[x];
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * values[y * width + first + j];
      across[y * newWidth + x] = sum;
    }
  }
  const result = new Float32Array(newHeight * newWidth);
  for (let y = 0; y < newHeight; y++) {
    const { first, weights } = rows[y];
    for (let x = 0; x < newWidth; x++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * across[(first + j) * newWidth + x];
      result[y * newWidth + x] = sum;
    }
  }
  return result;
}

function taps(size, newSize) {
  const scale = size / newSize;
  const support = Math.max(scale, 1);
  return Array.from({ length: newSize }, (_, i) => {
    const centre = scale * (i + 0.5);
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), size);
    const weights = Array.from({ length: last - first }, (_, j) =>
      Math.max(0, 1 - Math.abs((first + j - centre + 0.5) / support)),
    );
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** Hexadecimal SHA-256 of bytes. */
export async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
