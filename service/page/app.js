import { composition, element, histograms, percent, round } from "./charts.js";
import * as files from "./files.js";
import { Gallery } from "./gallery.js";
import { ask, send } from "./sending.js";

const $ = (id) => document.getElementById(id);
const VERDICTS = { sure: "sure", unsure: "not sure", unlike_training: "unlike the training cells" };

let models = [];
let examples = [];
let planned = { items: [], left: [] };
let run = null; // what was sent, and what came back
const gallery = new Gallery($("gallery"), $("canvas"), look);

const model = () => models.find((each) => each.task === $("task").value);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// --- the model

async function begin() {
  try {
    models = await (await ask("models")).json();
  } catch (error) {
    return error.status === 401 ? askForKey() : complain(`The service cannot be reached: ${error.message}`);
  }
  for (const each of models) each.regex = files.toRegex(each.pattern);
  $("task").replaceChildren(...models.map((each) => element("option", { value: each.task }, `${each.task}: ${each.classes.join(", ")}`)));
  await describe();
}

async function describe() {
  const { task, simulated, channel, bit_depths: depths, height_px: high, width_px: wide } = model();
  $("card").href = `card/${task}`;
  $("simulated").hidden = !simulated;
  $("expects").textContent =
    `The model knows brightfield images${channel ? ` (channel ${channel})` : ""} of ${depths.join(" or ")} bit, about ${wide[0]}–${wide[1]} × ${high[0]}–${high[1]} px.`;
  $("by-class").replaceChildren(element("option", { value: "" }, "all"), ...model().classes.map((name) => element("option", {}, name)));
  examples = (await ask(`examples/${task}`).then((answer) => answer.json(), () => ({ pictures: [] }))).pictures;
}

function askForKey() {
  $("key").hidden = false;
  $("key").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("secret").value);
    $("key").hidden = true;
    begin();
  };
}

