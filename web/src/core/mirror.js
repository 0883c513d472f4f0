// The members take turns among the image and mirror images of it (F43 in docs/fidelity.md); as medsegdiff/runner.py does.

/** The image itself and its mirror images, each as [left to right, top to bottom]. */
export const VIEWS = {
  none: [[false, false]],
  horizontal: [[false, false], [true, false]],
  both: [[false, false], [true, false], [false, true], [true, true]],
};

/** Flip square maps, any number of them. */
export function flipped(maps, size, [columns, rows]) {
  if (!columns && !rows) return maps;
  return maps.map((_, i) => {
    const [map, row, column] = [Math.floor(i / size ** 2), Math.floor(i / size) % size, i % size];
    return maps[(map * size + (rows ? size - 1 - row : row)) * size + (columns ? size - 1 - column : column)];
  });
}

/** The same networks, shown mirror images: the anchor's logits are the mean over all, and traces those of the image itself. */
export function mirrored(networks, mirror, size, channels) {
  const views = VIEWS[mirror];
  if (views.length === 1) return networks;
  const length = channels * size ** 2;
  return {
    async condition(image) {
      const found = [];
      for (const view of views) found.push(await networks.condition(flipped(image, size, view)));
      const logits = found.map(({ anchor_logits: own }, i) => own && flipped(own, size, views[i]));
      const mean = logits[0]?.map((_, i) => logits.reduce((sum, own) => sum + own[i], 0) / views.length);
      return { found, anchor_logits: mean };
    },
    async denoise(xt, t, { found }, members, trace) {
      const output = new Float32Array(xt.length);
      let traces = [];
      for (const [number, view] of views.entries()) {
        const mine = Array.from({ length: members }, (_, member) => member).filter((member) => member % views.length === number);
        if (!mine.length) continue;
        const states = new Float32Array(mine.length * length);
        const of = (values, place) => flipped(values.subarray(place * length, (place + 1) * length), size, view);
        mine.forEach((member, place) => states.set(of(xt, member), place * length));
        const answer = await networks.denoise(states, t, found[number], mine.length, trace && number === 0);
        mine.forEach((member, place) => output.set(of(answer.output, place), member * length));
        if (number === 0) traces = answer.traces;
      }
      return { output, traces };
    },
  };
}
