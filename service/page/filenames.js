// What the path of a file says: whether it is hidden, its channel, its sample.

/** Name of the sample of images that come without a folder. */
export const NO_FOLDER = "Selected images";

const EXPORTED = /(?:^|[/_])(?<object>\d+)_Ch(?<channel>\d+)\./;

/** Return whether the path is of a hidden file or of one that an operating system adds. */
export function isHidden(path) {
  return path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX" || part === "Thumbs.db");
}

/** Return the channel that a path names by the model's own pattern or by that of IDEAS, or null. */
export function channelOf(path, model) {
  for (const pattern of [model.regex, EXPORTED]) {
    const match = pattern?.exec(path);
    if (match) return match.groups?.channel ?? null;
  }
  return null;
}

/** Translate a Python regular expression; return null where JavaScript cannot express it. */
export function toRegExp(pattern) {
  try {
    // Python writes named groups (?P<name>…).
    return pattern ? new RegExp(pattern.replaceAll("(?P<", "(?<")) : null;
  } catch {
    return null;
  }
}

/** Set `sample` of every item: its folder, without the leading folders that all items share. */
export function assignSamples(items) {
  const folders = items.map((item) => item.path.split("/").slice(0, -1));
  const isShared = (depth) => folders.every((parts) => parts.length > depth + 1 && parts[depth] === folders[0][depth]);
  let shared = 0;
  while (folders.length && isShared(shared)) shared++;
  items.forEach((item, i) => {
    item.sample = folders[i].slice(shared).join("/") || folders[i].at(-1) || NO_FOLDER;
  });
}