function complain(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

// --- what was dropped

async function receive(dropped) {
  complain("");
  if (!models.length) return;
  planned = await files.plan(dropped, model());
  const { items, left } = planned;
  const samples = new Set(items.map((item) => item.sample)).size;
  $("will").textContent = items.length
    ? `${plural(items.length, "image")} in ${plural(samples, "sample")} will be sent to this service and classified.`
    : "There is no image here that the model can read.";
  $("will-not").replaceChildren(...explain(left));
  $("start").hidden = !items.length;
  $("start").textContent = `Classify ${plural(items.length, "image")}`;
  only("plan");
  (items.length ? $("start") : $("forget")).focus();
}

function explain(left) {
  const reasons = group(left, (each) => each.why);
  if (!reasons.size) return [];
  const lines = [...reasons].map(([why, them]) =>
    element("li", {}, `${plural(them.length, "file")}, such as ${them[0].path}: ${why}.`));
  return [element("p", {}, `${plural(left.length, "file")} will not be sent:`), element("ul", {}, ...lines)];
}

function group(items, key) {
  const found = new Map();
  for (const item of items) {
    if (!found.has(key(item))) found.set(key(item), []);
    found.get(key(item)).push(item);
  }
  return found;
}

function only(...shown) {
  for (const id of ["drop", "plan", "progress", "answer", "cells"]) $(id).hidden = !shown.includes(id);
}

function reset() {
  run?.control.abort();
  run = null;
  planned = { items: [], left: [] };
  $("files").value = $("folder").value = "";
  complain("");
  only("drop");
}

// --- sending

function start(items = planned.items) {
  run ??= { model: model(), cells: [], files: new Map(), answeredFiles: new Set(), total: items.length, versions: new Set(), samples: new Map() };
  Object.assign(run, { control: new AbortController(), refusals: new Map(), ended: false });
  for (const item of items) run.files.set(item.path, item);
  only("progress", ...(run.cells.length ? ["answer", "cells"] : []));
  $("cancel").hidden = false;
  $("again").hidden = $("new").hidden = true;
  tell();
  const mine = run;
  send(items, run.model.task, run.control.signal, {
    got: (chunk, answer) => mine === run && got(chunk, answer),
    lost: (chunk, error) => mine === run && lost(chunk, error),
    waiting: (why) => mine === run && ((mine.why = why), tell()),
  }).then(() => mine === run && end());
}

function got(chunk, answer) {
  for (const item of chunk) if (!run.refusals.has(item.path)) run.answeredFiles.add(item.path);
  run.versions.add(answer.model.version);
  run.answered = answer;
  for (const cell of answer.cells) {
    cell.sample = run.files.get(cell.file)?.sample ?? "Dropped images";
    run.cells.push(cell);
  }
  refresh();
}

function lost(chunk, error) {
  for (const item of chunk) run.refusals.set(item.path, error.message);
  tell();
}

function end() {
  run.ended = true;
  const aborted = run.control.signal.aborted;
  $("cancel").hidden = true;
  $("new").hidden = false;
  run.missing = [...run.files.values()].filter((item) => !run.answeredFiles.has(item.path));
  $("again").hidden = !run.missing.length;
  run.note = aborted ? "Cancelled; what had been answered is shown." : ([...run.refusals.values()][0] ?? "");
  refresh(true);
}

function tell() {
  const done = run.answeredFiles.size;
  $("bar").value = run.total ? done / run.total : 0;
  const state = run.ended ? `${done.toLocaleString("en")} of ${plural(run.total, "image")} answered.` : `Classified ${done.toLocaleString("en")} of ${plural(run.total, "image")} …`;
  const missing = run.ended && run.missing?.length ? ` ${plural(run.missing.length, "image")} could not be sent. ` : " ";
  $("progress-text").textContent = state + missing + (run.why ?? run.note ?? "");
}

// --- the answer

let drawing = 0;
let drawn = Promise.resolve(); // one after the other, because each waits for the service
function refresh(now = false) {
  tell();
  clearTimeout(drawing);
  // A second of answers is drawn at once.
  drawing = setTimeout(() => (drawn = drawn.then(draw)), now || !run.drawn ? 0 : 800);
  run.drawn = true;
}

async function draw() {
  const mine = run;
  if (!mine) return;
  const good = mine.cells.filter((cell) => cell.label);
  const bySample = group(good, (cell) => cell.sample);
  const refused = mine.cells.filter((cell) => cell.error);
  try {
    for (const [name, cells] of bySample) {
      if (mine.samples.get(name)?.cells.length !== cells.length) mine.samples.set(name, { cells, summary: await summarise(cells) });
    }
    mine.all = bySample.size > 1 ? { cells: good, summary: await summarise(good) } : mine.samples.values().next().value;
  } catch (error) {
    complain(`The shares could not be worked out: ${error.message}`);
  }
  if (mine !== run) return;
  only("progress", ...(mine.cells.length ? ["answer"] : []), ...(mine.cells.length ? ["cells"] : []));
  $("samples").replaceChildren(...[...mine.samples].sort().map(([name, { cells, summary }]) => card(name, cells, summary)));
  if (!good.length) $("samples").replaceChildren(element("p", {}, "None of these images could be read. The reasons are below, file by file."));
  $("take-away").hidden = !good.length;
  drawWarnings(mine);
  drawRefused(refused);
  const names = [...mine.samples.keys()].sort();
  const chosen = $("by-sample").value;
  $("by-sample").replaceChildren(element("option", { value: "" }, "all"), ...names.map((name) => element("option", {}, name)));
  $("by-sample").value = names.includes(chosen) ? chosen : "";
  $("sample-filter").hidden = names.length < 2;
  filter();
}

async function summarise(cells) {
  const known = cells.map((cell) => ({ probabilities: run.model.classes.map((name) => cell.probabilities[name]), verdict: cell.verdict, figures: cell.figures }));
  const answer = await ask(`summarise?task=${encodeURIComponent(run.model.task)}`, {
    method: "POST", body: JSON.stringify({ cells: known }), headers: { "Content-Type": "application/json" },
  });
  return answer.json();
}

function counts(cells) {
  const found = { sure: 0, unsure: 0, unlike_training: 0 };
  for (const cell of cells) found[cell.verdict]++;
  return found;
}

// Shares of the few cells that are left would be quoted as those of the sample.
const strange = (cells) => counts(cells).unlike_training > cells.length / 2;

function sentence(name, cells, summary) {
  const { unsure, unlike_training: unlike } = counts(cells);
  if (strange(cells)) return `${name} cannot be told: ${unlike.toLocaleString("en")} of its ${plural(cells.length, "cell")} look like nothing that the model was trained on.`;
  const shares = Object.entries(summary.composition).sort(([, a], [, b]) => b.share - a.share);
  const told = shares.filter(([, each], i) => i === 0 || each.share >= 0.005).map(([label, { share, low, high }]) =>
    `${percent(share)} ${label} (95\u00a0% interval ${Math.round(low * 100)}\u00a0to\u00a0${percent(high)})`);
  const made = `${name} is made of about ${told.join(", ")}`;
  const doubts = `; of its ${plural(cells.length, "cell")}, ${unsure.toLocaleString("en")} could not be told apart with certainty and ${unlike.toLocaleString("en")} ${unlike === 1 ? "is" : "are"} unlike anything the model was trained on`;
  return `${made}${doubts}.`;
}

function card(name, cells, summary) {
  const { sure, unsure, unlike_training: unlike } = counts(cells);
  return element("article", { class: "sample", "data-sample": name },
    element("h3", {}, name),
    strange(cells) ? null : composition(summary.composition, run.model.classes),
    element("p", { class: "sentence" }, sentence(name, cells, summary)),
    element("p", { class: "counts" }, `${plural(cells.length, "cell")}: ${sure} sure, ${unsure} not sure, ${unlike} unlike the training cells`),
  );
}

function drawWarnings(mine) {
  const banners = [];
  const worst = mine.all?.summary.differences ?? [];
  if (mine.versions.size > 1) banners.push(element("p", { class: "banner warn" }, "The model was replaced while these cells were sent: some were judged by another version. Classify them again for one answer."));
  if (worst.length) {
    const named = worst.slice(0, 3).map((each) => `${each.name} (here about ${round(each.here)}, known about ${round(each.known)})`);
    const strip = (pictures) => element("div", { class: "strip" }, ...pictures.slice(0, 5).map((png) => element("img", { src: `data:image/png;base64,${png}`, alt: "" })));
    const here = mine.all.cells.filter((_, i, all) => i % Math.ceil(all.length / 5) === 0).map((cell) => cell.thumbnail);
    banners.push(element("div", { class: "banner warn", id: "drift" },
      element("h3", {}, "These images differ from those that the model knows"),
      element("p", {}, `The ${named.join("; the ")}. Another lamp, gain, focus or crop can do that. The answer below may be wrong; compare with a sample that you know.`),
      element("div", { class: "pair" },
        element("figure", {}, histograms(worst[0]), element("figcaption", {}, `${worst[0].name}: grey, what the model knows; orange, this upload`)),
        element("figure", {}, strip(examples), element("figcaption", {}, "Cells that the model knows")),
        element("figure", {}, strip(here), element("figcaption", {}, "Cells of this upload")),
      )));
  }
  const lossy = mine.cells.filter((cell) => cell.warnings?.some((each) => each.code === "lossy")).length;
  if (lossy) banners.push(element("p", { class: "banner warn" }, `${plural(lossy, "image")} came as JPEG, which loses the fine structure of a cell. Export TIFF, PNG or BMP.`));
  const sized = mine.cells.filter((cell) => cell.warnings?.some((each) => each.code !== "lossy"));
  if (sized.length) banners.push(element("p", { class: "banner warn" }, `${plural(sized.length, "image")} ${sized.length === 1 ? "has" : "have"} a size that the model has not learned from (for example: ${sized[0].warnings.find((each) => each.code !== "lossy").message}).`));
  $("warnings").replaceChildren(...banners);
}

function drawRefused(refused) {
  $("refused").hidden = !refused.length;
  $("refused").querySelector("summary").textContent = `${plural(refused.length, "image")} could not be read`;
  const lines = refused.slice(0, 500).map((cell) => element("li", {}, cell.error.message));
  if (refused.length > 500) lines.push(element("li", {}, `… and ${refused.length - 500} more; all are in the CSV`));
  $("refused").querySelector("ul").replaceChildren(...lines);
}

// --- the cells

function filter() {
  if (!run) return;
  const [label, verdict, sample] = [$("by-class").value, $("by-verdict").value, $("by-sample").value];
  const surest = (cell) => cell.probabilities[cell.label];
  const place = (cell) => run.model.classes.indexOf(cell.label);
  const orders = {
    class: (a, b) => place(a) - place(b) || surest(b) - surest(a),
    unsure: (a, b) => surest(a) - surest(b),
    sure: (a, b) => surest(b) - surest(a),
    odd: (a, b) => b.distance - a.distance,
  };
  const shown = run.cells
    .filter((cell) => cell.label && (!label || cell.label === label) && (!verdict || cell.verdict === verdict) && (!sample || cell.sample === sample))
    .sort(orders[$("order").value]);
  $("shown").textContent = plural(shown.length, "cell");
  gallery.show(shown, run.model.classes);
}

let looking = 0;
function look(cell) {
  clearTimeout(looking);
  const item = run.files.get(cell.file);
  const box = element("div", { class: "look" }, element("img", { src: `data:image/png;base64,${cell.thumbnail}`, alt: `The cell ${cell.file}` }));
  const odds = Object.entries(cell.probabilities).sort(([, a], [, b]) => b - a);
  const bars = odds.flatMap(([name, share]) => [
    element("dt", {}, name), element("dd", {}, percent(share)),
    element("dd", { class: "wide" }, element("meter", { min: 0, max: 1, value: share, "aria-label": `probability of ${name}` })),
  ]);
  $("detail").replaceChildren(
    box,
    element("p", { class: "hint", id: "map-note" }, ""),
    element("h3", {}, `${cell.label}: ${VERDICTS[cell.verdict]}`),
    element("p", { class: "path" }, [cell.file, cell.page == null ? null : `page ${cell.page + 1}`, cell.object == null ? null : `object ${cell.object}`].filter(Boolean).join(", ")),
    element("dl", {}, ...bars),
    ...(cell.warnings ?? []).map((each) => element("p", { class: "hint" }, each.message)),
    correction(cell, item),
  );
  if (!item) return;
  // A pointer that passes over cells asks for none of their maps.
  looking = setTimeout(() => showMap(cell, item, box), 150);
}

async function showMap(cell, item, box) {
  const note = $("map-note");
  if (cell.page != null) {
    note.textContent = "For the pages of one file there is no map of where the network looked.";
    return;
  }
  try {
    cell.map ??= await item.read().then((file) => {
      const form = new FormData();
      form.append("image", file, item.path);
      return ask(`classify?explain=true&task=${encodeURIComponent(run.model.task)}`, { method: "POST", body: form });
    }).then((answer) => answer.json()).then((answer) => answer.activation_map);
    if (!box.isConnected) return;
    box.append(element("img", { class: "map", src: `data:image/png;base64,${cell.map.png}`, alt: `Where the network looked for ${cell.map.label}` }));
    note.textContent = `Red spoke for ${cell.map.label}, blue against it.`;
  } catch {
    note.textContent = "The map of where the network looked could not be had.";
  }
}

function correction(cell, item) {
  if (!item || cell.page != null) return null;
  const choice = element("select", { "aria-label": "What the cell really is" }, ...run.model.classes.map((name) => element("option", { selected: name === cell.label }, name)));
  const keep = element("input", { type: "checkbox" });
  const said = element("p", { class: "hint", role: "status" }, cell.corrected ?? "");
  const form = element("form", {},
    element("label", {}, "This cell really is ", choice),
    element("label", {}, keep, " keep the image too, to train a better model"),
    element("button", {}, "Send the correction"), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData();
    body.append("image", await item.read(), item.path);
    body.append("label", choice.value);
    body.append("called", cell.label);
    body.append("keep_image", keep.checked);
    try {
      const kept = await (await ask(`feedback?task=${encodeURIComponent(run.model.task)}`, { method: "POST", body })).json();
      cell.corrected = `Thank you. Noted as ${choice.value}${kept.kept ? ", with its image" : ", without its image"}${kept.reason ? `; but ${kept.reason}` : ""}.`;
    } catch (error) {
      cell.corrected = `The correction could not be kept: ${error.message}`;
    }
    said.textContent = cell.corrected;
  });
  return form;
}

