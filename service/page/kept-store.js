// One run in the IndexedDB of the browser: its head, and its cells in parts, so that cells that come are added to it.
// Each function rejects where the browser keeps nothing, as in a private window, or has no room.

const DATABASE = "fatescope";
const LAST = "last"; // key of the only head

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.addEventListener("upgradeneeded", () => {
      request.result.createObjectStore("heads");
      request.result.createObjectStore("parts", { autoIncrement: true });
    });
    request.addEventListener("success", () => {
      // Another tab may delete the database.
      request.result.addEventListener("versionchange", () => request.result.close());
      resolve(request.result);
    });
    request.addEventListener("error", () => reject(request.error));
    request.addEventListener("blocked", () => reject(new Error("another tab holds an older page")));
  });
  return opened;
}

const result = (request) =>
  new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
  });

/** Run `act` with the stores of heads and of parts; resolve to what it returns once that is written. */
async function transact(mode, act) {
  const transaction = (await open()).transaction(["heads", "parts"], mode);
  const ended = new Promise((resolve, reject) => {
    transaction.addEventListener("complete", resolve);
    transaction.addEventListener("abort", () => reject(transaction.error ?? new Error("not written")));
  });
  const [value] = await Promise.all([act(transaction.objectStore("heads"), transaction.objectStore("parts")), ended]);
  return value;
}

/** Return the head of the run that is kept, or undefined. */
export const readHead = () => transact("readonly", (heads) => result(heads.get(LAST)));

/** Return the cells of the run that is kept. */
export const readCells = async () => (await transact("readonly", (_, parts) => result(parts.getAll()))).flat();

/** Keep a run instead of the one before; `cells` are its first. */
export const replace = (head, cells) =>
  transact("readwrite", async (heads, parts) => {
    parts.clear();
    parts.add(cells);
    await result(heads.put(head, LAST));
  });

/** Add cells to the run that is kept; return false where that is another one by now, of another tab. */
export const append = (head, cells) =>
  transact("readwrite", async (heads, parts) => {
    if ((await result(heads.get(LAST)))?.id !== head.id) return false;
    if (cells.length) parts.add(cells);
    await result(heads.put(head, LAST));
    return true;
  });

/** Delete what is kept; of a run where `id` is given, and not of another tab's. */
export const clear = (id = null) =>
  transact("readwrite", async (heads, parts) => {
    if (id !== null && (await result(heads.get(LAST)))?.id !== id) return;
    parts.clear();
    await result(heads.clear());
  });
