// Thousands of cells: only those in sight are in the document.

import { color, element, percent } from "./charts.js";

const [WIDE, HIGH, GAP] = [92, 104, 4];

export class Gallery {
  constructor(box, canvas, chosen) {
    Object.assign(this, { box, canvas, chosen, cells: [], classes: [], tiles: new Map(), at: -1 });
    box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("pointerover", (event) => this.point(event));
    canvas.addEventListener("click", (event) => this.point(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  show(cells, classes) {
    const before = this.cells[this.at];
    Object.assign(this, { cells, classes });
    this.at = cells.indexOf(before);
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.draw();
  }

  get columns() {
    return Math.max(1, Math.floor((this.box.clientWidth - GAP) / (WIDE + GAP)));
  }

  draw() {
    const columns = this.columns;
    if (columns !== this.before) {
      for (const tile of this.tiles.values()) tile.remove();
      this.tiles.clear();
      this.before = columns;
    }
    const row = HIGH + GAP;
    this.canvas.style.height = `${Math.ceil(this.cells.length / columns) * row + GAP}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / row) - 2) * columns;
    const last = Math.min(this.cells.length, (Math.ceil((this.box.scrollTop + this.box.clientHeight) / row) + 2) * columns);
    for (const [i, tile] of this.tiles) {
      if (i < first || i >= last) {
        tile.remove();
        this.tiles.delete(i);
      }
    }
    for (let i = first; i < last; i++) {
      if (this.tiles.has(i)) continue;
      const tile = this.tile(this.cells[i], i);
      tile.style.transform = `translate(${(i % columns) * (WIDE + GAP) + GAP}px, ${Math.floor(i / columns) * row + GAP}px)`;
      this.tiles.set(i, tile);
      this.canvas.append(tile);
    }
  }

  tile(cell, i) {
    const dot = element("span", { class: "dot", "aria-hidden": "true" });
    dot.style.background = color(this.classes.indexOf(cell.label));
    const sure = percent(cell.probabilities[cell.label]);
    const words = { sure: "sure", unsure: "not sure", unlike_training: "unlike the training cells" };
    return element(
      "div",
      {
        id: `cell-${i}`, class: `cell ${cell.verdict}`, role: "option", "data-at": i,
        "aria-selected": i === this.at, "aria-posinset": i + 1, "aria-setsize": this.cells.length,
        "aria-label": `${cell.label}, ${sure}, ${words[cell.verdict]}, ${cell.file}`,
      },
      element("img", { src: `data:image/png;base64,${cell.thumbnail}`, alt: "", decoding: "async" }),
      element("span", { class: "name" }, dot, cell.label),
      element("span", {}, sure),
    );
  }

  point(event) {
    const tile = event.target.closest(".cell");
    if (tile) this.choose(Number(tile.dataset.at), false);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / (HIGH + GAP))) * this.columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !this.cells.length) return;
    event.preventDefault();
    const next = this.at < 0 ? 0 : this.at + steps[event.key];
    this.choose(Math.min(this.cells.length - 1, Math.max(0, next)), true);
  }

  choose(i, scroll) {
    if (i === this.at) return;
    this.tiles.get(this.at)?.setAttribute("aria-selected", "false");
    this.at = i;
    if (scroll) {
      const top = Math.floor(i / this.columns) * (HIGH + GAP);
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + HIGH + 2 * GAP > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + HIGH + 2 * GAP - this.box.clientHeight;
      this.draw();
    }
    this.tiles.get(i)?.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", `cell-${i}`);
    this.chosen(this.cells[i]);
  }
}
