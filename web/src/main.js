// The page: what is chosen, what is computed, what is shown.

import { compare, parse, TOLERANCE } from "./core/report.js";
import { overlap } from "./core/ensemble.js";
import { crop, seenBox, sha256 } from "./core/picture.js";
import { Engine } from "./engine.js";
import { get } from "./fetch.js";
import * as view from "./view.js";

const $ = (id) => document.getElementById(id);
let engine; // begins when the service worker is in charge, or what it fetches would not be kept
const texts = {};
const state = {
  language: "en",
  models: [],
  model: null, // what the worker loaded
  loading: null, // name of the model being loaded
  loads: 0, // models asked for; only the last one's answer counts
  unloaded: null, // why there is no model; an image opened meanwhile does not change it
  choice: 0, // images chosen so far; a later one counts
  opening: 0, // images and slices asked for and not yet answered
  file: null, // { name, label }, of the image
  opened: null, // { counts, axes, picture } as the worker answered
  window: null, // grey values shown as black and white, chosen by hand
  example: null, // the example that is chosen, with its correct mask
  kept: false, // the service worker answered everything that was fetched
  report: null, // the report to replay
  filled: false, // the form holds the settings of a report
  running: false,
  start: null,
  steps: [],
  result: null,
  shown: 0, // place on the line: 0 the anchor, then the steps, last the result
  playing: null,
  links: [],
  status: null,
  error: null,
};

// ------------------------------------------------------------------------------------------------------------- texts

