// Many masks of one image become one mask, with a map of where they differ; as medsegdiff/ensemble.py does.
// Probabilities are Float32Arrays of members x channels x area; one channel is the foreground of one class.

const ITERATIONS = 1000; // of EM

export const FUSIONS = ["mean", "vote", "staple"];

/** The most probable class of every pixel of every member. */
export function argmaxLabels(probability, channels, area) {
  const labels = new Uint8Array(probability.length / channels);
  for (let member = 0; member * area < labels.length; member++) {
    const start = member * channels * area;
    for (let pixel = 0; pixel < area; pixel++) {
      if (channels === 1) {
        labels[member * area + pixel] = probability[start + pixel] > 0.5 ? 1 : 0;
        continue;
      }
      let best = 0;
      for (let c = 1; c < channels; c++) {
        if (probability[start + c * area + pixel] > probability[start + best * area + pixel]) best = c;
      }
      labels[member * area + pixel] = best;
    }
  }
  return labels;
}

/**
 * Fuse members: labels by the rule, mean probability, and disagreement sqrt(sum over classes of the variance / 2). The rule
 * "anchored" averages the mean with the anchor's probabilities.
 */
export function fuse(probability, channels, area, rule, anchor = null) {
  const members = probability.length / (channels * area);
  const mean = meanOf(probability, channels * area);
  const disagreement = new Float32Array(area);
  const factor = (channels === 1 ? 2 : 1) / 2 / members; // one class: the background varies as the foreground does
  const sums = new Float64Array(area);
  for (let i = 0; i < probability.length; i++) sums[i % area] += (probability[i] - mean[i % (channels * area)]) ** 2;
  for (let pixel = 0; pixel < area; pixel++) disagreement[pixel] = Math.sqrt(sums[pixel] * factor);
  const own = argmaxLabels(probability, channels, area);
  if (rule === "anchored") {
    const average = Float32Array.from(mean, (value, i) => (value + anchor[i]) / 2);
    return { labels: argmaxLabels(average, channels, area), probability: average, disagreement, members: own };
  }
  const average = Float32Array.from(mean);
  const agreed = own.every((label, i) => label === own[i % area]);
  const labels = agreed ? own.slice(0, area) : RULES[rule](own, average, members, channels, area);
  return { labels, probability: average, disagreement, members: own };
}

/** 1 - Dice of the class that changed most between the means of two sets of members. */
export function change(before, after, channels, area) {
  const [a, b] = [before, after].map((p) =>
    argmaxLabels(Float32Array.from(meanOf(p, channels * area)), channels, area),
  );
  let most = 0;
  for (let c = 1; c < Math.max(channels, 2); c++) {
    const { dice, any } = overlap(a, b, (label) => label === c);
    if (any) most = Math.max(most, 1 - dice);
  }
  return most;
}

/** Dice of the pixels that a test picks out of two label images. */
export function overlap(a, b, test = (label) => label > 0) {
  let [both, sum] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [test(a[i]), test(b[i])];
    sum += x + y;
    both += x && y;
  }
  return { any: sum > 0, dice: sum ? (2 * both) / sum : 1 };
}

/** Dice over all foreground labels at once: a pixel counts where both images give it the same class. */
export function agreement(a, b) {
  let [same, sum] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    sum += (a[i] > 0) + (b[i] > 0);
    same += a[i] > 0 && a[i] === b[i];
  }
  return sum ? (2 * same) / sum : 1;
}

function meanOf(probability, size) {
  const mean = new Float64Array(size);
  for (let i = 0; i < probability.length; i++) mean[i % size] += probability[i];
  return mean.map((sum) => (sum * size) / probability.length);
}

const RULES = {
  mean: (own, mean, members, channels, area) => argmaxLabels(mean, channels, area),
  vote(own, mean, members, channels, area) {
    return byPattern(own, members, area, (votes) => {
      const counts = new Map();
      for (const label of votes) counts.set(label, (counts.get(label) ?? 0) + 1);
      const most = Math.max(...counts.values());
      const winners = [...counts.keys()].filter((label) => counts.get(label) === most).sort((a, b) => a - b);
      if (winners.length === 1) return winners[0];
      return (pixel) => {
        const share = (label) => (channels > 1 ? mean[label * area + pixel] : label ? mean[pixel] : 1 - mean[pixel]);
        return winners.reduce((best, label) => (share(label) > share(best) ? label : best));
      };
    });
  },
  staple: (own, mean, members, channels, area) =>
    channels === 1 ? binaryStaple(own, mean, members, area) : multiLabelStaple(own, mean, members, channels, area),
};

/** Group pixels by what the members say of them; STAPLE and votes depend on nothing else. */
function patterns(own, members, area) {
  const found = new Map();
  const which = new Int32Array(area);
  for (let pixel = 0; pixel < area; pixel++) {
    let key = "";
    for (let m = 0; m < members; m++) key += String.fromCharCode(own[m * area + pixel]);
    let entry = found.get(key);
    if (!entry) {
      entry = { votes: Array.from(key, (letter) => letter.charCodeAt(0)), count: 0, index: found.size };
      found.set(key, entry);
    }
    entry.count++;
    which[pixel] = entry.index;
  }
  return { list: [...found.values()], which };
}

