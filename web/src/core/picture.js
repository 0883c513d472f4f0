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

/** Percentiles 0.5 and 99.5 of the finite values (of at most 2^24, thinned evenly); their extremes where those coincide. */
export function robustWindow(values) {
  const stride = Math.ceil(values.length / 2 ** 24);
  const sample = [];
  for (let i = 0; i < values.length; i += stride) if (Number.isFinite(values[i])) sample.push(values[i]);
  if (!sample.length) throw new RangeError("no finite values");
  const sorted = Float32Array.from(sample).sort();
  const percentile = (share) => {
    const place = share * (sorted.length - 1);
    const left = Math.floor(place);
    const [a, b] = [sorted[left], sorted[Math.min(left + 1, sorted.length - 1)]];
    const t = place - left;
    return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
  };
  let [low, high] = [percentile(0.005), percentile(0.995)];
  if (low === high) [low, high] = [sorted[0], sorted[sorted.length - 1]];
  return [low, low < high ? high : low + Math.max(1, Math.abs(low))];
}

/** Squeeze an RGB picture to a square in [-1, 1], channel by channel; one channel is its luminance. */
export function toNetwork(picture, size, channels = 3) {
  const { pixels, height, width } = picture;
  const image = new Float32Array(channels * size * size);
  const plane = new Float32Array(height * width);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < plane.length; i++) {
      plane[i] = channels === 3 ? pixels[3 * i + c] : 0.299 * pixels[3 * i] + 0.587 * pixels[3 * i + 1] + 0.114 * pixels[3 * i + 2];
    }
    const resized = resize(plane, height, width, size, size);
    for (let i = 0; i < resized.length; i++) {
      image[c * size * size + i] = Math.min(1, Math.max(-1, resized[i] / 127.5 - 1));
    }
  }
  return image;
}

/** Bring maps from the network's square to a picture's sides. */
export function toOriginal(maps, size, height, width) {
  const count = maps.length / (size * size);
  const home = new Float32Array(count * height * width);
  for (let i = 0; i < count; i++) {
    home.set(resize(maps.subarray(i * size * size, (i + 1) * size * size), size, size, height, width), i * height * width);
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
