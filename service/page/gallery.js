// A gallery of thousands of cells: only those in sight are in the document.

import { color } from "./charts.js";
import { element, picture } from "./dom.js";
import { otherChannels } from "./files.js";
import { percent } from "./format.js";
import { VERDICTS } from "./samples.js";
import { shownPath } from "./sentences.js";

const TILE = { height: 118, gap: 4, minWidth: 112, minWidthInNarrowBox: 88 }; // px; the height as in page.css
const NARROW_BOX = 480; // px
const ROW = TILE.height + TILE.gap;
const MARGIN_ROWS = 2; // drawn above and below what is in sight

/** Return how many tiles stand side by side in a box of `width` px, and the width of one that fills it. */
export function columnLayout(width) {
  const minWidth = width < NARROW_BOX ? TILE.minWidthInNarrowBox : TILE.minWidth;
  const columns = Math.max(1, Math.floor((width - TILE.gap) / (minWidth + TILE.gap)));
  return { columns, tileWidth: (width - TILE.gap) / columns - TILE.gap };
}

/** Return the indices [first, last) of the tiles to draw. */
export function visibleRange(count, columns, scrollTop, height) {
  const first = Math.max(0, Math.floor(scrollTop / ROW) - MARGIN_ROWS) * columns;
  const last = Math.min(count, (Math.ceil((scrollTop + height) / ROW) + MARGIN_ROWS) * columns);
  return [first, last];
}

export class Gallery {
  /** `box` scrolls over `canvas`; onSelect(cell) is called when the user moves to a cell. */
  constructor(box, canvas, onSelect) {
    Object.assign(this, { box, canvas, onSelect, cells: [], classes: [], tiles: new Map(), selected: -1 });
    box.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    box.addEventListener("keydown", (event) => this.handleKey(event));
    // Not `pointerover`: a page that scrolls or grows has another cell below a pointer that rests.
    canvas.addEventListener("pointermove", (event) => this.handlePointer(event));
    canvas.addEventListener("click", (event) => this.handlePointer(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  show(cells, model) {
    const before = this.cells[this.selected];
    this.others = (cell) => otherChannels(cell, model).map(([, png]) => png);
    Object.assign(this, { cells, classes: model.classes });
    this.selected = cells.indexOf(before);
    this.clear();
    this.draw();
  }

  get columns() {
    return columnLayout(this.box.clientWidth).columns;
  }

  clear() {
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
  }

  /** Draw in the next frame, once however often it is asked for. */
  drawSoon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    const { columns, tileWidth } = columnLayout(this.box.clientWidth);
    if (tileWidth !== this.tileWidth) this.clear();
    this.tileWidth = tileWidth;
    this.canvas.style.height = `${Math.ceil(this.cells.length / columns) * ROW + TILE.gap}px`;
    const [first, last] = visibleRange(this.cells.length, columns, this.box.scrollTop, this.box.clientHeight);
    for (const [i, tile] of this.tiles) {
      if (i >= first && i < last) continue;
      tile.remove();
      this.tiles.delete(i);
    }
    const created = [];
    for (let i = first; i < last; i++) {
      if (this.tiles.has(i)) continue;
      const tile = this.createTile(this.cells[i], i);
      const x = (i % columns) * (tileWidth + TILE.gap) + TILE.gap;
      tile.style.width = `${tileWidth}px`;
      tile.style.transform = `translate(${x}px, ${Math.floor(i / columns) * ROW + TILE.gap}px)`;
      this.tiles.set(i, tile);
      created.push(tile);
    }
    this.canvas.append(...created);
    this.nameSelected();
  }

  // A cell that is filtered to another place has another id, and one that is out of sight is not in the document.
  nameSelected() {
    if (this.tiles.has(this.selected)) this.box.setAttribute("aria-activedescendant", `cell-${this.selected}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  createTile(cell, i) {
    const dot = element("span", { class: "dot", "aria-hidden": "true" });
    dot.style.background = color(this.classes.indexOf(cell.label));
    const confidence = percent(cell.probabilities[cell.label]);
    const tile = element(
      "div",
      {
        id: `cell-${i}`,
        class: `cell ${cell.verdict}`,
        role: "option",
        "data-index": i,
        "aria-selected": String(i === this.selected),
        "aria-posinset": i + 1,
        "aria-setsize": this.cells.length,
        "aria-label": `${cell.label}, ${confidence}, ${VERDICTS[cell.verdict]}${cell.verdict === "unsure" && cell.coarse ? `, but ${cell.coarse.label}` : ""}, ${shownPath(cell)}`,
      },
      ...this.pictures(cell),
      element("span", { class: "name" }, dot, cell.label),
      element("span", {}, confidence),
    );
    this.decorate?.(tile, cell);
    return tile;
  }

  /** Return the picture of a cell, or those of its channels beside each other. */
  pictures(cell) {
    const pngs = [cell.thumbnail, ...this.others(cell)];
    const pictures = pngs.map((png) => picture(png, { decoding: "async" }));
    return pngs.length > 1 ? [element("span", { class: "channels" }, ...pictures)] : pictures;
  }

  handlePointer(event) {
    const tile = event.target.closest(".cell");
    if (tile) this.select(Number(tile.dataset.index));
  }

  handleKey(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW)) * this.columns;
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: this.columns,
      ArrowUp: -this.columns,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in steps) || !this.cells.length) return;
    event.preventDefault();
    const step = steps[event.key];
    const next = this.selected < 0 && Number.isFinite(step) ? 0 : this.selected + step;
    const index = Math.min(this.cells.length - 1, Math.max(0, next));
    this.scrollTo(index);
    this.select(index);
  }

  scrollTo(index) {
    const top = Math.floor(index / this.columns) * ROW;
    const bottom = top + ROW + TILE.gap;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (bottom > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = bottom - this.box.clientHeight;
    this.draw();
  }

  select(index) {
    if (index === this.selected) return;
    this.tiles.get(this.selected)?.setAttribute("aria-selected", "false");
    this.selected = index;
    this.tiles.get(index)?.setAttribute("aria-selected", "true");
    this.nameSelected();
    this.onSelect(this.cells[index]);
  }
}
