// What the name of an image says, as people, instruments and file managers write it: its channel and object number.
// The service reads names by the same rules, fatescope/data/names.py; tests/page/names.json holds both to the same answers.

const SYSTEM_NAMES = new Set([
  "__macosx",
  "thumbs.db",
  "ehthumbs.db",
  "ehthumbs_vista.db",
  "desktop.ini",
  "$recycle.bin",
  "@eadir",
  "system volume information",
  "icon\r",
]);
const COPY = /(?:(?:\s+-\s+|\s+)(?:copy|kopie|copie|copia)(?:\s*\(\d+\)|\s+\d+)?|\s*\(\d+\))+(?=(?:\.[a-z0-9]+)*$)/i;
const COPY_OF = /^(?:copy of|kopie von|copie de|copia de)\s+/i;
const SUFFIX = /(?:\.ome)?\.[^.]*$/i;
const CHANNEL = /(?:^|[^a-z])(?:channel|chan|ch)[ _.-]*(\d{1,3})(?![0-9a-z])/gi;
const LAST_C = /[^a-z0-9]c(\d{1,2})$/i;
const FIRST_C = /^c(\d{1,2})(?=-)/i;
const CHANNEL_FOLDER = /^(?:channel|chan|ch)[ _.-]*(\d{1,3})$/i;
const LAST_NUMBER = /(?:^|[^a-z0-9])(\d+)$/i;
const ONLY_NUMBER = /^[ _.-]*(\d+)[ _.-]*$/;
const LAST_SEPARATORS = /[ _.-]+$/;
const WORD = /[\p{L}\p{N}]/u;
const MAX_DIGITS = 15;

/** Return a path with `/` between folders, whatever the system that wrote it, and composed Unicode. */
export const normalise = (path) => path.replaceAll("\\", "/").normalize("NFC");

/** Return whether a path is hidden, or of a file that an operating system or an open editor adds. */
export function isSystemFile(path) {
  const isOne = (part) =>
    (part.startsWith(".") && part !== "." && part !== "..") ||
    part.startsWith("~$") ||
    SYSTEM_NAMES.has(part.toLowerCase());
  return path.split("/").some(isOne);
}

/** Return whether two spellings are of the same channel, such as 01 and 1. */
export const sameChannel = (one, other) => plainChannel(one) === plainChannel(other);

const plainChannel = (channel) => (/^\d+$/.test(channel) ? String(Number(channel)) : channel.toLowerCase());

const plainObject = (number) => (/^\d+$/.test(number ?? "") && number.length <= MAX_DIGITS ? Number(number) : null);

/** Return { object, channel } of a path: by the pattern of the model, else as names are usually written. */
export function readName(path, regex) {
  const normal = normalise(path);
  const match = regex && matchPattern(normal, regex);
  if (!match) return readUsualName(normal);
  const { object, channel } = match.groups ?? {};
  return { object: plainObject(object), channel: channel == null ? null : plainChannel(channel) };
}

/** Return the named groups of the model's pattern in a path, null where it does not match. */
export const readGroups = (path, regex) => (regex && matchPattern(normalise(path), regex)?.groups) || null;

/** Return a path without its channel, which is equal for all files of one object. */
export function withoutChannel(path, regex) {
  const normal = normalise(path);
  const match = regex && matchPattern(normal, new RegExp(regex.source, "d"));
  if (match) {
    const [start, end] = match.indices.groups?.channel ?? [match.input.length, match.input.length];
    return start < end ? `${match.input.slice(0, start)}*${match.input.slice(end)}` : match.input;
  }
  const parts = withoutCopyMarks(normal).split("/");
  const name = parts.pop();
  const found = findChannel(name.replace(SUFFIX, ""));
  if (found) return [...parts, `${name.slice(0, found.start)}*${name.slice(found.end)}`].join("/");
  const place = parts.findLastIndex((part) => CHANNEL_FOLDER.test(part));
  if (place >= 0) parts[place] = "*";
  return [...parts, name].join("/");
}

// On the path as it is; then in any case, without the marks of a copy, and with the channel spelt as instruments do.
function matchPattern(path, regex) {
  const match = regex.exec(path);
  if (match && !beginsInsideWord(match)) return match;
  const anyCase = new RegExp(regex.source, `i${regex.flags}`);
  const plain = withoutCopyMarks(path);
  const other = anyCase.exec(plain) ?? anyCase.exec(withPlainChannel(plain));
  return !other || (match && match.index <= other.index) ? match : other;
}

function beginsInsideWord({ index, input, 0: text }) {
  return index > 0 && text !== "" && WORD.test(input[index - 1]) && WORD.test(input[index]);
}

function splitName(path) {
  const at = path.lastIndexOf("/") + 1;
  return [path.slice(0, at), path.slice(at)];
}

function withoutCopyMarks(path) {
  const [folder, name] = splitName(path);
  return folder + name.replace(COPY_OF, "").replace(COPY, "");
}

function withPlainChannel(path) {
  const [folder, name] = splitName(path);
  const found = findChannel(name.replace(SUFFIX, ""));
  if (!found) return path;
  const before = name.slice(0, found.start).replace(LAST_SEPARATORS, "");
  return `${folder}${before}${before ? "_" : ""}Ch${found.channel}${name.slice(found.end)}`;
}

function readUsualName(path) {
  const parts = withoutCopyMarks(path).split("/");
  const stem = parts.pop().replace(SUFFIX, "");
  const found = findChannel(stem);
  if (!found) {
    const folder = parts.map((part) => CHANNEL_FOLDER.exec(part)).findLast(Boolean);
    return { object: plainObject(ONLY_NUMBER.exec(stem)?.[1]), channel: folder ? plainChannel(folder[1]) : null };
  }
  const before = stem.slice(0, found.start);
  const number =
    LAST_NUMBER.exec(before.replace(LAST_SEPARATORS, "")) ?? ONLY_NUMBER.exec(before + stem.slice(found.end));
  return { object: plainObject(number?.[1]), channel: found.channel };
}

function findChannel(stem) {
  const match = [...stem.matchAll(CHANNEL)].at(-1) ?? LAST_C.exec(stem) ?? FIRST_C.exec(stem);
  if (!match) return null;
  // A character that only bounds the channel is part of the match.
  const start = match.index + (match[0][0].toLowerCase() === "c" ? 0 : 1);
  return { start, end: match.index + match[0].length, channel: plainChannel(match[1]) };
}