// --- what is taken away

function whole() {
  const { model: served, answered, cells } = run;
  const good = cells.filter((cell) => cell.label);
  const called = Object.fromEntries(served.classes.map((name) => [name, good.filter((cell) => cell.label === name).length]));
  return {
    model: answered.model, task: served.task, request_id: answered.request_id, simulated: served.simulated,
    sample: { cells: good.length, refused: cells.length - good.length, other_channels: 0, ...counts(good), called, composition: run.all?.summary.composition ?? null },
    cells: cells.map(({ sample, map, corrected, thumbnail, figures, ...cell }) => cell),
  };
}

async function download(format) {
  try {
    const answer = await ask(`export?format=${format}`, { method: "POST", body: JSON.stringify(whole()), headers: { "Content-Type": "application/json" } });
    const link = element("a", { href: URL.createObjectURL(await answer.blob()), download: `fatescope-${run.model.task}.${format}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    complain(`The download failed: ${error.message}`);
  }
}

function report() {
  const { model: served, answered, cells, samples } = run;
  const good = cells.filter((cell) => cell.label).length;
  const row = (name, value) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value));
  const strange = (run.all?.summary.differences ?? []).map((each) => each.name).join(", ");
  const limits = [
    "Research use only. The label of a cell is the differentiation medium that its look resembles, not a marker or a function.",
    served.simulated ? "The model was trained on simulated cells: what it says of real ones means nothing yet." : "",
    "Shares are corrected for what the model confuses on its own test cells; the intervals hold where these cells were made and imaged like those.",
    strange ? `These images differ from those that the model knows in: ${strange}.` : "",
  ].filter(Boolean);
  $("report").replaceChildren(
    element("h1", {}, "Fatescope: composition of a culture"),
    element("table", {}, element("tbody", {},
      row("Date", new Date().toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" })),
      row("Model", `${answered.model.name}, version ${answered.model.version} (${served.backbone})`),
      row("Data it was trained on", served.data_hash.slice(0, 16) || "unknown"),
      row("Images", `${good.toLocaleString("en")} classified, ${cells.length - good} could not be read`))),
    element("div", { class: "charts" }, ...[...samples].sort().slice(0, 6).map(([name, { cells: its, summary }]) => card(name, its, summary))),
    samples.size > 6 ? element("p", {}, `and ${samples.size - 6} more samples, which are in the CSV`) : null,
    element("h2", {}, "Limits"),
    element("ul", {}, ...limits.map((each) => element("li", {}, each))),
  );
  window.print();
}

// --- wiring

$("task").addEventListener("change", () => describe().then(() => (run ? reset() : planned.items.length && reset())));
$("pick-files").addEventListener("click", () => $("files").click());
$("pick-folder").addEventListener("click", () => $("folder").click());
for (const id of ["files", "folder"]) $(id).addEventListener("change", () => receive(files.fromInput($(id))));
$("try").addEventListener("click", async () => {
  try {
    const zip = await (await ask(`sample/${model().task}`)).blob();
    await receive([{ path: "example.zip", file: zip }]);
    start();
  } catch (error) {
    complain(`The example cells cannot be had: ${error.message}`);
  }
});
$("start").addEventListener("click", () => start());
$("forget").addEventListener("click", reset);
$("new").addEventListener("click", reset);
$("cancel").addEventListener("click", () => run.control.abort());
$("again").addEventListener("click", () => start(run.missing));
for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => download(button.dataset.format));
$("print").addEventListener("click", report);
for (const id of ["order", "by-class", "by-verdict", "by-sample"]) $(id).addEventListener("change", filter);
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => (event.preventDefault(), $("drop").classList.add("over")));
document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const dropped = await files.fromTransfer(event.dataTransfer);
  reset();
  await receive(dropped);
});

begin();
