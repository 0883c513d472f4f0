// PNG and JPEG. The browser decodes 8 bits; of 16 it would keep the upper 8, so fast-png reads those.

import { robustWindow } from "../core/picture.js";

export async function readRaster(bytes, kind) {
  const deep = kind === "png" && bytes[24] === 16;
  return deep ? readDeep(bytes) : readShallow(bytes, kind);
}

async function readShallow(bytes, kind) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: `image/${kind}` }), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("errors.damaged");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });
  context.drawImage(bitmap, 0, 0); // transparency over black
  bitmap.close();
  return { pixels: rgb(context.getImageData(0, 0, width, height).data), height, width, window: null };
}

function rgb(rgba) {
  const pixels = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    pixels[to++] = rgba[from];
    pixels[to++] = rgba[from + 1];
    pixels[to++] = rgba[from + 2];
  }
  return pixels;
}

async function readDeep(bytes) {
  const { decode } = await import("fast-png");
  let image;
  try {
    image = decode(bytes);
  } catch {
    throw new Error("errors.damaged");
  }
  const { data, width, height, channels } = image;
  if (channels === 1) {
    const values = Float32Array.from(data);
    return { values, size: [width, height, 1], spacing: [1, 1, 1], measured: false, window: robustWindow(values) };
  }
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const opaque = channels % 2 ? 1 : data[i * channels + channels - 1] / 65535;
    for (let c = 0; c < 3; c++) pixels[3 * i + c] = (data[i * channels + (channels > 2 ? c : 0)] >> 8) * opaque;
  }
  return { pixels, height, width, window: channels > 2 ? [0, 65535] : null };
}
