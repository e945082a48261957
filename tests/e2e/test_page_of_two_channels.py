"""The page of a model that sees two channels of a cell, in a real browser."""

import io
import zipfile

import pytest
from playwright.sync_api import expect

from tests.support.bundles import EXACT
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn
from tests.support.project import ROOT
from tests.support.servers import serving
from tests.support.untrained import scatter, write_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    channels = {"1": "brightfield", "6": "darkfield"}
    write_bundle(folder / "bundles" / "binary", "binary", ["astrocyte", "oligodendrocyte"], channels=channels)
    settings = {"FATESCOPE_BUNDLES": str(folder / "bundles"), "FATESCOPE_FEEDBACK": str(folder / "feedback"), **EXACT}
    with serving(folder, ROOT, settings) as client:
        client.folder = folder
        yield client


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return {"name": "cells.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}


def test_dropped_files_become_cells_with_a_picture_of_each_channel(page, service, tmp_path):
    files = {
        f"run_1/a_1d1_{seed}_Ch{channel}.ome.tif": tiff(pixels)
        for channel, draw in (("1", typical), ("4", typical), ("6", scatter))
        for seed, pixels in ((seed, draw(seed)) for seed in range(8))
    }
    del files["run_1/a_1d1_7_Ch6.ome.tif"]
    page.set_input_files("#files", packed(files))
    expect(page.locator("#upload-summary")).to_have_text(
        "14 images of 7 cells in 1 sample will be sent to this service and classified."
    )
    told = page.inner_text("#rejected")
    assert "run_1/a_1d1_7_Ch1.ome.tif: channel 6 of this cell is missing" in told
    assert "the model uses channels 1 and 6 only" in told
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#progress-text")).to_have_text("7 of 7 cells processed.")
    expect(page.locator("#cell-count")).to_have_text("7 cells")
    tile = page.locator("#gallery .cell").first
    expect(tile.locator("img")).to_have_count(2)
    tile.click()
    detail = page.locator("#detail")
    expect(detail.locator(".cell-image img.map")).to_be_visible()
    expect(detail.locator(".channels figcaption")).to_have_text("darkfield, channel 6")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    detail.locator("select").select_option("oligodendrocyte")
    detail.locator("input[type=checkbox]").check()
    detail.locator("button").click()
    expect(detail.locator("[role=status]")).to_contain_text("Recorded as oligodendrocyte, with the image.")
    kept = sorted(path.name[-12:] for path in (service.folder / "feedback").rglob("*.ome.tif"))
    assert kept == ["_Ch1.ome.tif", "_Ch6.ome.tif"]


def test_the_browser_classifies_both_channels_as_the_service_does(page, service):
    files = {
        f"run_1/a_1d1_{seed}_Ch{channel}.ome.tif": tiff(draw(seed))
        for channel, draw in (("1", typical), ("6", scatter))
        for seed in range(6)
    }
    page.check("#private-switch")
    expect(page.locator("#private-status")).to_contain_text("gave the results of its test cells")
    page.set_input_files("#files", packed(files))
    page.click("#start")
    wait_until_drawn(page)
    here = page.evaluate(
        """async () => (await import("./page/state.js")).state.run.cells.map(
            ({ file, label, probabilities, thumbnails }) => [file, label, probabilities, Object.keys(thumbnails)])"""
    )
    answer = service.post("/classify_batch?details=true", content=packed(files)["buffer"]).json()
    there = {cell["file"]: cell for cell in answer["cells"]}
    assert len(here) == len(there) == 6
    for file, label, probabilities, pictures in here:
        assert label == there[file]["label"]
        assert probabilities == pytest.approx(there[file]["probabilities"], abs=1e-4)
        assert pictures == ["1", "6"]
