// A picture in, a mask at the picture's own size out; the same journey as medsegdiff/pipeline.py.

import { argmaxLabels, change, fuse } from "./ensemble.js";
import { mirrored } from "./mirror.js";
import { MemberNoise, stratify } from "./noise.js";
import { sha256, toNetwork, toOriginal } from "./picture.js";
import { encodeRuns } from "./report.js";
import { sampler } from "./sampling.js";
import { Diffusion, fadedAnchor, spaced } from "./schedule.js";

/** One checkpoint ready to run. `networks` has condition(image) and denoise(x_t, t, features, members, trace). */
export class Segmenter {
  constructor(model, networks) {
    this.model = model;
    this.networks = networks;
    this.size = model.image.size;
    this.area = this.size ** 2;
    this.channels = model.mask.channels;
    this.field = model.domain.field ?? 1;
    this.diffusion = new Diffusion(model.diffusion, this.channels);
  }

  /** Fill in what the checkpoint decides; throws an Error whose message is a key of the texts. */
  resolve(settings) {
    const resolved = { ...settings };
    if (this.model.kind === "unet" || resolved.steps === 0) Object.assign(resolved, { members: 1, steps: 0 });
    if (this.model.kind === "v1" && resolved.steps === 0) throw new Error("errors.no_anchor");
    if (resolved.noise === "auto") resolved.noise = this.model.domain.may_be_absent ? "stratified" : "independent";
    if (resolved.mirror === "auto") resolved.mirror = this.model.domain.mirror ?? "none";
    if (resolved.fuse === "auto") resolved.fuse = this.model.domain.fuse ?? "staple";
    resolved.anchor_weight ??= this.model.domain.anchor_weight ?? 0;
    if (this.model.kind === "v1" || resolved.steps === 0) {
      resolved.anchor_weight = 0;
      resolved.noise = "independent";
      if (resolved.fuse === "anchored") resolved.fuse = "mean";
    }
    if (resolved.size && resolved.size !== this.size) throw new Error("errors.size");
    resolved.size = this.size;
    return resolved;
  }

  /** Yield a start, every step, and the result. The temperature is the checkpoint's by default. */
  async *run(picture, wanted, temperature = null) {
    temperature ??= this.model.domain.temperature ?? 1;
    const settings = this.resolve(wanted);
    const began = performance.now();
    const { size, area, channels, diffusion } = this;
    const image = toNetwork(picture, size, this.model.image.channels, this.field);
    const networks = mirrored(this.networks, settings.mirror, size, channels);
    const condition = await networks.condition(image);
    const logits = condition.anchor_logits ?? null;
    const anchor = logits && diffusion.probabilityOfLogits(logits, area);
    const times = settings.steps ? spaced(diffusion.timesteps, settings.steps, settings.spacing) : [];
    const seconds = () => (performance.now() - began) / 1000;
    yield { kind: "start", anchor, times, seconds: seconds() };

    let probability = anchor;
    if (times.length) {
      const noise = new MemberNoise(settings.seed, settings.members);
      const step = sampler(settings.sampler, diffusion, noise, settings.eta);
      const whole = settings.anchor_weight ? diffusion.x0OfLogits(logits, area) : null;
      let xt = noise.draw(channels * area);
      if (settings.noise === "stratified") stratify(xt, anchor, channels, size, settings.members);
      let before = null;
      for (let index = 0; index < times.length; index++) {
        const [t, s] = [times[index], times[index + 1] ?? -1];
        const output = await networks.denoise(xt, t, condition, settings.members, settings.trace);
        let x0 = diffusion.x0(output.output, xt, t, area);
        if (whole) {
          const pull = this.model.domain.may_be_absent ? fadedAnchor(diffusion, x0, anchor, area) : whole;
          x0 = x0.map((value, i) => value + settings.anchor_weight * (pull[i % pull.length] - value));
        }
        const xs = step(xt, x0, t, s);
        probability = diffusion.probability(x0, area, temperature);
        yield { kind: "step", index, total: times.length, t, s, xt, x0, probability, traces: output.traces, seconds: seconds() };
        const left = times.length - 1 - index;
        const settled = settings.tolerance > 0 && before && left * change(before, probability, channels, area) < settings.tolerance;
        if (settled) break;
        before = probability;
        xt = xs;
      }
    }
    yield await this.#result(picture, settings, temperature, probability, anchor, seconds);
  }

  #home(maps, { height, width }) {
    return toOriginal(maps, this.size, height, width, this.channels, this.field);
  }

  async #result(picture, settings, temperature, probability, anchor, seconds) {
    const { height, width } = picture;
    const area = height * width;
    const home = this.#home(probability, picture);
    const anchorHome = anchor && this.#home(anchor, picture);
    const fusion = fuse(home, this.channels, area, settings.fuse, anchorHome);
    const anchorLabels = anchorHome && argmaxLabels(anchorHome, this.channels, area);
    const digest = await sha256(fusion.labels);
    const spent = seconds();
    const areas = {};
    this.model.domain.labels.forEach((name, i) => {
      const pixels = fusion.labels.reduce((sum, label) => sum + (label === i + 1), 0);
      const [row, column] = picture.spacing ?? [];
      areas[name] = { pixels, share: pixels / area, ...(picture.spacing ? { mm2: pixels * row * column } : {}) };
    });
    const report = {
      settings,
      checkpoint: this.model.checkpoint,
      areas,
      temperature,
      dtype: "float32",
      picture: {
        height,
        width,
        axis: picture.axis ?? 2,
        index: picture.index ?? 0,
        window: picture.window ?? null,
        sha256: await sha256(picture.pixels),
      },
      mask: { sha256: digest, runs: encodeRuns(fusion.labels) },
      spacing_mm: picture.spacing ?? null,
      seconds: Math.round(spent * 1e4) / 1e4,
      versions: this.networks.versions,
    };
    return { kind: "result", ...fusion, anchorLabels, report, seconds: spent };
  }
}
