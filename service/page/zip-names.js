// The names in a zip, as the service reads them (fatescope/data/archives.py).

import { normalise } from "./names.js";

const UTF8 = 0x800;
const UNICODE_PATH = 0x7075;
// The characters of code page 437 from 0x80 on.
const CP437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
const JAPANESE = "\\u3000-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\uff01-\\uff5e";
const NOT_JAPANESE = new RegExp(`[^\\x00-\\x7f${JAPANESE}]|(?:^|[^${JAPANESE}])[${JAPANESE}](?![${JAPANESE}])`);

/**
 * Return the path of an entry from the bytes of its name, its flags and its extra field. A name without the flag for
 * UTF-8 is in the code page of the machine that wrote it: UTF-8 all the same, Shift-JIS, or CP437.
 */
export function decodePath(bytes, flags, extra) {
  return normalise(flags & UTF8 ? new TextDecoder().decode(bytes) : decodeLocal(bytes, extra));
}

function decodeLocal(bytes, extra) {
  const unicode = unicodePath(bytes, extra) ?? decodeAs("utf-8", bytes);
  if (unicode !== null) return unicode;
  const japanese = decodeAs("shift_jis", bytes);
  // Bytes of accented letters can be read as single Japanese characters, words are made of several.
  if (japanese !== null && !NOT_JAPANESE.test(japanese)) return japanese;
  return [...bytes].map((byte) => (byte < 0x80 ? String.fromCharCode(byte) : CP437[byte - 0x80])).join("");
}

function decodeAs(encoding, bytes) {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

// Info-ZIP Unicode Path field, APPNOTE.TXT 4.6.9.
function unicodePath(bytes, extra) {
  const view = new DataView(extra.buffer, extra.byteOffset, extra.byteLength);
  for (let at = 0; at + 4 <= view.byteLength; at += 4 + view.getUint16(at + 2, true)) {
    const size = view.getUint16(at + 2, true);
    if (view.getUint16(at, true) !== UNICODE_PATH || size <= 5 || at + 4 + size > view.byteLength) continue;
    if (view.getUint32(at + 5, true) === crc32(bytes)) return decodeAs("utf-8", extra.subarray(at + 9, at + 4 + size));
  }
  return null;
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
