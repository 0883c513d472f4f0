// A thread of the page: reads a file, or loads models and runs them step by step. Pictures never leave it but to the page.

import { read } from "./files/index.js";
import { Segmenter } from "./core/segmenter.js";
import { sha256 } from "./core/picture.js";
import { get, offline } from "./fetch.js";

const BASE = new URL(".", self.location.href);
let runtime = null; // { ort, backend, threads }
let segmenter = null;
let loads = 0; // number of the last model that was asked for
let opened = null; // what `read` returned
let cancelled = 0; // number of the last run that was told to stop

const pause = () => new Promise((resolve) => setTimeout(resolve)); // lets messages in between two steps

async function start(wanted) {
  const gpu = !wanted.startsWith("wasm") && (await hasGpu(wanted === "webgpu"));
  const [file, wasm] = gpu
    ? ["ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm"]
    : ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];
  const ort = await import(new URL(`ort/${file}`, BASE).href).catch(offline);
  ort.env.wasm.wasmPaths = { wasm: new URL(`ort/${wasm}`, BASE).href };
  const cores = Math.min(navigator.hardwareConcurrency || 1, 4);
  ort.env.wasm.numThreads = self.crossOriginIsolated && wanted !== "wasm-1" ? cores : 1;
  ort.env.logLevel = "error";
  return { ort, backend: gpu ? "webgpu" : "wasm", threads: ort.env.wasm.numThreads };
}

/** Whether WebGPU has a device; one that the processor only imitates counts where WebGPU was asked for by name. */
async function hasGpu(imitated) {
  if (!navigator.gpu || !("Suspending" in WebAssembly)) return false;
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return Boolean(adapter) && (imitated || !adapter.info?.isFallbackAdapter);
}

/** Fetch with progress, and check the digest. */
async function fetchFile(url, facts, progress) {
  const response = await get(url);
  const bytes = new Uint8Array(facts.bytes);
  let place = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read().catch(offline);
    if (done) break;
    if (place + value.length > bytes.length) throw new Error("errors.model");
    bytes.set(value, place);
    progress(value.length);
    place += value.length;
  }
  if ((await sha256(bytes)) !== facts.sha256) throw new Error("errors.model");
  return bytes;
}

/** Load a model; null if another was asked for meanwhile, since loads do not end in the order in which they began. */
async function load({ name, backend }, tell) {
  const number = ++loads;
  if (!runtime) {
    tell({ stage: "runtime" });
    runtime = await start(backend);
  }
  const base = new URL(`models/${name}/`, BASE);
  const model = await (await get(new URL("model.json", base))).json();
  const total = Object.values(model.files).reduce((sum, file) => sum + file.bytes, 0);
  let got = 0;
  const progress = (bytes) => tell({ stage: "weights", share: (got += bytes) / total });
  const sessions = {};
  for (const [file, facts] of Object.entries(model.files)) {
    const bytes = await fetchFile(new URL(`${file}?${facts.sha256.slice(0, 12)}`, base), facts, progress);
    tell({ stage: "compile" });
    sessions[file] = await session(bytes);
  }
  const loaded = networks(model, sessions);
  if (number !== loads) {
    await loaded.release();
    return null;
  }
  const before = segmenter;
  segmenter = new Segmenter(model, loaded);
  await before?.networks.release();
  return { model: { ...model, diffusion: null }, backend: runtime.backend, threads: runtime.threads };
}

async function session(bytes) {
  const { ort, backend } = runtime;
  return ort.InferenceSession.create(bytes, { executionProviders: [backend], graphOptimizationLevel: "all" });
}

