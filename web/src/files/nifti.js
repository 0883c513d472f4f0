// NIfTI volumes, turned to x left, y back, z head (LPS) by permuting and flipping axes only.

import { NIFTI1, decompress, isCompressed, isNIFTI, readHeader, readImage } from "nifti-reader-js";

import { robustWindow } from "../core/picture.js";

const TYPES = {
  2: [1, "getUint8"],
  4: [2, "getInt16"],
  8: [4, "getInt32"],
  16: [4, "getFloat32"],
  64: [8, "getFloat64"],
  256: [1, "getInt8"],
  512: [2, "getUint16"],
  768: [4, "getUint32"],
};
const MILLIMETRES = { 1: 1e3, 3: 1e-3 }; // metres and micrometres; other codes are taken as mm
const IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

export function readNifti(bytes) {
  let [buffer, header] = [bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength), null];
  try {
    if (isCompressed(buffer)) buffer = decompress(buffer);
    if (!isNIFTI(buffer)) throw new Error();
    header = readHeader(buffer);
  } catch {
    throw new Error("errors.damaged");
  }
  const rank = header.dims[0];
  const size = [1, 2, 3].map((i) => (i <= rank ? header.dims[i] : 1));
  if (header.dims.slice(4, rank + 1).some((sides) => sides > 1)) throw new Error("errors.four_dimensions");
  const type = TYPES[header.datatypeCode];
  if (!type) throw new Error("errors.voxel_type");
  const count = size[0] * size[1] * size[2];
  header.vox_offset = Math.max(header.vox_offset, header instanceof NIFTI1 ? 352 : 544); // some writers leave it at 0
  const data = new DataView(readImage(header, buffer));
  if (!(count > 0) || data.byteLength < count * type[0]) throw new Error("errors.damaged");
  const scaled = Number.isFinite(header.scl_slope) && header.scl_slope !== 0;
  const [slope, intercept] = scaled ? [header.scl_slope, header.scl_inter] : [1, 0];
  const stored = new Float32Array(count);
  const get = data[type[1]].bind(data);
  for (let i = 0; i < count; i++) stored[i] = get(i * type[0], header.littleEndian) * slope + intercept;

  const unit = MILLIMETRES[header.xyzt_units & 7] ?? 1;
  let matrix = affine(header, buffer, rank).map((row) => row.map((v) => v * unit));
  const known = regular(matrix);
  if (!known) matrix = IDENTITY;
  // Without a matrix the distances are the voxel sizes, of which `affine` takes 0 as 1.
  const measured = known && (header.sform_code !== 0 || header.pixDims.slice(1, Math.min(rank, 3) + 1).every((side) => side !== 0));
  const lps = [matrix[0].map((v) => -v), matrix[1].map((v) => -v), matrix[2]]; // NIfTI counts to the right and to the front
  const { values, sides, order } = toLPS(stored, size, lps, rank);
  const columns = order.map((axis) => lps.map((row) => row[axis]));
  const spacing = columns.map((column) => Math.hypot(...column));
  return { values, size: sides, spacing, columns, measured, window: robustWindow(values) };
}

/** The matrix from voxel axes to x right, y front, z head, as nibabel's get_best_affine without the origin. */
function affine(header, buffer, rank) {
  if (header.sform_code !== 0) return sform(header, buffer);
  const sides = [1, 2, 3].map((i) => Math.abs(header.pixDims[i]) || 1);
  if (header.qform_code !== 0) return rotation(header).map((row) => row.map((v, i) => v * sides[i]));
  const [x, y, z] = sides.map((side, i) => (i < rank ? side : 1));
  return [[-x, 0, 0], [0, y, 0], [0, 0, z]]; // without codes NIfTI, like ANALYZE, has x to the left
}

/** The sform. Of NIfTI-1 the library keeps the qform's matrix in its place if that has the higher code. */
function sform(header, buffer) {
  if (!(header instanceof NIFTI1)) return header.affine.slice(0, 3).map((row) => row.slice(0, 3));
  const view = new DataView(buffer);
  return [280, 296, 312].map((row) => [0, 4, 8].map((column) => view.getFloat32(row + column, header.littleEndian)));
}

/** Whether a matrix has an inverse, up to the rounding of its columns. */
function regular(matrix) {
  const [a, b, c] = [0, 1, 2].map((i) => matrix.map((row) => row[i]));
  const cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
  const volume = Math.abs(a.reduce((sum, v, i) => sum + v * cross[i], 0));
  return volume > 1e-9 * Math.hypot(...a) * Math.hypot(...b) * Math.hypot(...c);
}

function rotation(header) {
  const { quatern_b: b, quatern_c: c, quatern_d: d } = header;
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  const handed = header.pixDims[0] === -1 ? -1 : 1;
  return [
    [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), handed * 2 * (b * d + a * c)],
    [2 * (b * c + a * d), a * a + c * c - b * b - d * d, handed * 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), handed * (a * a + d * d - b * b - c * c)],
  ];
}

function toLPS(stored, size, matrix, rank) {
  // Each voxel axis goes to the patient's axis that it follows most closely, the clearest choice first.
  const lengths = [0, 1, 2].map((i) => Math.hypot(matrix[0][i], matrix[1][i], matrix[2][i]) || 1);
  const cells = [0, 1, 2].flatMap((k) => [0, 1, 2].map((i) => ({ k, i, cosine: matrix[k][i] / lengths[i] })));
  let [order, flips] = [[], []];
  const taken = new Set();
  for (const { k, i, cosine } of cells.sort((a, b) => Math.abs(b.cosine) - Math.abs(a.cosine))) {
    if (order[k] !== undefined || taken.has(i)) continue;
    [order[k], flips[k]] = [i, cosine < 0];
    taken.add(i);
  }
  // The plane of a flat file is shown as it is stored, unless it is axial; as medsegdiff/nifti.py does.
  if (rank === 2 && order[2] !== 2) [order, flips] = [[0, 1, 2], []];
  const strides = [1, size[0], size[0] * size[1]];
  const sides = order.map((i) => size[i]);
  const values = new Float32Array(stored.length);
  let to = 0;
  const from = (k, at) => (flips[k] ? sides[k] - 1 - at : at) * strides[order[k]];
  for (let z = 0; z < sides[2]; z++) {
    for (let y = 0; y < sides[1]; y++) {
      for (let x = 0; x < sides[0]; x++) values[to++] = stored[from(0, x) + from(1, y) + from(2, z)];
    }
  }
  return { values, sides, order };
}
