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
  const messages = sizeMessages(run.cells);
  return [
    versionsBanner(run.versions.size),
    differenceBanner(run.overall?.summary.differences ?? [], picturesBeside(run.overall, examples)),
    ...fileBanners(countLossy(run.cells), messages.length, messages[0]),
  ].filter(Boolean);
}

/** Return the banner of cells that several versions of a model have classified; null of one. */
export const versionsBanner = (versions) =>
  versions > 1
    ? banner(
        "The model was updated while these cells were being sent, so that two versions have classified them. Classify them again to get consistent results.",
      )
    : null;

const isLossy = (warning) => warning.code === "lossy";

/** Return how many cells came in a file that lost a part of its image. */
export const countLossy = (cells) => cells.filter((cell) => cell.warnings?.some(isLossy)).length;

/** Return what the service says of cells of an unusual size, each. */
export const sizeMessages = (cells) =>
  cells.map((cell) => cell.warnings?.find((warning) => !isLossy(warning))?.message).filter(Boolean);

/** Return the banners of `lossy` images, and of those of an unusual size. */
export function fileBanners(lossy, unusual, example = "") {
  const jpeg = `${plural(lossy, "image is a JPEG file", "images are JPEG files")}. JPEG compression destroys the fine structure of a cell; export TIFF, PNG or BMP.`;
  const size = `${plural(unusual, "image has", "images have")} a size that the model was not trained on${example && ` (for example: ${example})`}.`;
  return [lossy ? banner(jpeg) : null, unusual ? banner(size) : null];
}

function picturesBeside(overall, examples) {
  const pictured = (overall?.cells ?? []).filter((cell) => cell.thumbnail);
  const every = Math.ceil(pictured.length / PICTURES);
  const shown = pictured.filter((_, i) => i % every === 0).map((cell) => cell.thumbnail);
  return [figure(strip(examples), "Typical cells for this model"), figure(strip(shown), "Cells in this upload")];
}

/** Return the banner of the `worst` differences between these images and those of the training, the largest first. */
export function differenceBanner(worst, figures = []) {
  if (!worst.length) return null;
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
      ...figures,
    ),
  );
}

const capitalise = (text) => text[0].toUpperCase() + text.slice(1);

const figure = (content, caption) => element("figure", {}, content, element("figcaption", {}, caption));

const strip = (pictures) =>
  element("div", { class: "strip" }, ...pictures.slice(0, PICTURES).map((png) => picture(png)));
