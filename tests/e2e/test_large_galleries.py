"""100,000 cells on the page, in a real browser: how long they take to show, and whether they scroll smoothly."""

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.support.images import typical

pytestmark = [pytest.mark.slow, pytest.mark.long]

CELLS, SAMPLES, PICTURES = 100_000, 4, 64

FILL = """
async ([count, samples, pictures]) => {
  const { state, currentModel } = await import("./page/state.js");
  const { Run } = await import("./page/run.js");
  const { drawResults } = await import("./page/results.js");
  const { classes, figures } = currentModel();
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const items = Array.from({ length: samples }, (_, i) => ({ path: `s${i}/cells.tif`, sample: `s${i}`, size: 1 }));
  const cells = Array.from({ length: count }, (_, i) => {
    const values = classes.map(random);
    const sum = values.reduce((a, b) => a + b);
    const label = classes[values.indexOf(Math.max(...values))];
    const item = items[i % samples];
    return {
      file: item.path, page: i, object: i, item, label,
      probabilities: Object.fromEntries(classes.map((name, k) => [name, values[k] / sum])),
      conformal_set: [label], verdict: i % 2 ? "sure" : "unsure", distance: random(), quality: [], warnings: [],
      figures: figures.map(random), thumbnail: pictures[i % pictures.length],
    };
  });
  const run = new Run(currentModel(), samples);
  run.begin(items);
  run.addResponse(items, { model: { name: "m", version: "1" }, request_id: "r", cells });
  run.finish();
  state.run = run;
  const start = performance.now();
  drawResults(run, { now: true });
  const when = (selector) => new Promise((resolve) => {
    const look = () =>
      document.querySelector(selector) ? resolve(performance.now() - start) : requestAnimationFrame(look);
    look();
  });
  window.shown = when("#gallery .cell img");
  window.composed = when(".sample");
}
"""
SCROLL = """
async () => {
  const box = document.getElementById("gallery");
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const frames = [];
  let [last, tiles] = [await frame(), 0];
  const step = async (top) => {
    box.scrollTop = top;
    const now = await frame();
    frames.push(now - last);
    last = now;
    tiles = Math.max(tiles, box.querySelectorAll(".cell").length);
  };
  for (let i = 0; i < 120; i++) await step(i * 305);
  for (let i = 0; i < 60; i++) await step((i * 7919 * 122) % (box.scrollHeight - 700));
  frames.sort((a, b) => a - b);
  return { median: frames[90], p95: frames[171], longest: frames.at(-1), tiles };
}
"""


def pictures():
    for seed in range(PICTURES):
        buffer = io.BytesIO()
        Image.fromarray((typical(seed) >> 4).astype(np.uint8)).save(buffer, "PNG")
        yield base64.b64encode(buffer.getvalue()).decode()


def tell(name, value):
    """State a figure: `pytest -s` shows it."""
    print(f"{CELLS:,} cells, {name}: {value:,.0f} ms, {os.cpu_count()} cores")


def test_many_cells_show_at_once_scroll_smoothly_and_are_not_sent_again(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.evaluate(FILL, [CELLS, SAMPLES, list(pictures())])
    shown = page.evaluate("window.shown")
    tell("until the gallery is there", shown)
    expect(page.locator("#cell-count")).to_have_text("100,000 cells")
    assert shown < 5_000
    page.wait_for_selector(".sample", timeout=120_000)
    tell("until the composition is there", page.evaluate("window.composed"))
    # A comparison sends shares, and no cells.
    assert len([url for url in sent if "/compare" not in url]) == SAMPLES + 1, "each cell with its sample, and with all"
    expect(page.locator("#kept-text")).to_contain_text("kept on this computer", timeout=90_000)
    assert "MB of at most 150 MB" in page.inner_text("#kept-text")
    sent.clear()
    frames = page.evaluate(SCROLL)
    tell("a step of scrolling, median", frames["median"])
    tell("a step of scrolling, 95 %", frames["p95"])
    assert frames["median"] < 50
    assert 0 < frames["tiles"] < 150
    page.focus("#gallery")
    page.keyboard.press("End")
    assert page.get_attribute("#gallery", "aria-activedescendant") == f"cell-{CELLS - 1}"
    expect(page.locator(f"#cell-{CELLS - 1} .no-picture")).to_be_visible()
    for order in ("unsure", "odd"):
        page.select_option("#order", order)
    page.select_option("#by-verdict", "unsure")
    expect(page.locator("#cell-count")).to_have_text("50,000 cells")
    assert [url for url in sent if "summarise" in url or "classify" in url] == []
