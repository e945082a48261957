// Which of the files that a person chose is a plate map.

import { readPlateMap } from "./plate-map.js";

const MAX_MAP_BYTES = 5e6;
const MAP_FILE = /\.(csv|tsv|txt)$/i;

/** Return a plate map { name, rows, problems } from [{ path, file }], and the files that are none. */
export async function takePlateMap(chosen) {
  const others = [];
  let map = null;
  for (const { path, file } of chosen) {
    const read = MAP_FILE.test(path) && file.size <= MAX_MAP_BYTES ? readPlateMap(await file.text()) : null;
    if (read?.rows.length) map = { name: path.split("/").at(-1), ...read };
    else others.push({ path, file });
  }
  return { map, others };
}
