// What a reader must know before the results: another version, unusual images, lossy files, unusual sizes.

import { histogramChart } from "./charts.js";
import { element, picture } from "./dom.js";
import { plural } from "./format.js";
import { differences } from "./sentences.js";

const NAMED = 3; // differences in the sentence
const PICTURES = 5; // cells beside each other

const banner = (text) => element("p", { class: "banner warn" }, text);

/** Return the banners of a run; `examples` are base64 PNGs of training cells. */
export function warningBanners(run, examples) {
  return [
    run.versions.size > 1
      ? banner(
          "The model was replaced while these cells were sent: some were judged by another version. Classify them again for one answer.",
        )
      : null,
    differenceBanner(run.overall, examples),
    ...[lossyWarning(run.cells), sizeWarning(run.cells)].map((text) => (text ? banner(text) : null)),
  ].filter(Boolean);
}

const isLossy = (warning) => warning.code === "lossy";

function lossyWarning(cells) {
  const lossy = cells.filter((cell) => cell.warnings?.some(isLossy)).length;
  if (!lossy) return null;
  return `${plural(lossy, "image")} came as JPEG, which loses the fine structure of a cell. Export TIFF, PNG or BMP.`;
}

function sizeWarning(cells) {
  const messages = cells.map((cell) => cell.warnings?.find((warning) => !isLossy(warning))?.message).filter(Boolean);
  if (!messages.length) return null;
  const verb = messages.length === 1 ? "has" : "have";
  return `${plural(messages.length, "image")} ${verb} a size that the model has not learned from (for example: ${messages[0]}).`;
}

function differenceBanner(overall, examples) {
  const worst = overall?.summary.differences ?? [];
  if (!worst.length) return null;
  const { cells } = overall;
  const every = Math.ceil(cells.length / PICTURES);
  const shown = cells.filter((_, i) => i % every === 0).map((cell) => cell.thumbnail);
  return element(
    "div",
    { class: "banner warn", id: "drift" },
    element("h3", {}, "These images differ from those that the model knows"),
    element("p", {}, differences(worst.slice(0, NAMED))),
    element(
      "div",
      { class: "pair" },
      figure(histogramChart(worst[0]), `${worst[0].name}: grey, what the model knows; orange, this upload`),
      figure(strip(examples), "Cells that the model knows"),
      figure(strip(shown), "Cells of this upload"),
    ),
  );
}

const figure = (content, caption) => element("figure", {}, content, element("figcaption", {}, caption));

const strip = (pictures) =>
  element("div", { class: "strip" }, ...pictures.slice(0, PICTURES).map((png) => picture(png)));