function say(key, values = {}) {
  const sentence = texts[state.language][key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

const known = (key, otherwise) => texts[state.language][key] ?? otherwise;
const digits = (value, places) => value.toFixed(places);

function chooseLanguage(language) {
  state.language = language;
  document.documentElement.lang = language;
  localStorage.setItem("language", language);
  document.title = say("web.title");
  document.querySelector("meta[name=description]").content = say("web.description");
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = say(node.dataset.text);
  for (const node of document.querySelectorAll("[data-html]")) node.replaceChildren(...marked(say(node.dataset.html)));
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const node of document.querySelectorAll("[data-help]")) node.title = say(node.dataset.help);
  for (const node of document.querySelectorAll("[data-language]")) node.setAttribute("aria-pressed", node.dataset.language === language);
  render();
}

/** Text and elements of one of our own sentences, whose only markup is <b> and <span>. */
function marked(sentence) {
  return Array.from(sentence.matchAll(/<(b|span)>(.*?)<\/\1>|[^<]+/g), ([text, tag, inner]) => (tag ? element(tag, inner) : text));
}

function element(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function tell(key, values) {
  state.status = [key, values];
  renderStatus();
}

function fail(error) {
  state.error = reasonOf(error);
  renderStatus();
}

function reasonOf(error) {
  const key = `web.${error?.message ?? error}`;
  return texts.en[key] ? [key] : ["web.errors.failed", { reason: error?.message ?? String(error) }];
}

function renderStatus() {
  const error = state.error ?? state.unloaded;
  $("status").textContent = state.status ? say(...state.status) : "";
  $("error").hidden = !error;
  $("error").textContent = error ? say(...error) : "";
  $("again").hidden = !state.unloaded;
}

// ------------------------------------------------------------------------------------------------------------- model

const taskName = (task) => {
  const name = known(`task.${task}`, task.replaceAll("-", " "));
  return name[0].toUpperCase() + name.slice(1);
};
const modelName = (model) => say("web.task.option", { task: taskName(model.task), kind: say(`web.task.${model.kind}`) });
const entryOf = (name) => state.models.find((model) => model.name === name);
const className = (label) => known(`class.${label}`, label);

async function loadModel(name) {
  if (state.loading === name || (!state.loading && state.model?.name === name)) return;
  const number = ++state.loads;
  state.loading = name;
  state.error = state.unloaded = null;
  clearRun();
  render();
  tell("web.status.starting");
  const backend = new URLSearchParams(location.search).get("backend") ?? "auto";
  try {
    const answer = await engine.load(name, ({ stage, share }) => {
      if (number !== state.loads) return;
      progress(stage === "weights" ? share : stage === "compile" ? 1 : 0);
      if (stage === "weights") tell("web.status.weights", { percent: Math.round(100 * share) });
      if (stage === "compile") tell("web.status.compile");
    }, backend);
    if (number !== state.loads) return; // another was chosen meanwhile
    const { model, backend: used, threads } = answer;
    const before = state.model;
    state.model = model;
    state.backend = used === "webgpu" ? ["web.status.webgpu"] : ["web.status.wasm", { threads }];
    await suitImage(entryOf(name), before && entryOf(before.name));
    if (number !== state.loads) return;
    state.loading = null;
    ready();
  } catch (error) {
    if (number !== state.loads) return;
    state.loading = null;
    leaveReport();
    if (state.model) {
      $("model").value = state.model.name; // which the worker still holds
      fail(error);
    } else state.unloaded = reasonOf(error);
    ready();
  } finally {
    if (!state.loading) progress(null);
    render();
  }
}

/** Show what suits the model: its first example instead of another task's; a volume in its plane and window. */
async function suitImage(entry, before) {
  const { example, opened } = state;
  if (example && example.task !== entry.task) await openExample(entry.examples[0]);
  else if (opened?.counts) {
    const turned = opened.axes.includes(entry.axis) && entry.axis !== before?.axis;
    await openSlice(turned ? { axis: entry.axis } : {});
  }
}

function ready() {
  if (state.model) tell(state.opened ? "web.status.ready_image" : "web.status.ready");
  else if (state.loading) tell("web.status.starting");
  else state.status = null;
  document.body.dataset.ready = state.model?.name ?? "";
}

function progress(share) {
  $("progress").hidden = share === null;
  $("progress").firstElementChild.style.width = `${100 * (share ?? 0)}%`;
}

// ------------------------------------------------------------------------------------------------------------- image

async function openBytes(bytes, label, example = null) {
  if (state.running) return;
  state.error = null;
  clearRun();
  tell("web.status.reading");
  state.opening++;
  render();
  try {
    const entry = entryOf($("model").value);
    const opened = await engine.open(bytes, entry.axis, entry.intensity);
    if (opened) {
      Object.assign(state, { opened, example, window: null, file: label });
      ready();
    }
  } catch (error) {
    ready();
    fail(error);
  }
  state.opening--;
  renderSlices();
  render();
}

async function openFile(file) {
  if (!file) return;
  state.choice++;
  await openBytes(new Uint8Array(await file.arrayBuffer()), () => file.name);
}

async function openExample(example) {
  const choice = ++state.choice;
  try {
    const [response, mask] = await Promise.all([example.image, example.mask].map(get));
    const { decode } = await import("fast-png");
    example.labels = Uint8Array.from(decode(new Uint8Array(await mask.arrayBuffer())).data);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (choice !== state.choice) return; // another image was chosen while this one was fetched
    const label = () => say("web.image.example", { number: example.seed, task: known(`task.${example.task}`, example.task) });
    await openBytes(bytes, label, example);
  } catch (error) {
    fail(error);
  }
}

async function openSlice({ axis, index, window } = {}) {
  if (state.running) return; // its result is of the slice that it began with
  const { picture } = state.opened;
  const moved = axis !== undefined && axis !== picture.axis;
  state.opening++;
  render();
  try {
    state.window = window ?? state.window; // chosen by hand, it stays; else the checkpoint's rule decides, slice by slice
    const place = moved ? null : index ?? picture.index;
    const answer = await engine.slice(axis ?? picture.axis, place, state.window, entryOf($("model").value).intensity);
    if (answer) {
      state.opened = { ...state.opened, ...answer };
      clearRun();
      state.error = null;
    }
  } catch (error) {
    fail(error);
  }
  state.opening--;
  renderSlices();
  render();
}

function renderSlices() {
  const { counts, axes, picture, kind, colour } = state.opened ?? {};
  $("slices").hidden = !counts;
  if (!counts) return;
  const frames = kind !== "nifti"; // stored as they are seen, along one axis only
  $("axis").replaceChildren(
    ...[...axes].reverse().map((axis) => element("option", say(frames ? "web.image.axis_frames" : `web.image.axis_${axis}`), { value: axis })),
  );
  $("axis").value = picture.axis;
  for (const id of ["axis", "slice"]) $(id).closest("label").hidden = axes.length < 2 && counts[axes[0]] < 2; // a 16-bit PNG
  $("slice").max = counts[picture.axis] - 1;
  $("slice").value = picture.index;
  $("slice-label").textContent = say("web.image.slice", { index: picture.index + 1, count: counts[picture.axis] });
  $("window").hidden = colour;
  if (picture.window) [$("low").value, $("high").value] = picture.window.map((value) => +value.toPrecision(6));
}

// --------------------------------------------------------------------------------------------------------------- run

function settingsOf() {
  if (state.report) return { ...state.report.settings, trace: true };
  const data = new FormData($("settings"));
  const plain = state.model.kind === "unet";
  return {
    members: plain ? 1 : Number(data.get("members")),
    steps: plain ? 0 : Number(data.get("steps")),
    tolerance: 0,
    sampler: data.get("sampler"),
    spacing: "trailing",
    eta: 0,
    anchor_weight: data.get("anchor_weight") ? Number(data.get("anchor_weight")) : null,
    fuse: data.get("fuse"),
    noise: "auto",
    mirror: "auto",
    seed: Number(data.get("seed")),
    size: 0,
    switches: { dynamic_encoding: true, ff_parser: true, anchor: true, ss_former: true, nbp: true },
    trace: true,
  };
}

async function run() {
  if (!state.model || !state.opened || state.running || state.loading || state.opening) return;
  clearRun();
  state.error = null;
  state.running = true;
  render();
  try {
    const [settings, report] = [settingsOf(), state.report];
    const { picture } = state.opened;
    if (report && (await sha256(picture.pixels)) !== report.picture.sha256) throw new Error("errors.report_image");
    if ($("stage").getBoundingClientRect().top > innerHeight / 2) $("stage").scrollIntoView({ block: "start" }); // on a phone
    const hear = (event) => {
      if (event.kind === "start") {
        state.start = event;
        state.total = event.times.length;
        if (event.anchor) tell("web.status.anchor", { seconds: digits(event.seconds, 2) });
        document.body.dataset.anchorSeconds = event.seconds;
      } else {
        state.steps.push(event);
        state.shown = state.steps.length;
        tell("web.status.running", { step: event.index + 1, total: event.total, t: event.t });
        progress((event.index + 1) / event.total);
      }
      render();
    };
    const result = await engine.run(settings, hear, report?.temperature);
    if (result?.cancelled) {
      tell("web.run.cancelled");
    } else {
      finish(result);
    }
  } catch (error) {
    tell("web.status.ready");
    fail(error);
  }
  state.running = false;
  progress(null);
  render();
}

function finish(result) {
  state.result = result;
  state.shown = state.steps.length + 1;
  const { members, steps } = result.report.settings;
  const seconds = digits(result.seconds, 2);
  tell(steps ? "web.status.done" : "web.status.done_anchor", { seconds, members, steps });
  if (state.report) state.verdict = compare(state.report, result.labels, result.report.mask.sha256);
  state.report = null;
  document.body.dataset.seconds = result.seconds;
}

function clearRun() {
  stop();
  for (const link of state.links) URL.revokeObjectURL(link);
  Object.assign(state, { start: null, steps: [], result: null, verdict: null, shown: 0, total: 0, links: [] });
}

async function loadReport(file) {
  if (!file) return;
  const text = await file.text();
  if (state.running) return; // loading a model would release the one in use
  state.error = null;
  try {
    const report = parse(text);
    const model = state.models.find(({ sha256 }) => sha256 === report.checkpoint.sha256);
    if (!model) throw new Error("errors.report_model");
    Object.assign(state, { report, filled: true });
    $("model").value = model.name;
    for (const name of ["members", "steps", "seed", "sampler", "anchor_weight", "fuse"]) {
      $("settings").elements[name].value = report.settings[name];
    }
    clearRun();
    await loadModel(model.name);
  } catch (error) {
    fail(error);
  }
  render();
}

/** Give the report up, and its settings. */
function leaveReport() {
  if (state.filled) $("settings").reset();
  Object.assign(state, { report: null, filled: false });
}

// -------------------------------------------------------------------------------------------------------------- show

function render() {
  if (!texts[state.language]) return;
  renderStatus();
  const chosen = state.models.find((model) => model.name === $("model").value);
  for (const option of $("model").options) {
    option.textContent = modelName(state.models.find((model) => model.name === option.value));
  }
  if (chosen) {
    $("card").textContent = say("web.task.card", {
      modality: known(`modality.${chosen.modality}`, chosen.modality),
      labels: chosen.labels.map(className).join(state.language === "zh" ? "、" : ", "),
      megabytes: digits(chosen.bytes / 1e6, 1),
      licence: known(`licence.${chosen.licence}`, chosen.licence),
    });
    renderExamples(chosen);
    $("sampling").hidden = chosen.kind === "unet";
    $("anchor-weight").hidden = chosen.kind !== "v2";
    for (const id of ["sampling", "anchor-weight"]) {
      for (const field of $(id).querySelectorAll("input")) field.disabled = $(id).hidden; // else it could refuse the form unseen
    }
  }
  const { picture } = state.opened ?? {};
  $("chosen").hidden = !picture;
  if (picture) $("chosen").textContent = say("web.image.chosen", { name: state.file(), width: picture.width, height: picture.height });
  $("report-note").textContent = state.report ? say("web.run.replay_ready", state.report.settings) : say("web.run.replay_hint");
  $("report-leave").hidden = !state.report;
  $("run").disabled = !state.model || !picture || state.running || Boolean(state.loading || state.opening);
  $("run").hidden = state.running;
  $("cancel").hidden = !state.running;
  for (const id of ["model", "file", "axis", "slice", "low", "high", "report-file", "report-leave"]) $(id).disabled = state.running;
  $("backend").textContent = state.backend ? say(...state.backend) : "";
  $("offline").textContent = state.offline ? say(state.offline) : "";
  $("empty").hidden = Boolean(state.start);
  renderFilms();
  renderResult();
}

function renderExamples(chosen) {
  const wanted = chosen.examples.map((example) => example.image).join();
  const box = $("examples");
  if (box.dataset.shown !== wanted) {
    box.dataset.shown = wanted;
    box.replaceChildren(
      ...chosen.examples.map((example) => {
        const button = element("button", "", { type: "button" });
        button.append(element("img", "", { src: example.image, alt: "", loading: "lazy" }));
        button.onclick = () => openExample(example);
        return button;
      }),
    );
  }
  chosen.examples.forEach((example, i) => {
    const label = say("web.image.example", { number: example.seed, task: known(`task.${example.task}`, example.task) });
    box.children[i].setAttribute("aria-label", label);
    box.children[i].setAttribute("aria-pressed", state.example === example);
  });
  $("examples-block").hidden = !chosen.examples.length;
}

function renderFilms() {
  const { opened, start, steps, model, result } = state;
  const last = steps.length + (result ? 1 : 0);
  const place = Math.min(state.shown, last);
  const final = Boolean(result) && place === last;
  const step = steps[Math.min(place, steps.length) - 1] ?? null;
  $("line").max = last;
  $("line").value = place;
  $("line").disabled = $("play").disabled = last < 1;
  $("play").setAttribute("aria-label", say(state.playing ? "web.film.pause" : "web.film.play"));
  $("play").setAttribute("aria-pressed", Boolean(state.playing));
  const caption = final ? say("web.film.result") : step ? say("web.film.step", { step: step.index + 1, total: step.total, t: step.t }) : start ? say("web.film.before") : "";
  $("step").textContent = caption;
  $("line").setAttribute("aria-valuetext", caption);
  renderMembers(step?.members ?? 1);

  const canvases = ["view-image", "view-anchor", "view-noisy", "view-clean"].map($);
  for (const canvas of canvases) view.clear(canvas);
  const [image, anchor, noisy, clean] = canvases;
  const denoises = model?.kind !== "unet";
  for (const figure of document.querySelectorAll(".noisy")) figure.hidden = !denoises;
  const field = model?.domain.field ?? 1; // share of the sides that the network sees
  $("image-title").textContent = say(field < 1 ? "web.film.image_middle" : "web.film.image");
  $("image-help").hidden = !denoises;
  const [title, help] = ANCHOR[model?.kind] ?? ANCHOR.v2;
  $("anchor-title").textContent = say(title);
  $("anchor-help").textContent = say(help);
  anchor.setAttribute("aria-label", say(title));
  image.setAttribute("aria-label", say("web.film.image_alt", { step: step ? step.index + 1 : 0 }));
  if (!opened) return;
  const { picture } = opened;
  const box = seenBox(picture.height, picture.width, field);
  const seen = { pixels: crop(picture.pixels, picture.width, 3, box), height: box.rows, width: box.columns };
  view.drawPicture(image, seen);
  $("inside").hidden = !step?.traces.length;
  if (!start || !model) return;
  const { size } = model.image;
  const { channels, classes } = model.mask;
  const area = size * size;
  if (start.anchor) {
    start.bytes ??= start.anchor.map((share) => Math.round(255 * share));
    view.drawClasses(anchor, start.bytes, channels, size, seen);
  }
  if (final) view.drawLabelContours(image, crop(result.labels, picture.width, 1, box), box.rows, box.columns, classes);
  else if (step) view.drawContours(image, step.mean, channels, size);
  else if (start.anchor) view.drawContours(image, start.bytes, channels, size);
  if (step) {
    const member = Math.min(Number($("member").value), step.members - 1);
    view.drawGrey(noisy, step.noisy.subarray(member * area, (member + 1) * area), size, seen);
    view.drawClasses(clean, step.clean.subarray(member * channels * area, (member + 1) * channels * area), channels, size, seen);
    renderTraces(step, seen);
  }
}

/** Title and help of the mask before any denoising, by kind of network. */
const ANCHOR = {
  v1: ["web.film.anchor", "web.film.no_anchor"],
  v2: ["web.film.anchor", "web.film.anchor_help"],
  unet: ["web.film.unet", "web.film.unet_help"],
};

function renderMembers(members) {
  const select = $("member");
  const chosen = Number(select.value) || 0;
  select.replaceChildren(...Array.from({ length: members }, (_, i) => element("option", String(i + 1), { value: i })));
  select.value = Math.min(chosen, members - 1);
  select.disabled = members < 2;
}

const TRACES = [
  { kind: "anchors", field: "gate", text: "gate", most: 1, shaped: true },
  { kind: "bands", field: "surface", text: "bands", most: 1 },
  { kind: "spectra", field: "before", text: "spectra" },
  { kind: "spectra", field: "after", text: "spectra" },
  { kind: "affinities", field: "affinity", text: "affinities", v1: true, shaped: true },
];

/** What the components did at this step, for the first member. */
function renderTraces(step, picture) {
  const [shown, told] = [[], new Set()];
  for (const { kind, field, text, most, shaped, v1 } of TRACES) {
    for (const trace of step.traces) {
      if (trace.kind !== kind || trace.field !== field || (v1 && state.model.kind !== "v1")) continue;
      const [, height, width] = trace.dims;
      const values = trace.data.subarray(0, height * width);
      const figure = element("figure");
      const canvas = element("canvas", "", { role: "img", "aria-label": say(`web.inside.${text}`) });
      const [least, highest] = most ? [0, most] : [Math.min(...values), Math.max(...values)];
      view.drawMap(canvas, values, height, width, highest, shaped ? picture : { height, width }, least);
      const caption = element("figcaption");
      caption.append(element("strong", say(`web.inside.${text}`)), element("span", numbered(step, trace), { class: "soft" }));
      if (!told.has(text)) caption.append(element("span", say(`web.inside.${text}_help`), { class: "soft" }));
      told.add(text);
      figure.append(canvas, caption);
      shown.push(figure);
    }
  }
  $("traces").replaceChildren(...shown);
}

/** Which of several modules a trace comes from: 1, 2 ... */
function numbered(step, trace) {
  const alike = step.traces.filter(({ kind, field }) => kind === trace.kind && field === trace.field);
  const place = alike.length > 1 ? `${alike.indexOf(trace) + 1} / ${alike.length}` : "";
  const [least, most] = [Math.min(...trace.data), Math.max(...trace.data)].map((value) => digits(value, 2));
  return `${place} ${least} … ${most}`.trim();
}

function renderResult() {
  const { result, model, opened } = state;
  $("result").hidden = !result;
  if (!result) return;
  const { picture } = opened;
  const { height, width } = picture;
  const most = result.disagreement.reduce((a, b) => Math.max(a, b), 0);
  const mean = result.disagreement.reduce((a, b) => a + b, 0) / result.disagreement.length;
  view.drawMap($("view-disagreement"), result.disagreement, height, width, 0.5);
  $("disagreement-help").textContent = say("web.result.disagreement_help", { mean: digits(mean, 3), most: digits(most, 2) });
  $("view-disagreement").parentElement.hidden = result.report.settings.members < 2;

  const verdict = $("verdict");
  verdict.hidden = !state.verdict;
  if (state.verdict) {
    const { exact, same, dice } = state.verdict;
    const key = exact ? "same" : dice === null ? "unknown" : same ? "close" : "different";
    verdict.className = same ? "good" : "";
    verdict.textContent = say(`web.result.${key}`, { dice: dice === null ? "" : digits(dice, 4), tolerance: TOLERANCE });
  }

  const truth = state.example?.task === model.domain.task ? state.example.labels : null;
  const head = ["structure", ...(truth ? ["dice"] : []), "pixels", "share", ...(picture.spacing ? ["mm2"] : [])];
  const rows = model.domain.labels.map((label, i) => {
    const { pixels, share, mm2 } = result.report.areas[label];
    const row = element("tr");
    const name = element("td", className(label));
    const swatch = element("i");
    swatch.style.background = view.colour(i + 1);
    name.prepend(swatch);
    row.append(name);
    if (truth) {
      const { dice } = overlap(result.labels, truth, (value) => value === i + 1);
      row.append(element("td", truth.includes(i + 1) ? digits(dice, 3) : "–"));
    }
    row.append(element("td", String(pixels)), element("td", `${digits(100 * share, 1)} %`));
    if (picture.spacing) row.append(element("td", digits(mm2, 1)));
    return row;
  });
  const header = element("tr");
  header.append(...head.map((key) => element("th", say(`web.result.${key}`), { scope: "col" })));
  $("areas").replaceChildren(header, ...rows);
  $("dice-help").hidden = !truth;

  const count = result.members.length / (height * width);
  const figures = Array.from({ length: count }, (_, m) => {
    const labels = result.members.subarray(m * height * width, (m + 1) * height * width);
    const canvas = element("canvas", "", { role: "img", "aria-label": say("web.film.member_option", { number: m + 1 }) });
    view.drawLabels(canvas, labels, height, width);
    const share = labels.reduce((sum, label) => sum + (label > 0), 0) / labels.length;
    const caption = element("figcaption");
    caption.append(element("strong", say("web.film.member_option", { number: m + 1 })), ` ${say("web.result.member_share", { share: digits(100 * share, 1) })}`);
    const figure = element("figure");
    figure.append(canvas, caption);
    return figure;
  });
  $("members").replaceChildren(...figures);
  offerFiles();
}

async function offerFiles() {
  const { result, opened } = state;
  if (state.links.length) return;
  state.links = ["", ""]; // begun
  const { encode } = await import("fast-png");
  const { height, width } = opened.picture;
  const png = encode({ width, height, data: result.labels, channels: 1, depth: 8 });
  const report = JSON.stringify(result.report, null, 2);
  if (state.result !== result) return;
  state.links = [new Blob([png], { type: "image/png" }), new Blob([report], { type: "application/json" })].map((blob) => URL.createObjectURL(blob));
  const stem = "medsegdiff"; // no part of the file's own name, which may be a patient's
  for (const [id, link, name] of [["save-mask", state.links[0], `${stem}_mask.png`], ["save-report", state.links[1], `${stem}.json`]]) {
    $(id).href = link;
    $(id).download = name;
  }
}

// ------------------------------------------------------------------------------------------------------------- watch

function show(place) {
  state.shown = place;
  renderFilms();
}

function play() {
  const last = () => state.steps.length + (state.result ? 1 : 0);
  if (state.playing) return stop();
  if (state.shown >= last()) state.shown = 0;
  state.playing = setInterval(() => {
    if (state.shown >= last()) stop();
    else show(state.shown + 1);
  }, 350);
  return renderFilms();
}

function stop() {
  clearInterval(state.playing);
  state.playing = null;
  $("play").setAttribute("aria-pressed", "false");
}

// ------------------------------------------------------------------------------------------------------------- begin

/** Let the service worker take over before anything large is fetched, so that nothing is fetched twice. */
async function keepOffline() {
  if (!("serviceWorker" in navigator)) {
    state.offline = "web.status.no_offline";
    return;
  }
  state.offline = "web.status.online";
  try {
    await navigator.serviceWorker.register("sw.js");
    if (!navigator.serviceWorker.controller) {
      await Promise.race([
        new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true })),
        new Promise((resolve) => setTimeout(resolve, 30000)),
      ]);
    }
    state.kept = Boolean(navigator.serviceWorker.controller); // what is fetched from here on
  } catch {
    state.offline = "web.status.no_offline";
  }
}

