// What the path of a file says: whether it is hidden, its channel, its sample.

import { isSystemFile, readName } from "./names.js";

/** Name of the sample of images that come without a folder. */
export const NO_FOLDER = "Selected images";

/** Names of files that hold images. */
export const IMAGES = /\.(tiff?|png|bmp|jpe?g)$/i;

/** Return whether the path is of a hidden file or of one that an operating system adds. */
export const isHidden = isSystemFile;

/** Return the channel that a path names by the model's own pattern or as names are usually written, or null. */
export const channelOf = (path, model) => readName(path, model.regex).channel;

/** Return the channels that a model takes of each cell, the first one first; none where it takes any. */
export function channelsOf(model) {
  // The keys of an object that are numbers have lost their order.
  const others = Object.keys(model.channels ?? {}).filter((channel) => channel !== model.channel);
  return model.channel ? [model.channel, ...others] : [];
}

/** Translate a Python regular expression; return null where JavaScript cannot express it. */
export function toRegExp(pattern) {
  try {
    // Python writes named groups (?P<name>…), and refers to them by (?P=name).
    return pattern ? new RegExp(pattern.replaceAll("(?P<", "(?<").replaceAll(/\(\?P=(\w+)\)/g, "\\k<$1>")) : null;
  } catch {
    return null;
  }
}

/** Return what zips are called as samples: without their suffix, and no two alike or like a folder of `others`. */
export function nameZips(zips, others) {
  const taken = new Set(others.map((path) => path.split("/")[0]));
  return zips.map((zip) => {
    const stem = zip.replace(/\.zip$/i, "");
    let name = stem;
    for (let number = 2; taken.has(name); number++) name = `${stem} (${number})`;
    taken.add(name);
    return name;
  });
}

/**
 * Set `sample` of every item { path, zip }. A zip is a folder of its name around its files. Where items come from
 * several places, the folders that all files of a zip share say nothing more; nor do those that all items share, of
 * which the last one stays. The service assigns the same samples, fatescope/data/samples.py.
 */
export function assignSamples(items) {
  const images = items.filter((item) => IMAGES.test(item.path));
  // Other files, such as notes beside the folders, do not decide what the images share.
  const counted = new Set(images.length ? images : items);
  const folders = new Map(items.map((item) => [item, item.path.split("/").slice(0, -1)]));
  const zips = new Set(items.map((item) => item.zip || ""));
  for (const zip of zips) {
    if (!zip) continue;
    const inside = items.filter((item) => item.zip === zip);
    const common =
      zips.size > 1 ? sharedFolders(inside.filter((item) => counted.has(item)).map((i) => folders.get(i))) : 0;
    for (const item of inside) folders.set(item, [zip, ...folders.get(item).slice(common)]);
  }
  const shared = sharedFolders([...counted].map((item) => folders.get(item).slice(0, -1)));
  for (const item of items) {
    item.sample = folders.get(item).slice(shared).join("/") || folders.get(item).at(-1) || NO_FOLDER;
  }
}

/** Return how many leading folders all lists of folders share. */
function sharedFolders([first = [], ...others]) {
  const end = first.findIndex((folder, depth) => others.some((parts) => parts[depth] !== folder));
  return end < 0 ? first.length : end;
}
