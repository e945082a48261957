// The printed report of a run, on one page.

import { byId, element } from "./dom.js";
import { number } from "./format.js";
import { sampleCard } from "./results.js";

const MAX_SAMPLES = 6;
const HASH_LENGTH = 16;

/** Fill the report of a run and open the print dialogue. */
export function printReport(run) {
  const { model, samples } = run;
  const cards = [...samples].sort().slice(0, MAX_SAMPLES);
  const more = samples.size - MAX_SAMPLES;
  byId("report").replaceChildren(
    element("h1", {}, "Fatescope: composition of a culture"),
    element("table", {}, element("tbody", {}, ...facts(run).map(([name, value]) => row(name, value)))),
    element("div", { class: "charts" }, ...cards.map(([name, sample]) => sampleCard(name, sample, model.classes))),
    ...(more > 0 ? [element("p", {}, `and ${more} more samples, which are in the CSV`)] : []),
    element("h2", {}, "Limits"),
    element("ul", {}, ...limits(run).map((limit) => element("li", {}, limit))),
  );
  window.print();
}

const row = (name, value) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value));

function facts({ model, lastResponse, classified, unreadable }) {
  const { name, version } = lastResponse.model;
  return [
    ["Date", new Date().toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" })],
    ["Model", `${name}, version ${version} (${model.backbone})`],
    ["Data it was trained on", model.data_hash.slice(0, HASH_LENGTH) || "unknown"],
    ["Images", `${number(classified.length)} classified, ${number(unreadable.length)} could not be read`],
  ];
}

/** Return the sentences that keep a reader from concluding too much. */
export function limits({ model, overall }) {
  const differing = (overall?.summary.differences ?? []).map((difference) => difference.name).join(", ");
  return [
    "Research use only. The label of a cell is the differentiation medium that its look resembles, not a marker or a function.",
    model.simulated ? "The model was trained on simulated cells: what it says of real ones means nothing yet." : "",
    "Shares are corrected for what the model confuses on its own test cells; the intervals hold where these cells were made and imaged like those.",
    differing ? `These images differ from those that the model knows in: ${differing}.` : "",
  ].filter(Boolean);
}
