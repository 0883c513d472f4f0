// One stream of noise per ensemble member, the same numbers that medsegdiff/sampling/noise.py draws with PyTorch on the CPU:
//
//   word     first 32-bit word of NumPy's SeedSequence(seed, spawn_key=(member,))
//   bits     MT19937 seeded with that word
//   u        (low 24 bits) * 2^-24, for every value of a draw
//   z        Box-Muller on groups of 16: of u_0 .. u_7 and u_8 .. u_15,
//            z_j = sqrt(-2 ln(1 - u_j)) cos(2 pi u_(j+8)),   z_(j+8) = the same with sin;
//            a draw that is no multiple of 16 draws its last 16 values again
//
// Values agree with PyTorch's to the last digits of float32 (its vectorised logarithm and cosine round differently).

const multiply = Math.imul;
const round = Math.fround; // to float32, at every step, as PyTorch does

/** First word of SeedSequence(seed, spawn_key=[member]); seed may be a BigInt or a safe integer. */
export function seedWord(seed, member) {
  const entropy = words(BigInt(seed));
  while (entropy.length < 4) entropy.push(0);
  entropy.push(...words(BigInt(member)));
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    value ^= constant;
    constant = multiply(constant, 0x931e8875);
    value = multiply(value, constant);
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const value = (multiply(0xca01f9dd, x) - multiply(0x4973f715, y)) | 0;
    return value ^ (value >>> 16);
  };
  const pool = entropy.slice(0, 4).map(hash);
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  for (const value of entropy.slice(4)) {
    for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(value));
  }
  const first = multiply(pool[0] ^ 0x8b51f9dd, multiply(0x8b51f9dd, 0x58f38ded));
  return (first ^ (first >>> 16)) >>> 0;
}

function words(value) {
  const found = [];
  do {
    found.push(Number(value & 0xffffffffn) | 0);
    value >>= 32n;
  } while (value > 0n);
  return found;
}

/** The Mersenne Twister, MT19937 (Matsumoto & Nishimura, 1998): 32-bit words. */
export class MersenneTwister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = multiply(1812433253, before) + i;
    }
    this.place = 624;
  }

  next() {
    if (this.place === 624) this.#turn();
    let word = this.state[this.place++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  #turn() {
    const state = this.state;
    for (let i = 0; i < 624; i++) {
      const joined = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }
}

/** Noise of all members of a run; streams move on with every draw. */
export class MemberNoise {
  constructor(seed, members, first = 0) {
    this.generators = Array.from({ length: members }, (_, i) => new MersenneTwister(seedWord(seed, first + i)));
  }

  /** Standard normal values, `size` (at least 16) for every member, one member after the other. */
  draw(size) {
    const drawn = new Float32Array(this.generators.length * size);
    this.generators.forEach((generator, i) => normals(generator, drawn.subarray(i * size, (i + 1) * size)));
    return drawn;
  }
}

function normals(generator, values) {
  const uniform = () => (generator.next() & 0xffffff) / 0x1000000;
  const uniforms = Float64Array.from(values, uniform);
  for (let i = 0; i + 16 <= values.length; i += 16) pairs(uniforms.subarray(i, i + 16), values.subarray(i, i + 16));
  if (values.length % 16) pairs(Float64Array.from({ length: 16 }, uniform), values.subarray(values.length - 16));
}

function pairs(uniforms, values) {
  for (let j = 0; j < 8; j++) {
    const radius = round(Math.sqrt(-2 * round(Math.log(1 - uniforms[j]))));
    const angle = round(round(2 * Math.PI) * uniforms[j + 8]);
    values[j] = radius * round(Math.cos(angle));
    values[j + 8] = radius * round(Math.sin(angle));
  }
}

const SHARE = 7; // the anchor is averaged over about a seventh of the sides

/**
 * Spread the members' noise evenly along the direction of the anchor, class by class, in place; `stratified` of
 * medsegdiff/sampling/noise.py. `anchor` has the class probabilities of one image, the foreground's alone for one class.
 */
export function stratify(xt, anchor, channels, size, members) {
  const area = size * size;
  for (let c = channels === 1 ? 0 : 1; c < channels; c++) {
    const direction = averaged(anchor.subarray(c * area, (c + 1) * area), size);
    const norm = Math.sqrt(direction.reduce((sum, value) => sum + value * value, 0));
    if (!(norm > 0)) continue;
    const starts = Array.from({ length: members }, (_, m) => (m * channels + c) * area);
    const before = starts.map((start) => direction.reduce((sum, value, i) => sum + xt[start + i] * value, 0) / norm);
    const shift = normalCdf(before.reduce((sum, p) => sum + p, 0) / Math.sqrt(members));
    starts.forEach((start, m) => {
      const rank = before.filter((p, other) => p < before[m] || (p === before[m] && other < m)).length;
      const change = (normalQuantile((rank + shift) / members) - before[m]) / norm;
      for (let i = 0; i < area; i++) xt[start + i] += change * direction[i];
    });
  }
}

/** The mean over a square around each pixel; outside the image is 0. */
function averaged(map, size) {
  const reach = Math.round((size / SHARE - 1) / 2);
  const along = (values, step, across) =>
    Float64Array.from(values, (_, pixel) => {
      const place = Math.floor(pixel / step) % size;
      let sum = 0;
      for (let k = Math.max(-reach, -place); k <= reach && place + k < size; k++) sum += values[pixel + k * across];
      return sum / (2 * reach + 1);
    });
  return along(along(map, 1, 1), size, size);
}

/** Phi(x), by Marsaglia's series (2004, Journal of Statistical Software 11(4)). */
function normalCdf(x) {
  let sum = x;
  for (let term = x, k = 3, last = NaN; sum !== last; k += 2) {
    last = sum;
    term *= (x * x) / k;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

/** Phi^-1(p), by bisection. */
function normalQuantile(p) {
  let [low, high] = [-9, 9];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
