"""Cells outside the gates of quality on the page, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.support.bundles import EXACT
from tests.support.gates import CELLS, JUNK, gated, reasons
from tests.support.images import tiff
from tests.support.pages import wait_until_drawn
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow

FILES = {f"a_1d1_{i}_Ch1.ome.tif": cell for i, cell in enumerate([*CELLS[:20], *JUNK.values()])}
OUTSIDE = [name for name, cell in FILES.items() if reasons(cell)]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated")
    bundles = gated(folder / "bundles")
    with serving(folder, ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        client.folder = folder
        yield client


def test_cells_outside_are_counted_shown_apart_and_left_out_by_a_switch(page):
    composed = []
    page.on(
        "request",
        lambda sent: composed.append(len(sent.post_data_json["cells"])) if "/summarise" in sent.url else None,
    )
    uploads = [{"name": name, "mimeType": "image/tiff", "buffer": tiff(cell)} for name, cell in FILES.items()]
    page.set_input_files("#files", uploads)
    page.click("#start")
    wait_until_drawn(page)
    counts = page.locator("#samples .quality")
    expect(counts).to_contain_text(f"{len(OUTSIDE)} of 22 cells outside the quality gates: ")
    expect(counts).to_contain_text("(counted in the composition)")
    assert composed[-1] == 22

    page.check("#exclude-outside")
    expect(counts).to_contain_text("(not counted in the composition)")
    assert composed[-1] == 22 - len(OUTSIDE)
    page.uncheck("#exclude-outside")
    expect(counts).to_contain_text("(counted in the composition)")
    assert composed[-1] == 22

    page.select_option("#by-quality", "outside")
    expect(page.locator("#cell-count")).to_have_text(f"{len(OUTSIDE)} cells")
    page.select_option("#by-quality", "saturated")
    expect(page.locator("#cell-count")).to_have_text("1 cell")
    page.locator("#gallery").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail .quality")).to_contain_text("overexposed")
    page.select_option("#by-quality", "inside")
    expect(page.locator("#cell-count")).to_have_text(f"{22 - len(OUTSIDE)} cells")
