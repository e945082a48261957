// What a reader must know before the results: another version, unusual images, lossy files, unusual sizes.

import { histogramChart } from "./charts.js";
import { element, picture } from "./dom.js";
import { plural } from "./format.js";
import { differenceLine } from "./sentences.js";

const NAMED = 3; // differences in the list
const PICTURES = 5; // cells beside each other

const banner = (text) => element("p", { class: "banner warn" }, text);

/** Return the banners of a run; `examples` are base64 PNGs of training cells. */
export function warningBanners(run, examples) {
  return [
    run.versions.size > 1
      ? banner(
          "The model was updated while these cells were being sent, so that two versions have classified them. Classify them again to get consistent results.",
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
  return `${plural(lossy, "image")} ${lossy === 1 ? "is a JPEG file" : "are JPEG files"}. JPEG compression destroys the fine structure of a cell; export TIFF, PNG or BMP.`;
}

function sizeWarning(cells) {
  const messages = cells.map((cell) => cell.warnings?.find((warning) => !isLossy(warning))?.message).filter(Boolean);
  if (!messages.length) return null;
  const verb = messages.length === 1 ? "has" : "have";
  return `${plural(messages.length, "image")} ${verb} a size that the model was not trained on (for example: ${messages[0]}).`;
}

function differenceBanner(overall, examples) {
  const worst = overall?.summary.differences ?? [];
  if (!worst.length) return null;
  const { cells } = overall;
  const pictured = cells.filter((cell) => cell.thumbnail);
  const every = Math.ceil(pictured.length / PICTURES);
  const shown = pictured.filter((_, i) => i % every === 0).map((cell) => cell.thumbnail);
  return element(
    "div",
    { class: "banner warn", id: "drift" },
    element("h3", {}, "These images differ from the training images"),
    element("ul", {}, ...worst.slice(0, NAMED).map((difference) => element("li", {}, differenceLine(difference)))),
    element(
      "p",
      {},
      "A different lamp, gain, focus or crop can cause this. The results below may be wrong; check them with a sample whose composition you know.",
    ),
    element(
      "div",
      { class: "pair" },
      figure(histogramChart(worst[0]), `${capitalise(worst[0].name)}: training images in grey, this upload in orange`),
      figure(strip(examples), "Typical cells for this model"),
      figure(strip(shown), "Cells in this upload"),
    ),
  );
}

const capitalise = (text) => text[0].toUpperCase() + text.slice(1);

const figure = (content, caption) => element("figure", {}, content, element("figcaption", {}, caption));

const strip = (pictures) =>
  element("div", { class: "strip" }, ...pictures.slice(0, PICTURES).map((png) => picture(png)));
