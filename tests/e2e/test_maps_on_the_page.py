"""Activation maps of pages and of objects of a native file, with a scale, in a real browser."""

import os

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support import native
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn

pytestmark = pytest.mark.slow

CELLS = [typical(seed) for seed in range(12)]


def posts(page):
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    return sent


def shoot(page, name):
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def classify(page, path):
    page.set_input_files("#files", path)
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("12 cells")


def check_map(page, service, number):
    """Check the map that is shown against that of the image `number` alone."""
    answer = service.post("/classify?explain=true", content=tiff(CELLS[number])).json()
    assert page.inner_text("#detail h3") == answer["label"]
    shown = page.get_attribute(".cell-image .map", "src")
    assert shown == f"data:image/png;base64,{answer['activation_map']['png']}"
    return answer["activation_map"]


def check_scale(page, drawn):
    ticks = page.eval_on_selector_all(".map-scale span:not(.ramp)", "all => all.map((tick) => tick.textContent)")
    assert ticks[1] == "0"
    ticks[2] = ticks[2].removesuffix(" logit")
    assert float(ticks[2]) == pytest.approx(drawn["scale"], rel=0.06)
    assert float(ticks[0].replace("\u2212", "-")) == -float(ticks[2])
    page.focus(".map-note summary")
    page.keyboard.press("Enter")
    said = page.inner_text(".map-note")
    assert f"one at full red adds {ticks[2]} to the logit of {drawn['label']}" in said
    assert f"{drawn['rows']} \u00d7 {drawn['columns']} positions" in said


def test_pages_of_a_tiff_have_maps(page, service, tmp_path):
    path = tmp_path / "many.tif"
    path.write_bytes(tiff(np.stack(CELLS)))
    classify(page, path)
    page.focus("#gallery")
    for key in ("Home", "ArrowRight"):
        page.keyboard.press(key)
        page.wait_for_selector(".cell-image .map")
        number = int(page.inner_text("#detail .path").split("page ")[1]) - 1
        check_map(page, service, number)
    check_scale(page, check_map(page, service, number))
    shoot(page, "map-page")


def test_a_large_file_is_sent_again_only_when_asked(page, service, tmp_path):
    path = tmp_path / "many.tif"
    path.write_bytes(tiff(np.stack(CELLS)) + bytes(3_000_000))
    classify(page, path)
    sent = posts(page)
    page.hover("#cell-0")
    expect(page.locator(".map-note")).to_contain_text("1 file with all pages (3.07 MB) will be sent once more")
    page.wait_for_timeout(400)
    assert sent == []
    shoot(page, "map-ask")
    page.click(".map-note button")
    page.wait_for_selector(".cell-image .map")
    check_map(page, service, int(page.inner_text("#detail .path").split("page ")[1]) - 1)
    assert len(sent) == 1


@pytest.fixture(scope="module")
def cif(tmp_path_factory):
    drawn = [(np.stack([pixels, pixels // 2]), np.zeros((2, 45, 60), np.uint8)) for pixels in CELLS]
    parts = native.parts(drawn, xml=native.acquisition_xml((1, 4), (1,)), numbers=list(range(12)))
    return native.write_beyond(tmp_path_factory.mktemp("cif") / "day3.cif", parts, 20_000_000)


def test_objects_of_a_native_file_have_maps_and_little_is_sent(page, service, cif):
    classify(page, cif)
    sent = posts(page)
    page.hover("#cell-3")
    page.wait_for_selector(".cell-image .map")
    number = int(page.inner_text("#detail .path").split("object ")[1])
    check_scale(page, check_map(page, service, number))
    assert all("/explain_slices" in request.url for request in sent)
    assert sum(int(request.header_value("content-length")) for request in sent) < 3_000_000
    before, shown = len(sent), page.inner_text("#detail .path")
    page.hover("#cell-7")
    expect(page.locator("#detail .path")).not_to_have_text(shown)
    page.wait_for_selector(".cell-image .map")
    check_map(page, service, int(page.inner_text("#detail .path").split("object ")[1]))
    assert len(sent) == before + 1, "the header of the file is known by now"
    shoot(page, "map-object")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scale_keeps_nobody_out(page, cif, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 768, "height": 1024})
    classify(page, cif)
    page.hover("#cell-0")
    page.wait_for_selector(".cell-image .map")
    page.click(".map-note summary")
    found = Axe().run(page)
    serious = [each["id"] for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 768
    shoot(page, f"map-{scheme}")
