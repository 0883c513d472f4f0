// Files to pictures, known by their content. A file is a flat picture, or a stack of slices with a window.
// Every refusal is an Error whose message is a key of the texts.

import { MAX_PIXELS, MIN_SIDE, greyPixels, percentilesOf, resolveWindow } from "../core/picture.js";
import { readRaster } from "./raster.js";

const SKEW = Math.sin((0.5 * Math.PI) / 180); // rows and columns at right angles, up to rounding

export const MAX_BYTES = 256 * 2 ** 20;

/** Read bytes: { kind, picture } for a flat picture, { kind, volume } for slices. */
export async function read(bytes) {
  if (!bytes.length) throw new Error("errors.empty");
  if (bytes.length > MAX_BYTES) throw new Error("errors.large");
  const kind = kindOf(bytes);
  if (kind === "nifti" || kind === "gzip") {
    const { readNifti } = await import("./nifti.js");
    return { kind: "nifti", volume: new Volume(readNifti(bytes)) };
  }
  if (kind === "dicom") {
    const { readDicom } = await import("./dicom.js");
    return { kind, volume: new Volume(await readDicom(bytes)) };
  }
  if (kind === "png" || kind === "jpeg") {
    const picture = await readRaster(bytes, kind);
    if (picture.values) return { kind: "deep", volume: new Volume(picture) };
    checkSides(picture.height, picture.width);
    return { kind, picture: { ...picture, axis: 2, index: 0, spacing: null } };
  }
  throw new Error(kind === "tiff" ? "errors.tiff" : "errors.unknown");
}

function kindOf(bytes) {
  const starts = (...values) => values.every((value, i) => bytes[i] === value);
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (starts(0x89, 0x50, 0x4e, 0x47)) return "png";
  if (starts(0xff, 0xd8, 0xff)) return "jpeg";
  if (text(128, 4) === "DICM") return "dicom";
  if (text(344, 3) === "n+1" || text(4, 3) === "n+2") return "nifti";
  if (starts(0x1f, 0x8b)) return "gzip";
  if (["II*\0", "MM\0*", "II+\0", "MM\0+"].includes(text(0, 4))) return "tiff";
  return "unknown";
}

function checkSides(height, width) {
  if (Math.min(height, width) < MIN_SIDE) throw new Error("errors.small");
  if (height * width > MAX_PIXELS) throw new Error("errors.large");
}

/** Slices in the order of a radiologist: x to the patient's left, y to the back, z to the head; or frames along z. */
class Volume {
  constructor({ values, size, spacing, columns = null, measured, window, windows = null, flat = false, inverted = false, colour = false }) {
    Object.assign(this, { values, size, spacing, columns, measured, window, windows, inverted, colour });
    this.flat = flat || size[2] === 1; // slices along z only
    this.known = new Map(); // percentiles of the whole volume
  }

  #percentiles(percentiles) {
    const key = percentiles.join();
    if (!this.known.has(key)) this.known.set(key, percentilesOf(this.values, percentiles));
    return this.known.get(key);
  }

  /** How many slices there are along x, y and z. */
  get counts() {
    return this.size;
  }

  /** Axes along which slices are large enough to segment, as Volume.slice_axes in medsegdiff/image_ref.py. */
  get axes() {
    const large = [0, 1, 2].filter((axis) => Math.min(...this.size.filter((_, i) => i !== axis)) >= MIN_SIDE);
    return this.flat || !large.length ? [2] : large;
  }

  /** The wanted axis; if slices along it are too small to segment, the last of `axes`. */
  sliceAxis(wanted) {
    return this.axes.includes(wanted) ? wanted : this.axes.at(-1);
  }

  /** Whether distances are known in the plane of two axes. */
  #isMeasured(across, down) {
    if (!this.measured || !this.columns) return this.measured;
    const [a, b] = [this.columns[across], this.columns[down]];
    return Math.abs(a.reduce((sum, v, i) => sum + v * b[i], 0)) < SKEW * Math.hypot(...a) * Math.hypot(...b);
  }

  /**
   * One slice as a picture, head or front upwards; the middle one by default.
   *
   * window: grey values shown as black and white; null follows the rule of a checkpoint (see resolveWindow).
   */
  slice(axis = 2, index = null, window = null, rule = null) {
    const place = index ?? Math.floor(this.size[axis] / 2);
    const [nx, ny] = this.size;
    const [across, down] = [0, 1, 2].filter((i) => i !== axis);
    const [width, height] = [this.size[across], this.size[down]];
    checkSides(height, width);
    const channels = this.colour ? 3 : 1;
    const strides = [channels, nx * channels, nx * ny * channels];
    const plane = new this.values.constructor(height * width * channels);
    for (let row = 0; row < height; row++) {
      const y = axis === 2 ? row : height - 1 - row; // z grows to the head, rows count downwards
      for (let column = 0; column < width; column++) {
        const from = place * strides[axis] + y * strides[down] + column * strides[across];
        for (let c = 0; c < channels; c++) plane[(row * width + column) * channels + c] = this.values[from + c];
      }
    }
    const shown = this.colour ? null : window ?? resolveWindow(rule, this.windows?.[place] ?? this.window, plane, (wanted) => this.#percentiles(wanted));
    return {
      pixels: this.colour ? plane : greyPixels(plane, shown, this.inverted),
      height,
      width,
      axis,
      index: place,
      window: shown,
      spacing: this.#isMeasured(across, down) ? [this.spacing[down], this.spacing[across]] : null,
    };
  }
}