function byPattern(own, members, area, decide) {
  const { list, which } = patterns(own, members, area);
  const decided = list.map(({ votes }) => decide(votes));
  return Uint8Array.from(which, (index, pixel) => {
    const label = decided[index];
    return typeof label === "function" ? label(pixel) : label;
  });
}

/** Warfield et al. (2004), as ITK's STAPLEImageFilter computes it. */
function binaryStaple(own, mean, members, area) {
  const { list, which } = patterns(own, members, area);
  for (const entry of list) entry.weight = entry.votes.reduce((a, b) => a + b, 0) / members;
  const prior = list.reduce((sum, { weight, count }) => sum + weight * count, 0) / area;
  let [p, q] = [new Float64Array(members), new Float64Array(members)];
  for (let round = 0; round < ITERATIONS; round++) {
    const [inside, outside] = [new Float64Array(members), new Float64Array(members)];
    let total = 0;
    for (const { votes, count, weight } of list) {
      total += weight * count;
      for (let m = 0; m < members; m++) {
        if (votes[m]) inside[m] += weight * count;
        else outside[m] += (1 - weight) * count;
      }
    }
    const before = [p, q];
    p = inside.map((sum) => sum / total);
    q = outside.map((sum) => sum / (area - total));
    for (const entry of list) {
      let [alpha, beta] = [1, 1];
      entry.votes.forEach((vote, m) => {
        alpha *= vote ? p[m] : 1 - p[m];
        beta *= vote ? 1 - q[m] : q[m];
      });
      entry.weight = (prior * alpha) / (prior * alpha + (1 - prior) * beta);
    }
    const settled = p.every((value, m) => (value - before[0][m]) ** 2 <= 1e-14 && (q[m] - before[1][m]) ** 2 <= 1e-14);
    if (round > 0 && settled) break;
  }
  const fallback = argmaxLabels(mean, 1, area);
  return Uint8Array.from(which, (index, pixel) => {
    const { weight } = list[index];
    return Math.abs(weight - 0.5) < 1e-6 || Number.isNaN(weight) ? fallback[pixel] : weight > 0.5 ? 1 : 0;
  });
}

/** Rohlfing et al. (2003), as ITK's MultiLabelSTAPLEImageFilter computes it. */
function multiLabelStaple(own, mean, members, channels, area) {
  const { list, which } = patterns(own, members, area);
  const labels = own.reduce((most, label) => Math.max(most, label), 0) + 1;
  const matrices = () => Array.from({ length: members }, () => new Float64Array((labels + 1) * labels));
  const prior = new Float64Array(labels);
  let confusion = matrices();
  for (const { votes, count } of list) {
    const counts = new Float64Array(labels);
    for (const label of votes) counts[label]++;
    const most = Math.max(...counts);
    const winners = [...counts.keys()].filter((label) => counts[label] === most);
    const winner = winners.length === 1 ? winners[0] : labels; // a tie counts as one label more
    votes.forEach((label, m) => {
      prior[label] += count;
      confusion[m][label * labels + winner] += count;
    });
  }
  for (let c = 0; c < labels; c++) prior[c] /= members * area;
  for (const matrix of confusion) {
    for (let j = 0; j <= labels; j++) {
      const row = matrix.subarray(j * labels, (j + 1) * labels);
      const sum = row.reduce((a, b) => a + b, 0);
      if (sum > 0) row.forEach((value, i) => (row[i] = value / sum));
    }
  }
  const weigh = (votes) => {
    const weights = Float64Array.from(prior);
    votes.forEach((label, m) => weights.forEach((_, c) => (weights[c] *= confusion[m][label * labels + c])));
    return weights;
  };
  for (let round = 0; round < ITERATIONS; round++) {
    const updated = matrices();
    for (const { votes, count } of list) {
      const weights = weigh(votes);
      const sum = weights.reduce((a, b) => a + b, 0);
      if (sum > 0) votes.forEach((label, m) => weights.forEach((w, c) => (updated[m][label * labels + c] += (w / sum) * count)));
    }
    let most = 0;
    updated.forEach((matrix, m) => {
      for (let c = 0; c < labels; c++) {
        let sum = 0;
        for (let j = 0; j <= labels; j++) sum += matrix[j * labels + c];
        for (let j = 0; j <= labels; j++) {
          if (sum > 0) matrix[j * labels + c] /= sum;
          most = Math.max(most, Math.abs(matrix[j * labels + c] - confusion[m][j * labels + c]));
        }
      }
    });
    confusion = updated;
    if (most < 1e-5) break;
  }
  const fallback = argmaxLabels(mean, channels, area);
  const decided = list.map(({ votes }) => {
    const weights = weigh(votes);
    const best = Math.max(...weights);
    const winners = [...weights.keys()].filter((label) => weights[label] === best);
    return winners.length === 1 ? winners[0] : -1;
  });
  return Uint8Array.from(which, (index, pixel) => (decided[index] < 0 ? fallback[pixel] : decided[index]));
}
