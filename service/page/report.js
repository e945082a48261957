// The printed report of a run, on one page, and on a second one the comparison of its cultures.

import { byId, element } from "./dom.js";
import { comparisonReport } from "./comparison-view.js";
import { conditionsOf } from "./comparison.js";
import { list, number, plural } from "./format.js";
import { sampleCard } from "./results.js";
import { cutLines } from "./sentences.js";

const MAX_SAMPLES = 6;
const IN_TWO_COLUMNS = 4; // samples; more stand in three, so that they fit one page
const HASH_LENGTH = 16;
const MAX_NAMES = 200; // characters of the samples of a condition
const COMPARISON_LIMITS = [
  "Conditions are compared by their replicates, not by their cells. The intervals include what the classifier may get wrong, as far as it was measured on test cells.",
  "What was grown or imaged together shares more than its condition: cultures of a condition that were all imaged in one run may differ from others because of that run.",
];

/** Fill the report of a run and open the print dialogue. */
export function printReport(run) {
  const { model, samples } = run;
  const cards = [...samples].sort().slice(0, MAX_SAMPLES);
  const many = cards.length > IN_TWO_COLUMNS;
  const more = samples.size - MAX_SAMPLES;
  byId("report").replaceChildren(
    element("h1", {}, "Fatescope: culture composition"),
    element("table", {}, element("tbody", {}, ...facts(run).map(([name, value]) => row(name, value)))),
    element(
      "div",
      { class: many ? "charts many" : "charts" },
      ...cards.map(([name, sample]) => sampleCard(name, sample, model.classes, many)),
    ),
    ...(more > 0 ? [element("p", {}, `${plural(more, "more sample")}: see the CSV file`)] : []),
    element("h2", {}, "Limits"),
    element("ul", {}, ...limits(run).map((limit) => element("li", {}, limit))),
    ...comparisonPage(run),
  );
  window.print();
}

function comparisonPage({ comparison, roles, model }) {
  if (!comparison) return [];
  const { answer } = comparison;
  const conditions = [...conditionsOf(roles)].map(([name, samples]) => [name, list(samples)]);
  const rows = [["Compared with", answer.reference], ...conditions];
  return [
    element("h1", { class: "next-page" }, "Fatescope: comparison of cultures"),
    element("table", {}, element("tbody", {}, ...rows.map(([name, value]) => row(name, shorten(value))))),
    ...comparisonReport(comparison, model.classes),
    element("h2", {}, "Limits"),
    element("ul", {}, ...COMPARISON_LIMITS.map((limit) => element("li", {}, limit))),
  ];
}

const shorten = (text) => (text.length > MAX_NAMES ? `${text.slice(0, MAX_NAMES)}… (see the CSV file)` : text);

const row = (name, value) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value));

function facts({ model, lastResponse, classified, unreadable }) {
  const { name, version } = lastResponse.model;
  return [
    ["Date", new Date().toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" })],
    ["Model", `${name}, version ${version} (${model.backbone})`],
    ["Training data", model.data_hash.slice(0, HASH_LENGTH) || "unknown"],
    ["Images", `${number(classified.length)} classified, ${number(unreadable.length)} could not be read`],
  ];
}

/** Return the sentences that keep a reader from concluding too much. */
export function limits(run) {
  const { model, overall } = run;
  const differing = (overall?.summary.differences ?? []).map((difference) => difference.name).join(", ");
  return [
    "For research use only. The class of a cell is the differentiation medium that its appearance suggests, not evidence of a marker or a function.",
    model.simulated ? "The model was trained on simulated cells only: its results for real cells have no meaning." : "",
    "Shares are corrected for the confusions between classes that were measured on test cells. The intervals hold only for cells that were grown and imaged in the same way.",
    ...cutLines(run),
    differing ? `These images differ from the training images in: ${differing}.` : "",
  ].filter(Boolean);
}
