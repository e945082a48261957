"""Images that must not leave the browser: the page runs the model itself, in a real browser."""

import io
import re
import time
import zipfile

import numpy as np
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support import native
from tests.support.bundles import EXACT, copy_bundle
from tests.support.images import tiff, typical
from tests.support.pages import wait_until, wait_until_drawn
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow

EXPORT = {f"run_{run}/a_1d{run}_{i}_Ch1.ome.tif": tiff(typical(10 * run + i)) for run in (1, 2) for i in range(12)}


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return {"name": "cells.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}


@pytest.fixture
def context(browser):
    """As for the other tests, without service workers, which would answer in place of what a test puts in their way."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, accept_downloads=True, service_workers="block"
    )
    context.set_default_timeout(90_000)
    yield context
    context.close()


@pytest.fixture
def sent(context):
    """Every request of the page, its workers and its service worker, as (method, path, body)."""
    requests = []
    context.on(
        "request", lambda request: requests.append((request.method, request.url, request.post_data_buffer or b""))
    )
    return requests


def keep_private(page):
    page.check("#private-switch")
    expect(page.locator("#private-status")).to_contain_text("gave the results of its test cells")


def classify(page, files):
    page.set_input_files("#files", files)
    page.click("#start")
    wait_until_drawn(page)


def results(page):
    """Return file → cell of the run on display."""
    return page.evaluate(
        """async () => {
            const { state } = await import("./page/state.js");
            return Object.fromEntries(state.run.cells.map(({ item, thumbnail, ...cell }) => [cell.file, cell]));
        }"""
    )


def test_no_cell_is_sent_and_the_answers_are_those_of_the_service(page, service, sent):
    keep_private(page)
    page.set_input_files("#files", packed(EXPORT))
    expect(page.locator("#upload-summary")).to_have_text(
        "24 images in 2 samples will be classified in this browser, and not be sent."
    )
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("24 cells")
    here = results(page)
    assert {method for method, _, _ in sent} == {"GET"}
    assert all(not body for _, _, body in sent)
    assert {url.split("/")[2] for _, url, _ in sent} == {str(service.base_url).split("/")[2]}
    answer = service.post("/classify_batch", content=packed(EXPORT)["buffer"]).json()
    assert len(here) == len(answer["cells"]) == len(EXPORT)
    for cell in answer["cells"]:
        for field in ("label", "conformal_set", "verdict", "object", "warnings"):
            assert here[cell["file"]][field] == cell[field], cell["file"]
        names = cell["probabilities"]
        logits = [np.log([cells["probabilities"][name] for name in names]) for cells in (cell, here[cell["file"]])]
        np.testing.assert_allclose(*(one - one.mean() for one in logits), atol=1e-3)
        assert here[cell["file"]]["distance"] == pytest.approx(cell["distance"], rel=1e-3)
    title = page.text_content(".sample[data-sample=run_1] svg title")
    [sample] = [one for one in answer["samples"] if one["sample"] == "run_1"]
    for name, share in sample["composition"].items():
        assert f"{name} {round(100 * share['share'])}%" in title
    page.locator("#gallery .cell").first.click()
    expect(page.locator("#detail .cell-image img").first).to_be_visible()


def test_a_native_file_is_read_in_the_browser(page, service, sent, tmp_path):
    drawn = [(np.stack([typical(i), typical(i) // 2]), np.zeros((2, 45, 60), np.uint8)) for i in range(130)]
    parts = native.parts(drawn, xml=native.acquisition_xml((1, 4), (1,)), numbers=[2 * i for i in range(130)])
    parts[31][0][279] = (4, [5])
    (tmp_path / "day3.cif").write_bytes(native.pack(parts))
    keep_private(page)
    page.set_input_files("#files", tmp_path / "day3.cif")
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#progress-text")).to_have_text("1 of 1 file processed.")
    expect(page.locator("#cell-count")).to_have_text("129 cells")
    assert {method for method, _, _ in sent} == {"GET"}
    here = page.evaluate(
        """async () => (await import("./page/state.js")).state.run.cells.map(
            ({ object, label, verdict, error }) => [object, label ?? null, verdict ?? null, error?.code ?? null])"""
    )
    packed_file = [("files", ("day3.cif", (tmp_path / "day3.cif").read_bytes()))]
    answer = service.post("/classify_batch", files=packed_file).json()
    assert here == [
        [cell["object"], cell.get("label"), cell.get("verdict"), cell["error"]["code"] if cell.get("error") else None]
        for cell in answer["cells"]
    ]


def test_what_would_need_the_service_is_not_offered_and_the_csv_is_written_here(page, sent):
    keep_private(page)
    classify(page, packed(EXPORT))
    before = len(sent)
    page.locator("#gallery .cell").first.click()
    expect(page.locator("#detail form")).to_be_hidden()
    expect(page.locator("[data-format=fcs]")).to_be_hidden()
    expect(page.locator(".description").first).to_be_hidden()
    assert Axe().run(page).response["violations"] == []
    with page.expect_download() as download:
        page.click("[data-format=csv]")
    assert len(download.value.path().read_text(encoding="utf-8-sig").splitlines()) == len(EXPORT) + 1
    assert [request for request in sent[before:] if request[0] != "GET"] == []
    page.uncheck("#private-switch")
    classify(page, packed(EXPORT))
    expect(page.locator("[data-format=fcs]")).to_be_visible()
    assert any(method == "POST" for method, _, _ in sent), "without the switch, they are sent as before"


def test_the_choice_is_kept_and_nothing_is_sent_where_the_model_cannot_run(page, sent):
    keep_private(page)
    page.route(re.compile("/bundle/.*"), lambda route: route.abort())
    page.reload()
    expect(page.locator("#private-switch")).to_be_checked()
    expect(page.locator("#private-status")).to_contain_text("This browser cannot classify")
    page.set_input_files("#files", packed(EXPORT))
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#progress-text")).to_contain_text("24 images could not be sent")
    assert [request for request in sent if request[0] != "GET"] == []


def test_a_model_whose_test_cells_come_out_otherwise_is_refused(page, service):
    raw = bytearray((service.folder / "bundles" / "multiclass" / "test.safetensors").read_bytes())
    raw[-3] ^= 0x20  # of the last value
    page.route(re.compile("/test.safetensors"), lambda route: route.fulfill(body=bytes(raw)))
    page.evaluate("() => Object.defineProperty(crypto, 'subtle', { value: undefined })")
    page.check("#private-switch")
    expect(page.locator("#private-status")).to_contain_text("other results in this browser")


def test_a_worker_that_sees_images_can_connect_to_nothing(service):
    policy = service.get("/page/private/worker.js").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe-eval" not in service.get("/").headers["content-security-policy"]


def test_after_the_first_visit_it_needs_no_service(browser, tmp_path):
    copy_bundle(tmp_path / "bundles" / "multiclass", "multiclass")
    context = browser.new_context()
    context.set_default_timeout(90_000)
    with serving(tmp_path, ROOT, {"FATESCOPE_BUNDLES": str(tmp_path / "bundles"), **EXACT}) as client:
        address = str(client.base_url)
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#task option", state="attached")
        page.check("#private-switch")
        expect(page.locator("#private-status")).to_contain_text("works without a network")
        page.close()
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#private-switch")).to_be_checked()
    keep_private(page)
    classify(page, packed(EXPORT))
    expect(page.locator("#cell-count")).to_have_text("24 cells")
    kept = page.evaluate("async () => (await (await caches.open('fatescope-private')).keys()).map(({ url }) => url)")
    assert len([url for url in kept if "/bundle/" in url]) == 4
    page.uncheck("#private-switch")
    wait_until(page, "async () => !(await caches.has('fatescope-private'))")
    context.close()


def processor_seconds():
    """Return what the browser has used so far: on a machine that others use too, the clock says nothing."""
    times = [process.cpu_times() for process in psutil.Process().children(recursive=True) if "chrom" in process.name()]
    return sum(used.user + used.system for used in times)


def test_two_cores_classify_two_hundred_cells_a_second(page):
    keep_private(page)
    many = {f"run_1/a_1d1_{i}_Ch1.ome.tif": tiff(typical(i)) for i in range(2000)}
    classify(page, packed(dict(list(many.items())[:100])))
    page.click("#start-over")
    page.set_input_files("#files", packed(many))
    used, start = processor_seconds(), time.perf_counter()
    page.click("#start")
    wait_until_drawn(page)
    used, duration = processor_seconds() - used, time.perf_counter() - start
    print(f"{len(many) / duration:.0f} cells a second, {2 * len(many) / used:.0f} on two cores of its own")
    assert 2 * len(many) / used >= 200
