// Write zips as programs do, and damaged or unusual ones.

import { Buffer } from "node:buffer";
import { crc32, deflateRawSync } from "node:zlib";

/**
 * Return a zip as a File. `files` is [{ name, content, method, flags, attributes, extra }]; method 8 (the default)
 * deflates. `comment` follows the directory, `count` replaces the number of files in it, `prefix` comes before it all.
 */
export function makeZip(files, { comment = "", count = files.length, prefix = "" } = {}) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const { name, content = "", method = 8, flags = 0, attributes = 0, extra: more = "" } of files) {
    const raw = Buffer.from(content);
    const packed = method === 8 ? deflateRawSync(raw) : raw;
    const path = Buffer.from(name);
    // A local header may have an extra field that the directory lacks.
    const extra = Buffer.alloc(4);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(path.length, 26);
    local.writeUInt16LE(extra.length, 28);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(flags, 8);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc32(raw), 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(raw.length, 24);
    entry.writeUInt16LE(path.length, 28);
    entry.writeUInt16LE(more.length, 30);
    entry.writeUInt32LE(attributes, 38);
    entry.writeUInt32LE(offset, 42);
    directory.push(entry, path, Buffer.from(more));
    parts.push(local, path, extra, packed);
    offset += local.length + path.length + extra.length + packed.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(count, 10);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(comment.length, 20);
  return new File([prefix, ...parts, ...directory, end, comment], "cells.zip");
}
