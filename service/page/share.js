// Share a result without images: a link that holds it, or a file; and show one that was shared.

import { startOver } from "./classify.js";
import { byId, element, showProblem, showSections } from "./dom.js";
import { agree, plural } from "./format.js";
import { sampleCard } from "./results.js";
import { MAX_LINK, pack, parse, shareOf, unpack } from "./shared-result.js";
import { state } from "./state.js";
import { differenceBanner, fileBanners, versionsBanner } from "./warnings.js";

const KEY = "#result=";
const SHARED_FILE = /\.fatescope\.json$/i;
const MAX_FILE = 2e6; // bytes
const REVOKE_MS = 10_000; // by then the browser has begun to save the file

let shared = null; // what the box offers

/** Return whether a file is a shared result. */
export const isShared = (path) => SHARED_FILE.test(path);

async function offer() {
  if (!byId("share-box").hidden) {
    byId("share-box").hidden = true;
    byId("share").setAttribute("aria-expanded", "false");
    return;
  }
  shared = shareOf(state.run, Date.now());
  const link = `${location.href.split("#")[0]}${KEY}${await pack(shared)}`;
  const fits = link.length <= MAX_LINK;
  byId("share-link").value = fits ? link : "";
  byId("share-with-link").hidden = byId("copy-link").hidden = !fits;
  byId("share-text").textContent = explain(shared, fits);
  byId("share-status").textContent = "";
  byId("share-box").hidden = false;
  byId("share").setAttribute("aria-expanded", "true");
  byId(fits ? "share-link" : "save-shared").focus();
  selectLink();
}

// From its end to its begin, which is what stays in sight.
const selectLink = () => byId("share-link").setSelectionRange(0, byId("share-link").value.length, "backward");

function explain({ samples }, fits) {
  const names = agree(samples.length, "its name", "their names");
  const what = `compositions, counts and warnings of ${plural(samples.length, "sample")}, with ${names}, and no images`;
  return fits
    ? `This link holds the ${what}. The result is in the link itself, behind the #: it is neither sent to a server nor stored by one. Whoever opens it needs access to this page.`
    : `This result is too long for a link (${plural(samples.length, "sample")}). Save it as a file: it holds the ${what}. Whoever drops the file on this page sees the result; it is not sent to the server.`;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(byId("share-link").value);
    byId("share-status").textContent = "Copied.";
  } catch {
    // Browsers refuse it to pages without HTTPS.
    byId("share-link").focus();
    selectLink();
    byId("share-status").textContent = "The link is selected: copy it with Ctrl+C (⌘C on a Mac).";
  }
}

function save() {
  const href = URL.createObjectURL(new Blob([JSON.stringify(shared)], { type: "application/json" }));
  const day = new Date(shared.at).toISOString().slice(0, 10);
  element("a", { href, download: `${shared.model.task}-${day}.fatescope.json` }).click();
  setTimeout(() => URL.revokeObjectURL(href), REVOKE_MS);
}

function show({ at, model, classes, versions, unreadable, lossy, unusualSizes, samples, differences }) {
  startOver();
  const day = new Date(at).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });
  const cells = samples.reduce((sum, sample) => sum + sample.cells.length, 0);
  const images = unreadable ? ` ${plural(unreadable, "image")} could not be read.` : "";
  byId("shared-text").textContent =
    `Shared on ${day}: ${plural(cells, "cell")} in ${plural(samples.length, "sample")}, classified by ${model.name}, version ${model.version} (${model.backbone}).${images} The result holds numbers only and no images. Nothing of it was sent to this service, which cannot confirm it either: trust it as far as you trust whoever sent it.`;
  byId("shared-simulated").hidden = !model.simulated;
  byId("warnings").replaceChildren(
    ...[versionsBanner(versions), differenceBanner(differences), ...fileBanners(lossy, unusualSizes)].filter(Boolean),
  );
  byId("samples").replaceChildren(...samples.map((sample) => sampleCard(sample.name, sample, classes)));
  byId("exports").hidden = byId("quality-switch").hidden = true;
  showSections("shared", "answer");
}

async function open(read) {
  try {
    show(await read());
    return true;
  } catch (error) {
    showProblem(`This shared result cannot be shown: ${error.message}. Ask for it once more.`);
    return false;
  }
}

/** Show the result in a file. */
export const openShared = (file) =>
  open(async () => {
    if (file.size > MAX_FILE) throw new Error("it is too long");
    return parse(await file.text());
  });

/** Show the result that the address of the page holds, if it holds one. */
async function openLink() {
  if (location.hash.startsWith(KEY)) await open(() => unpack(location.hash.slice(KEY.length)));
}

function close() {
  // Otherwise a reload would show it again.
  history.replaceState(null, "", location.href.split("#")[0]);
  startOver();
  byId("pick-files").focus();
}

/** Connect the buttons, and show what the address holds. */
export function initShare() {
  byId("share").addEventListener("click", offer);
  byId("copy-link").addEventListener("click", copy);
  byId("save-shared").addEventListener("click", save);
  byId("close-shared").addEventListener("click", close);
  addEventListener("hashchange", openLink);
  return openLink();
}