function wire() {
  for (const button of document.querySelectorAll("[data-language]")) button.onclick = () => chooseLanguage(button.dataset.language);
  $("model").onchange = () => {
    leaveReport();
    loadModel($("model").value);
  };
  $("again").onclick = () => loadModel($("model").value);
  $("file").onchange = () => {
    openFile($("file").files[0]);
    $("file").value = "";
  };
  $("report-file").onchange = () => {
    loadReport($("report-file").files[0]);
    $("report-file").value = "";
  };
  const drop = $("drop");
  for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  for (const type of ["dragleave", "drop", "dragend"]) document.addEventListener(type, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => openFile(event.dataTransfer.files[0]));
  document.addEventListener("paste", (event) => openFile(event.clipboardData.files[0]));
  $("axis").onchange = () => openSlice({ axis: Number($("axis").value) });
  $("slice").oninput = () => openSlice({ index: Number($("slice").value) });
  for (const id of ["low", "high"]) {
    $(id).onchange = () => {
      const [low, high] = [Number($("low").value), Number($("high").value)];
      if (low < high) openSlice({ window: [low, high] });
      else fail("errors.window");
    };
  }
  $("settings").onsubmit = (event) => {
    event.preventDefault();
    if ($("more").querySelector(":invalid")) $("more").open = true; // else the field could not be shown
    if (state.report || $("settings").reportValidity()) run(); // a report may ask for more than the fields allow
  };
  $("settings").oninput = (event) => {
    if (event.target.type !== "file") forget();
  };
  $("report-leave").onclick = () => {
    leaveReport();
    state.error = null;
    render();
  };
  $("cancel").onclick = () => engine?.cancel();
  $("play").onclick = play;
  $("line").oninput = () => {
    stop();
    show(Number($("line").value));
  };
  $("member").onchange = renderFilms;
}