function networks(model, sessions) {
  const { ort, backend, threads } = runtime;
  const condition = sessions["condition.onnx"];
  const denoiser = sessions["denoiser.onnx"];
  const { size } = model.image;
  const traced = new Map(model.traces.map((trace) => [trace.output, trace]));
  return {
    versions: { "onnxruntime-web": ort.env.versions?.web ?? ort.env.versions?.common ?? "", backend, threads: String(threads) },
    async condition(image) {
      const found = await condition.run({ image: new ort.Tensor("float32", image, [1, model.image.channels, size, size]) });
      return { features: found, anchor_logits: found.anchor_logits ? await found.anchor_logits.getData() : null };
    },
    async denoise(xt, t, { features }, members, trace) {
      const feeds = {
        x_t: new ort.Tensor("float32", xt, [members, model.mask.channels, size, size]),
        t: new ort.Tensor("int64", BigInt64Array.of(BigInt(t)), [1]),
      };
      for (const name of denoiser.inputNames) feeds[name] ??= features[name];
      const wanted = denoiser.outputNames.filter((name) => name === "output" || (trace && traced.has(name)));
      const found = await denoiser.run(feeds, wanted);
      const traces = [];
      for (const name of wanted) {
        if (traced.has(name)) traces.push({ ...traced.get(name), dims: found[name].dims, data: Float32Array.from(await found[name].getData()) });
      }
      return { output: await found.output.getData(), traces };
    },
    release: () => Promise.all(Object.values(sessions).map((one) => one.release())),
  };
}

async function open({ bytes, axis, rule }) {
  const found = await read(bytes);
  const { kind, volume } = found;
  const picture = volume ? volume.slice(volume.sliceAxis(axis), null, null, rule) : found.picture;
  opened = found; // only now: of a volume whose slices are refused, the page shows none
  if (!volume) return { kind, counts: null, picture };
  const { counts, axes, colour } = volume;
  return { kind, counts, axes, colour, picture };
}

function slice({ axis, index, window, rule }) {
  return { picture: opened.volume.slice(axis, index, window, rule) };
}

async function run({ number, picture, settings, temperature }, tell) {
  if (!segmenter) throw new Error("errors.no_model");
  if (!picture) throw new Error("errors.no_image");
  for await (const event of segmenter.run(picture, settings, temperature)) {
    if (cancelled >= number) return { cancelled: true };
    if (event.kind === "result") return event;
    tell(event.kind === "start" ? event : viewed(event));
    await pause();
    if (cancelled >= number) return { cancelled: true };
  }
  return null;
}

/** What the page shows of a step, in bytes: x_t and x_0 of every member, and the members' mean. */
function viewed(step) {
  const { channels, area, diffusion } = segmenter;
  const members = step.x0.length / (channels * area);
  const { scale } = diffusion;
  const noisy = new Uint8ClampedArray(members * area); // x_t may lie beyond the spread
  const clean = new Uint8Array(members * channels * area);
  const mean = new Uint8Array(channels * area);
  const reach = 3 + scale; // x_t is nearly normal at first, and within [-scale, scale] at the end
  const signal = Math.sqrt(diffusion.alphaBarAt(step.t)) * scale;
  const spread = Math.min(reach, signal + 2.5 * Math.sqrt(1 - diffusion.alphaBarAt(step.t)));
  for (let m = 0; m < members; m++) {
    for (let i = 0; i < area; i++) {
      const value = step.xt[m * channels * area + i] * (channels === 1 ? 1 : -1); // of several classes, all but the background
      noisy[m * area + i] = 127.5 + (127.5 * value) / spread;
    }
  }
  step.probability.forEach((share, i) => (clean[i] = Math.round(255 * share)));
  const sums = new Float32Array(channels * area);
  step.probability.forEach((share, i) => (sums[i % sums.length] += share));
  sums.forEach((sum, i) => (mean[i] = Math.round((255 * sum) / members)));
  const { index, total, t, s, traces, seconds } = step;
  return { kind: "step", index, total, t, s, traces, seconds, members, noisy, clean, mean };
}

const HANDLERS = { load, open, slice, run };

self.onmessage = async ({ data: { id, type, ...request } }) => {
  if (type === "cancel") {
    cancelled = request.number;
    return;
  }
  const tell = (event) => self.postMessage({ id, event });
  try {
    self.postMessage({ id, result: await HANDLERS[type](request, tell) });
  } catch (error) {
    self.postMessage({ id, error: error.message || String(error) });
  }
};
