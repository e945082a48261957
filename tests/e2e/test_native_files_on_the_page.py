"""A native file of an instrument on the page, in a real browser: sent in slices, with progress."""

import os

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.support import native
from tests.support.images import typical
from tests.support.pages import wait_until_drawn

pytestmark = pytest.mark.slow

OBJECTS = 1300
"""More than an answer has."""
HOLE = 40_000_000
"""Bytes before the first object, as a header with many features leaves them; the page must not send them."""


@pytest.fixture(scope="module")
def cif(tmp_path_factory):
    drawn = [
        (np.stack([typical(i % 60), typical(i % 60) // 2]), np.zeros((2, 45, 60), np.uint8)) for i in range(OBJECTS)
    ]
    parts = native.parts(drawn, xml=native.acquisition_xml((1, 4), (1,)), numbers=[2 * i for i in range(OBJECTS)])
    parts[31][0][279] = (4, [5])
    return native.write_beyond(tmp_path_factory.mktemp("cif") / "day3_run7.cif", parts, HOLE)


def test_a_native_file_is_sent_in_slices(page, cif):
    sent, told = [], set()

    def tell(line):
        told.add(line)

    page.on("request", lambda request: sent.append(request) if "/classify_" in request.url else None)
    page.expose_function("tell", tell)
    page.evaluate(
        "new MutationObserver(() => tell(document.getElementById('progress-text').textContent))"
        ".observe(document.getElementById('progress-text'), { childList: true })"
    )
    page.set_input_files("#files", cif)
    expect(page.locator("#upload-summary")).to_contain_text("1 native file (")
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#progress-text")).to_have_text("1 of 1 file processed.")
    expect(page.locator("#cell-count")).to_have_text(f"{OBJECTS - 1:,} cells")
    assert any("of 1,300 objects" in line for line in told), told
    assert len(sent) > 2
    assert all("/classify_slices" in request.url for request in sent)
    sizes = [int(request.header_value("content-length")) for request in sent]
    assert max(sizes) < 17_000_000
    assert sum(sizes) < HOLE
    expect(page.locator("[data-sample='day3_run7.cif'] .counts")).to_contain_text(f"{OBJECTS - 1:,} cells")
    expect(page.locator("#unreadable")).to_contain_text("day3_run7.cif#30: ")
    page.locator("#gallery .cell").first.click()
    expect(page.locator("#detail")).to_contain_text("day3_run7.cif, object ")
    expect(page.locator("#detail .map-note")).to_contain_text("Red areas are evidence for")
    with page.expect_download() as download:
        page.click("[data-format=csv]")
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == OBJECTS + 1
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/cif.png", full_page=True)


def test_two_files_are_two_samples_and_an_empty_one_is_refused_before(page, tmp_path):
    drawn = [(typical(i)[None], np.zeros((1, 45, 60), np.uint8)) for i in range(12)]
    for name in ("a.cif", "b.rif"):
        (tmp_path / name).write_bytes(native.native(drawn, masks=name == "a.cif"))
    (tmp_path / "c.cif").touch()
    page.set_input_files("#files", [tmp_path / name for name in ("a.cif", "b.rif", "c.cif")])
    expect(page.locator("#rejected")).to_contain_text("c.cif: the file is empty")
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#progress-text")).to_have_text("2 of 2 files processed.")
    for name in ("a.cif", "b.rif"):
        expect(page.locator(f"[data-sample='{name}'] .counts")).to_contain_text("12 cells")
