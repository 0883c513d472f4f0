// One sampling step: from x_t at t to x_s at s. medsegdiff/sampling/ has the formulas and their sources.

export const SAMPLERS = ["ddim", "dpm-solver++"];

/** Make one run's step function: (x_t, x_0, t, s) -> x_s. */
export function sampler(name, diffusion, noise, eta = 0) {
  if (name === "ddim") return ddim(diffusion, noise, eta);
  if (name === "dpm-solver++") return dpmSolver(diffusion);
  throw new RangeError(`sampler is ${name}`);
}

function ddim(diffusion, noise, eta) {
  return (xt, x0, t, s) => {
    let eps = diffusion.epsFromX0(xt, t, x0);
    if (eta > 0 && s >= 0) {
      const at = diffusion.alphaBarAt(t);
      const rho = eta * Math.sqrt((1 - at / diffusion.alphaBarAt(s)) / (1 - at));
      const kept = Math.sqrt(1 - rho ** 2);
      const fresh = noise.draw(eps.length / noise.generators.length);
      eps = eps.map((value, i) => kept * value + rho * fresh[i]);
    }
    return diffusion.noised(x0, s, eps);
  };
}

function dpmSolver(diffusion) {
  const halfLogSnr = (t) => 0.5 * Math.log(diffusion.alphaBarAt(t) / (1 - diffusion.alphaBarAt(t)));
  let before = null;
  return (xt, x0, t, s) => {
    const now = halfLogSnr(t);
    let aim = x0;
    if (before && s >= 0) {
      const ahead = (halfLogSnr(s) - now) / (now - before.lambda) / 2;
      aim = x0.map((value, i) => value + ahead * (value - before.x0[i]));
    }
    before = { x0, lambda: now };
    return diffusion.noised(aim, s, diffusion.epsFromX0(xt, t, aim));
  };
}
