// What the service would answer to requests with cells in them, computed here instead; nothing of them leaves the browser.

import { RequestError } from "../api.js";
import { toRegExp } from "../filenames.js";
import { readName } from "../names.js";
import { compose } from "./composition.js";
import { toCsv } from "./csv.js";
import { Pool } from "./pool.js";

// What the page asks for, without a body; all else might say something of a cell.
const WITHOUT_CELLS = new Set(["models", "card", "examples", "sample", "bundle", "key"]);
const KEPT = "this page keeps images and results in the browser";

/** Answers requests of the page in place of the service, with the models that it has loaded. */
export class Answers {
  constructor() {
    this.pools = new Map(); // task → promise of its Pool
    this.keys = new Map(); // native file → its number
  }

  /** Load the model of a task, unless it is loaded; throws an Error where this browser cannot run it. */
  load(task) {
    if (!this.pools.has(task)) {
      this.close();
      const loading = Pool.load(task);
      loading.catch(() => this.pools.delete(task));
      this.pools.set(task, loading);
    }
    return this.pools.get(task);
  }

  /** Stop the workers. */
  close() {
    for (const loading of this.pools.values()) loading.then((pool) => pool.close()).catch(() => {});
    this.pools.clear();
  }

  /** Return the response to a request, null where the service may have it because nothing of a cell is in it. */
  async answer(path, options, model) {
    const url = new URL(path, "http://page/");
    const name = url.pathname.slice(1);
    // Of those who label cells; the service knows none of these.
    if (name === "queue") throw refused("no_records", `${KEPT}, so that there are no cells to label`);
    if (!options.body && WITHOUT_CELLS.has(name.split("/")[0])) return null;
    if (name === "classify_batch") return json(await this.classify(options.body, model));
    if (name === "summarise") return json(await this.summarise(JSON.parse(options.body), model));
    if (name === "export" && url.searchParams.get("format") === "csv") return table(JSON.parse(options.body));
    throw refused("private", `${KEPT}, and this would need the service; turn that off to use it`);
  }

  async classify(body, model) {
    const pool = await this.poolOf(model);
    const cells = await attempt(() => pool.classify(objectsOf(body.getAll("files"), model)));
    return { ...identity(model, pool), cells };
  }

  async summarise({ cells }, model) {
    const { spec } = await this.poolOf(model);
    return { composition: compose(cells, spec), differences: [] };
  }

  /**
   * Classify native files, one after the other, as `classifyNatives` does by the service: calls onSlices(item, response) and
   * onFailure([item], error).
   */
  async classifyNatives(items, model, signal, handlers) {
    for (const item of items) {
      try {
        await this.classifyNative(item, model, signal, handlers);
      } catch (error) {
        if (signal.aborted) return;
        handlers.onFailure([item], error);
      }
    }
  }

  async classifyNative(item, model, signal, { onSlices }) {
    const pool = await this.poolOf(model);
    if (!this.keys.has(item)) this.keys.set(item, this.keys.size);
    const blob = await item.read();
    while (item.next !== null && !signal.aborted) {
      const { cells, objects, at } = await pool.native(this.keys.get(item), blob, item.path);
      item.next = at === null ? null : { slices: [{ start: at }] };
      const goOn = onSlices(item, { ...identity(model, pool), objects, cells, next: item.next });
      if (!goOn) item.next = null;
    }
  }

  async poolOf({ task }) {
    return attempt(() => this.load(task));
  }
}

// A request that was refused is not tried again.
const refused = (code, message) => new RequestError(400, { code, message }, 0);

async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    throw refused("private", error.message);
  }
}

/** Return objects [{ upload, object, files }] of files that follow each other, one for each channel of the model. */
function objectsOf(files, model) {
  const channels = Math.max(1, Object.keys(model.channels ?? {}).length);
  const regex = toRegExp(model.pattern);
  const objects = [];
  for (let upload = 0; upload < files.length; upload += channels) {
    const its = files.slice(upload, upload + channels).map((file) => ({ name: file.name, blob: file }));
    objects.push({ upload, object: readName(its[0].name, regex).object, files: its });
  }
  return objects;
}

const identity = ({ model, task, simulated }, { version }) => ({
  model: { name: model.name, version: version ?? model.version },
  task,
  request_id: "in-browser",
  simulated,
});

const json = (content) => ({ ok: true, headers: new Headers(), json: async () => content });

function table(results) {
  const headers = new Headers({ "Content-Disposition": `attachment; filename="fatescope-${results.task}.csv"` });
  return { ok: true, headers, blob: async () => new Blob([toCsv(results)], { type: "text/csv" }) };
}
