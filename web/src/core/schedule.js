// The noise schedule and what a network's output means; medsegdiff/schedule.py and medsegdiff/sampling/times.py say why.
// Masks are Float32Arrays of members x channels x height x width, in [-scale, scale].

/** Which steps of the training schedule a sampler visits, noisiest first. */
export function spaced(timesteps, steps, spacing = "trailing") {
  const all = Array.from({ length: steps }, (_, i) => i);
  if (spacing === "trailing") return all.map((i) => roundEven((timesteps * (steps - i)) / steps) - 1);
  if (spacing === "leading") return all.map((i) => (steps - 1 - i) * Math.floor(timesteps / steps));
  if (spacing === "even") {
    if (steps === 1) return [timesteps - 1];
    const stride = -(timesteps - 1) / (steps - 1);
    return all.map((i) => (i === steps - 1 ? 0 : roundEven(timesteps - 1 + i * stride)));
  }
  if (spacing === "early") {
    let last = timesteps;
    return all.map((i) => (last = Math.min(last - 1, roundEven(timesteps * (1 - (i / steps) ** 2)) - 1)));
  }
  throw new RangeError(`spacing is ${spacing}`);
}

function roundEven(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** Schedule, scale and parametrisation of one checkpoint. */
export class Diffusion {
  constructor(config, channels) {
    this.alphaBar = config.alpha_bar;
    this.timesteps = config.timesteps;
    this.scale = config.scale;
    this.parametrization = config.parametrization;
    this.channels = channels;
  }

  /** alpha_bar at t; -1 is clean. */
  alphaBarAt(t) {
    return t < 0 ? 1 : this.alphaBar[t];
  }

  /** x_t from a clean mask and its noise. */
  noised(x0, t, eps) {
    const [signal, noise] = this.#weights(t);
    return x0.map((value, i) => signal * value + noise * eps[i]);
  }

  /** The noise that x_t and a clean mask imply. */
  epsFromX0(xt, t, x0) {
    const [signal, noise] = this.#weights(t);
    return xt.map((value, i) => (value - signal * x0[i]) / noise);
  }

  /** The clean mask that a network's output stands for. */
  x0(output, xt, t, area) {
    if (this.parametrization === "x_0") return this.x0OfLogits(output, area);
    const [signal, noise] = this.#weights(t);
    const solve =
      this.parametrization === "epsilon" ? (x, eps) => (x - noise * eps) / signal : (x, v) => signal * x - noise * v;
    return xt.map((x, i) => Math.min(this.scale, Math.max(-this.scale, solve(x, output[i]))));
  }

  /** The clean mask that logits stand for. */
  x0OfLogits(logits, area) {
    if (this.channels === 1) return logits.map((value) => this.scale * Math.tanh(value / 2));
    return softmax(logits, this.channels, area).map((share) => this.scale * (2 * share - 1));
  }

  /** Class probabilities of masks, one map for one class (the foreground's), else one for each channel. */
  probability(x0, area, temperature = 1) {
    const shares = x0.map((value) => Math.min(1, Math.max(0, (value / this.scale + 1) / 2)));
    if (temperature !== 1) {
      const power = (share) => share ** (1 / temperature);
      shares.forEach((share, i) => {
        shares[i] = this.channels > 1 ? power(share) : power(share) / (power(share) + power(1 - share));
      });
    }
    if (this.channels > 1) {
      forPixels(shares, this.channels, area, (start, stride) => {
        let sum = 0;
        for (let c = 0; c < this.channels; c++) sum += shares[start + c * stride];
        if (!sum) shares[start] = sum = 1; // no class: background
        for (let c = 0; c < this.channels; c++) shares[start + c * stride] /= sum;
      });
    }
    return shares;
  }

  /** Class probabilities of logits, laid out as `probability` does. */
  probabilityOfLogits(logits, area) {
    if (this.channels === 1) return logits.map((value) => 1 / (1 + Math.exp(-value)));
    return softmax(logits, this.channels, area);
  }

  #weights(t) {
    const alphaBar = this.alphaBarAt(t);
    return [Math.fround(Math.sqrt(alphaBar)), Math.fround(Math.sqrt(1 - alphaBar))];
  }
}

/**
 * The anchor's mask for each member, faded class by class to the extent that the member does not contain it; `faded_anchor`
 * of medsegdiff/sampling. `anchor` has the class probabilities of one image.
 */
export function fadedAnchor(diffusion, x0, anchor, area) {
  const { channels, scale } = diffusion;
  const shares = diffusion.probability(x0, area);
  const first = channels === 1 ? 0 : 1; // of the foreground
  const squares = Array.from({ length: channels }, (_, c) => dot(anchor, c * area, anchor, c * area, area));
  const faded = new Float32Array(x0.length);
  for (let start = 0; start < faded.length; start += channels * area) {
    if (first) faded.fill(1, start, start + area);
    for (let c = first; c < channels; c++) {
      const found = Math.min(1, dot(shares, start + c * area, anchor, c * area, area) / Math.max(squares[c], 1e-6));
      for (let i = 0; i < area; i++) {
        const share = found * anchor[c * area + i];
        faded[start + c * area + i] = share;
        if (first) faded[start + i] -= share;
      }
    }
  }
  return faded.map((share) => scale * (2 * share - 1));
}

function dot(a, from, b, other, length) {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[from + i] * b[other + i];
  return sum;
}

function forPixels(values, channels, area, each) {
  for (let start = 0; start < values.length; start += channels * area) {
    for (let pixel = 0; pixel < area; pixel++) each(start + pixel, area);
  }
}

function softmax(logits, channels, area) {
  const shares = new Float32Array(logits.length);
  forPixels(logits, channels, area, (start, stride) => {
    let most = -Infinity;
    for (let c = 0; c < channels; c++) most = Math.max(most, logits[start + c * stride]);
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += Math.exp(logits[start + c * stride] - most);
    for (let c = 0; c < channels; c++) shares[start + c * stride] = Math.exp(logits[start + c * stride] - most) / sum;
  });
  return shares;
}
