"""The strips of cells with several images over time, in a real browser."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.accessibility import serious
from tests.support.bundles import EXACT, copy_followed_bundle
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    copy_followed_bundle(folder / "bundles" / "binary", "binary")
    settings = {"FATESCOPE_BUNDLES": str(folder / "bundles"), **EXACT}
    with serving(folder, ROOT, settings) as client:
        client.folder = folder
        yield client


def images(cells, hours):
    """Return files of a folder whose order is not that of time."""
    return [
        {
            "name": f"a_1d1_{cell}_t{hour}_Ch1.ome.tif",
            "mimeType": "image/tiff",
            "buffer": tiff(typical(9 * cell + hour)),
        }
        for hour in reversed(hours)
        for cell in range(cells)
    ]


def test_a_strip_a_cell_shows_its_images_in_time_by_keyboard_too(page, tmp_path):
    page.set_input_files("#files", images(22, [0, 6, 12]))
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#track-count")).to_contain_text("22 cells with several images")
    strips = page.locator("#track-strips > li")
    expect(strips).to_have_count(20)
    first = strips.first
    expect(first.locator("button.frame")).to_have_count(3)
    labels = [button.get_attribute("aria-label") for button in first.locator("button.frame").all()]
    assert [label.split(":")[0] for label in labels] == ["Time 0", "Time 6", "Time 12"]
    assert sum("the call settles here" in label for label in labels) == 1
    expect(first.locator("p")).to_contain_text("after 3 images")
    assert serious(Axe().run(page)) == []
    page.screenshot(path=tmp_path / "tracks.png", full_page=True)
    page.set_viewport_size({"width": 320, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.set_viewport_size({"width": 1280, "height": 900})
    # A native button: reached by Tab, pressed by the space bar.
    first.locator("button.frame").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press(" ")
    expect(page.locator("#detail .path")).to_contain_text("_t6_Ch1")
    expect(page.locator("#detail .path")).to_be_in_viewport()
    expect(page.locator(".sample .counts").last).to_contain_text("22 cells have several images")
    page.locator("#more-tracks").focus()
    page.keyboard.press("Enter")
    expect(strips).to_have_count(22)
    expect(strips.nth(20).locator("button.frame").first).to_be_focused()
    expect(page.locator("#more-tracks")).to_be_hidden()


def test_the_page_says_what_the_service_says_of_all_files_at_once(page, service):
    files = images(5, [0, 6, 12])
    page.set_input_files("#files", files)
    page.click("#start")
    wait_until_drawn(page)
    here = page.evaluate(
        """async () => {
            const { state } = await import("./page/state.js");
            const { answerTracks } = await import("./page/tracks.js");
            return answerTracks(state.run.classified, state.run.model).map(({ track, label, since, frames }) =>
                [track, label, since, frames.at(-1).probabilities[label]]);
        }"""
    )
    sent = [("files", (file["name"], file["buffer"])) for file in files]
    there = service.post("/classify_batch", files=sent).json()["tracks"]
    expected = {t["track"]: (t["label"], t["since"], t["frames"][-1]["probabilities"][t["label"]]) for t in there}
    assert len(here) == len(expected) == 5
    for track, label, since, probability in here:
        assert (label, since) == expected[track][:2]
        assert probability == pytest.approx(expected[track][2], abs=1e-4)


def test_results_that_were_kept_have_their_strips(page):
    page.set_input_files("#files", images(3, [0, 6]))
    page.click("#start")
    expect(page.locator("#delete-kept")).to_be_visible()
    page.reload()
    page.click("#show-kept")
    expect(page.locator("#track-strips > li")).to_have_count(3)
    expect(page.locator(".sample .counts").last).to_contain_text("3 cells have several images")


def test_the_composition_counts_a_cell_once(page, service):
    one, *rest = images(8, [0])
    again = [one | {"name": f"a_1d1_7_t{hour}_Ch1.ome.tif"} for hour in range(1, 40)]
    page.set_input_files("#files", [one, *again, *rest])
    page.click("#start")
    wait_until_drawn(page)
    here = page.evaluate(
        """async () => [...(await import("./page/state.js")).state.run.samples.values()][0].summary.composition"""
    )
    sent = [("files", (file["name"], file["buffer"])) for file in (one, *again, *rest)]
    there = service.post("/classify_batch", files=sent).json()["sample"]["composition"]
    for name, share in there.items():
        assert here[name]["share"] == pytest.approx(share["share"], abs=1e-3)
