// A strip for each cell that has several images over time: the images, the probability so far, and where the call settles.

import { color } from "./charts.js";
import { showCell } from "./detail.js";
import { byId, element, picture } from "./dom.js";
import { agree, number, percent, plural } from "./format.js";
import { VERDICTS } from "./samples.js";
import { NO_FOLDER } from "./filenames.js";
import { answerTracks } from "./tracks.js";

const SHOWN = 20; // strips that are shown at first, and that are added at a time

const FRAMES = 60; // images of a strip that are shown

let shown = SHOWN;
let drawn = { run: null, selected: [], tracks: [], count: 0 }; // what is shown, and the answers of so many cells

/** Connect the button that adds strips. */
export function initTracks() {
  byId("more-tracks").addEventListener("click", showMore);
}

/** Show the strips of the cells of a run that are selected; nothing where no cell has several images. */
export function showTracks(run, selected) {
  if (run !== drawn.run) shown = SHOWN;
  // Choosing or sorting cells changes no answer, and 100,000 take half a second.
  const count = run.classified.length;
  const isKnown = run === drawn.run && count === drawn.count;
  const answers = isKnown ? drawn.tracks : answerTracks(run.classified, run.model);
  drawn = { run, selected, tracks: answers, count };
  const wanted = new Set(answers.length ? selected : []);
  const tracks = answers.filter(({ frames }) => frames.some(({ cell }) => wanted.has(cell)));
  byId("tracks").hidden = !tracks.length;
  byId("track-count").textContent = summary(tracks);
  byId("more-tracks").hidden = tracks.length <= shown;
  byId("track-strips").replaceChildren(...tracks.slice(0, shown).map((track) => strip(track, run)));
}

function showMore() {
  const first = shown;
  shown += SHOWN;
  showTracks(drawn.run, drawn.selected);
  // The button may be gone; reading goes on where it was.
  byId("track-strips").children[first]?.querySelector("button")?.focus();
}

/** Say how many cells have several images, and how many of them are sure. */
export function summary(tracks) {
  const sure = tracks.filter(({ verdict }) => verdict === "sure").length;
  return `${plural(tracks.length, "cell")} with several images, ${sure} of them sure after the last one.`;
}

/** Say what a cell is by all of its images, and from which one on. */
export function trackSentence({ label, verdict, since, sureSince, frames }) {
  const last = frames.at(-1).probabilities[label];
  if (verdict === "unlike_training") return "all images are unlike the training cells";
  const from = since === 0 ? "from the first image on" : `from image ${since + 1} of ${frames.length} on`;
  const sure = sureSince === null ? "unsure" : sureSince === since ? "sure" : `sure from image ${sureSince + 1} on`;
  return `${label}, ${percent(last)} after ${plural(frames.length, "image")}; ${from}, ${sure}`;
}

/** Name a cell by its sample, acquisition group and track. */
export const trackName = ({ sample, group, track }) =>
  [sample === NO_FOLDER || sample === group ? null : sample, group, track].filter(Boolean).join(", ");

/** Return the places of the images that a strip shows: all, or some from first to last with that where the call settles. */
export function shownFrames({ frames, since }) {
  if (frames.length <= FRAMES) return [...frames.keys()];
  const places = Array.from({ length: FRAMES }, (_, i) => Math.round((i * (frames.length - 1)) / (FRAMES - 1)));
  return [...new Set([...places, since])].sort((a, b) => a - b);
}

function strip(track, run) {
  const places = shownFrames(track);
  const frames = places.map((i) => element("li", {}, frameButton(track, track.frames[i], i, run)));
  const all = track.frames.length;
  const some =
    places.length < all
      ? ` ${number(places.length)} of ${plural(all, "image")} ${agree(places.length, "is", "are")} shown.`
      : "";
  return element(
    "li",
    { class: `track ${track.verdict}` },
    element("p", {}, element("strong", {}, trackName(track)), ` ${trackSentence(track)}.${some}`),
    element("ol", { class: "frames" }, ...frames),
  );
}

function frameButton({ label, since, frames }, frame, i, run) {
  const value = frame.probabilities[label];
  const settles = i === since && frames.length > 1;
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(value));
  bar.style.setProperty("--bar", color(run.model.classes.indexOf(label)));
  const note = frame.counts ? "" : `, ${VERDICTS.unlike_training}, does not count`;
  const button = element(
    "button",
    {
      type: "button",
      class: settles ? "frame settles" : "frame",
      "aria-label": `Time ${frame.time}: ${label} ${percent(value)}${note}${settles ? ", the call settles here" : ""}`,
    },
    picture(frame.cell.thumbnail, { loading: "lazy", decoding: "async" }),
    bar,
    element("span", {}, percent(value)),
    element("span", { class: "time" }, `t ${frame.time}`),
  );
  button.addEventListener("click", () => {
    showCell(frame.cell, run);
    // It may be thousands of pixels above.
    byId("detail").scrollIntoView({ block: "nearest" });
  });
  return button;
}
