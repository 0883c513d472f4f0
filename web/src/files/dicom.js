// DICOM images through daikon: grey values rescaled and windowed as the header says, or 8-bit colour.
// Of the header only what concerns the grey values and the sampling is read; nothing else leaves this module.

import daikon from "daikon";

import { robustWindow } from "../core/picture.js";

export async function readDicom(bytes) {
  daikon.Parser.verbose = false;
  let image = null;
  try {
    image = daikon.Series.parseImage(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch {
    throw new Error("errors.damaged");
  }
  if (!image?.hasPixelData()) throw new Error("errors.no_picture");
  const number = (group, element, otherwise = NaN, tags = image.tags) => {
    const value = Number(tags[key(group, element)]?.value?.[0] ?? NaN);
    return Number.isFinite(value) ? value : otherwise;
  };
  const word = (group, element, tags = image.tags) => String(tags[key(group, element)]?.value?.[0] ?? "").trim();
  const photometric = word(0x0028, 0x0004);
  if (photometric === "PALETTE COLOR") throw new Error("errors.palette");
  const [height, width] = [image.getRows(), image.getCols()];
  const frames = Math.max(1, image.getNumberOfFrames() || 1);
  const samples = number(0x0028, 0x0002, 1);
  if (photometric === "YBR_FULL_422" && !image.isCompressed()) throw new Error("errors.no_picture"); // two bytes a pixel
  const bits = number(0x0028, 0x0100, 16);
  const [kept, signed] = [number(0x0028, 0x0101, bits), number(0x0028, 0x0103, 0) === 1];
  const size = [width, height, frames];
  const spacings = Array.from({ length: frames }, (_, f) => spacingOf(group(image, f, 0x0028, 0x9110)) ?? spacingOf(image.tags));
  const spacing = spacings.every((one) => String(one) === String(spacings[0])) ? spacings[0] : null;
  const measured = Boolean(spacing);
  const placed = { size, spacing: measured ? [spacing[1], spacing[0], 1] : [1, 1, 1], measured, flat: true };

  let raw;
  try {
    raw = image.getRawData();
  } catch {
    throw new Error("errors.damaged");
  }
  const count = width * height * frames;
  if (samples === 3 && bits === 8) {
    if (raw.byteLength < 3 * count) throw new Error("errors.damaged");
    const values = colour(new Uint8Array(raw), count / frames, frames, image.getPlanarConfig() === 1);
    if (/^YBR_FULL/.test(photometric) && !image.isCompressed()) toRGB(values);
    return { ...placed, values, window: null, colour: true };
  }
  if (samples !== 1) throw new Error("errors.voxel_type");
  if (raw.byteLength < (count * bits) / 8) throw new Error("errors.damaged");
  const stored = grey(raw, count, bits, kept, signed, image.littleEndian);
  const values = new Float32Array(count);
  for (let f = 0, area = count / frames; f < frames; f++) {
    const rule = group(image, f, 0x0028, 0x9145) ?? image.tags;
    const [slope, intercept] = [number(0x0028, 0x1053, 1, rule), number(0x0028, 0x1052, 0, rule)];
    for (let i = f * area; i < (f + 1) * area; i++) values[i] = stored[i] * slope + intercept;
  }
  const windows = Array.from({ length: frames }, (_, f) => windowOf(group(image, f, 0x0028, 0x9132) ?? image.tags));
  const differ = windows.every(Boolean) && new Set(windows.map(String)).size > 1;
  return {
    ...placed,
    values,
    window: windows[Math.floor(frames / 2)] ?? opening(),
    windows: differ ? windows : null,
    inverted: photometric === "MONOCHROME1",
  };

  /** The window that a header or a frame's group states, if it does. */
  function windowOf(tags) {
    const [centre, span] = [number(0x0028, 0x1050, NaN, tags), number(0x0028, 0x1051, NaN, tags)];
    const exact = (word(0x0028, 0x1056, tags) || "LINEAR") !== "LINEAR"; // VOI LUT Function
    if (Number.isNaN(centre) || !(span > 0) || (!exact && span < 1)) return null;
    if (exact) return [centre - span / 2, centre + span / 2];
    const low = centre - 0.5 - (span - 1) / 2;
    return [low, low + Math.max(span - 1, 1e-3)];
  }

  /** Without a window, stored values of at most 8 bits are shown over their range, as _opening in medsegdiff/dicom.py does. */
  function opening() {
    const white = 2 ** kept - 1;
    const plain = kept <= 8 && !signed && !image.getTag(0x0028, 0x3000) && values.every((value) => value >= 0 && value <= white);
    return plain ? [0, white] : robustWindow(values);
  }
}

const key = (group, element) => daikon.Tag.createId(group, element);

/** Tags by their key, of the item of a functional group: of the frame, else shared by all frames. */
function group(image, frame, ...of) {
  const item = (tags, place) => (Array.isArray(tags?.value) ? tags.value[place]?.value : null);
  const found = (tags) => (Array.isArray(tags) ? tags.find((tag) => tag.group === of[0] && tag.element === of[1]) : null);
  const [own, shared] = [image.getTag(0x5200, 0x9230), image.getTag(0x5200, 0x9229)];
  const inside = item(found(item(own, frame)), 0) ?? item(found(item(shared, 0)), 0);
  return inside ? Object.fromEntries(inside.map((tag) => [tag.id, tag])) : null;
}

/** Distance between rows and between columns in mm; null where it is not stated. */
function spacingOf(tags) {
  const spacing = tags?.[key(0x0028, 0x0030)]?.value?.map(Number);
  return spacing?.length === 2 && spacing.every((v) => v > 0) ? spacing : null;
}

function grey(raw, count, bits, stored, signed, littleEndian) {
  const view = new DataView(raw);
  const values = new Float32Array(count);
  const shift = 32 - stored;
  for (let i = 0; i < count; i++) {
    const word = bits === 8 ? view.getUint8(i) : bits === 16 ? view.getUint16(2 * i, littleEndian) : view.getUint32(4 * i, littleEndian);
    values[i] = signed ? (word << shift) >> shift : (word << shift) >>> shift; // the bits that are stored, and no others
  }
  return values;
}

function colour(raw, area, frames, planar) {
  if (!planar) return raw.slice(0, 3 * area * frames);
  const values = new Uint8Array(3 * area * frames);
  for (let f = 0; f < frames; f++) {
    for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) values[3 * (f * area + i) + c] = raw[(3 * f + c) * area + i];
  }
  return values;
}

function toRGB(values) {
  const clamp = (v) => Math.min(255, Math.max(0, Math.round(v)));
  for (let i = 0; i < values.length; i += 3) {
    const [y, b, r] = [values[i], values[i + 1] - 128, values[i + 2] - 128];
    values[i] = clamp(y + 1.402 * r);
    values[i + 1] = clamp(y - 0.344136 * b - 0.714136 * r);
    values[i + 2] = clamp(y + 1.772 * b);
  }
}
