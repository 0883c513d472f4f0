// The JSON report of a run: the same form as the command line's, so each can replay the other's (medsegdiff/replay.py).

import { agreement } from "./ensemble.js";
import { VIEWS } from "./mirror.js";

export const TOLERANCE = 0.995; // Dice over all foreground that another runtime's mask must reach

const ALL = { dynamic_encoding: true, ff_parser: true, anchor: true, ss_former: true, nbp: true };

export const DEFAULTS = {
  members: 5,
  steps: 10,
  tolerance: 0,
  sampler: "ddim",
  spacing: "trailing",
  eta: 0,
  anchor_weight: null,
  fuse: "auto",
  noise: "auto",
  mirror: "auto",
  seed: 0,
  size: 0,
  switches: ALL,
  trace: false,
};

/** Labels as runs, row by row: "0:1533 1:20". */
export function encodeRuns(labels) {
  const runs = [];
  for (let start = 0, i = 1; i <= labels.length; i++) {
    if (i === labels.length || labels[i] !== labels[start]) {
      runs.push(`${labels[start]}:${i - start}`);
      start = i;
    }
  }
  return runs.join(" ");
}

/** The labels that runs stand for; null where they are not so many. */
export function decodeRuns(text, size) {
  const labels = new Uint8Array(size);
  let place = 0;
  for (const run of text.split(" ")) {
    const [label, length] = run.split(":").map(Number);
    if (!(length > 0) || place + length > size) return null;
    labels.fill(label, place, (place += length));
  }
  return place === size ? labels : null;
}

/** How far a mask is from the one that a report describes: exact, within tolerance, or not the same. */
export function compare(facts, labels, digest) {
  if (facts.mask.sha256 === digest) return { exact: true, same: true, dice: 1 };
  const told = facts.mask.runs ? decodeRuns(facts.mask.runs, labels.length) : null;
  if (!told) return { exact: false, same: false, dice: null };
  const dice = agreement(told, labels);
  return { exact: false, same: dice >= TOLERANCE, dice };
}

/** Check a report and say what it asks for; throws an Error whose message is a key of the texts. */
export function parse(text) {
  let facts;
  try {
    facts = JSON.parse(text);
  } catch {
    throw new Error("errors.report");
  }
  if (!facts?.settings || !facts.checkpoint?.sha256 || !facts.mask?.sha256) throw new Error("errors.report");
  if (facts.volume || !facts.picture) throw new Error("errors.report_volume");
  const before = { noise: "independent", anchor_weight: 0, mirror: "none" }; // of reports that do not hold them yet
  const settings = { ...DEFAULTS, ...before, ...facts.settings };
  const switches = settings.switches ?? {};
  const changed = Object.entries(ALL).some(([name]) => switches[name] === false);
  if (changed || switches.sigma > 0 || switches.profile?.length) throw new Error("errors.report_switches");
  if (!["ddim", "dpm-solver++"].includes(settings.sampler)) throw new Error("errors.report_sampler");
  if (!Object.hasOwn(VIEWS, settings.mirror) && settings.mirror !== "auto") throw new Error("errors.report");
  if (!Number.isSafeInteger(settings.seed)) throw new Error("errors.report_seed");
  if ((facts.dtype ?? "float32") !== "float32") throw new Error("errors.report_dtype");
  // Null: not recorded, that of the checkpoint. Of torch, only reports from before there were temperatures lack it.
  const temperature = facts.temperature ?? (facts.versions?.["onnxruntime-web"] ? null : 1);
  if (temperature !== null && !(temperature > 0)) throw new Error("errors.report");
  return { ...facts, temperature, settings: { ...settings, switches: ALL } };
}