/** Other settings: what runs next is no longer the report's run. */
function forget() {
  state.report = null;
  state.verdict = null;
  render();
}

async function begin() {
  const asked = new URLSearchParams(location.search);
  const language = asked.get("lang") ?? localStorage.getItem("language") ?? (navigator.languages?.find((tag) => /^(en|zh)/.test(tag)) ?? "en").slice(0, 2);
  await Promise.all(["en", "zh"].map(async (name) => (texts[name] = await (await fetch(`texts.${name}.json`)).json())));
  chooseLanguage(texts[language] ? language : "en");
  document.body.hidden = false;
  wire();
  const [, models] = await Promise.all([keepOffline(), fetch("models.json").then((response) => response.json())]);
  engine = new Engine();
  state.models = models;
  $("model").replaceChildren(...models.map(({ name }) => element("option", "", { value: name })));
  const wanted = models.find(({ name }) => name === asked.get("model")) ?? models[0];
  $("model").value = wanted.name;
  render();
  const [first] = wanted.examples;
  await Promise.all([loadModel(wanted.name), first && openExample(first)]); // something to run at once
  if (state.kept) state.offline = "web.status.offline";
  render();
}

begin().catch(() => {
  document.body.hidden = false; // the texts may be what is missing
  $("status").textContent = "";
  $("error").hidden = false;
  $("error").textContent = "A file of this page could not be loaded; check the connection and reload the page. 本页面的文件未能加载，请检查网络后刷新页面。";
});
