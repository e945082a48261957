"""Files of which none can be read: the reasons are what the page shows, in a real browser."""

import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.test_page import EXPORT, cell, classify, packed
from tests.support.accessibility import serious

pytestmark = pytest.mark.slow

DAMAGED = {"run_1/a.tif": b"x" * 100, "run_1/b.tif": cell(1)[:-60], "run_2/c.tif": b"y" * 90}


def shoot(page, name):
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_reasons_are_open_and_nothing_else_is_there(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 768, "height": 1024})
    classify(page, packed(DAMAGED))
    expect(page.locator("#unreadable ul")).to_be_visible()
    expect(page.locator("#unreadable li")).to_have_count(3)
    expect(page.locator("#unreadable")).to_contain_text("run_1/a.tif: not an image")
    expect(page.locator("#samples")).to_have_text(
        "None of these 3 images could be read, so that there is no composition. The reasons are below."
    )
    expect(page.locator("#cells-title")).to_have_text("Images that could not be read")
    for empty in ("#gallery", "#detail", "#filters", "#exports", "#quality-switch", "#queue", "#kept-note"):
        assert not page.is_visible(empty), empty
    shoot(page, f"nothing-{scheme}")
    found = Axe().run(page)
    assert serious(found) == []
    # The next files have their gallery again, with the reasons closed.
    page.click("#start-over")
    assert not page.is_visible("#kept-offer")
    classify(page, packed({**EXPORT, "run_1/bad.tif": b"x" * 100}))
    expect(page.locator("#cells-title")).to_have_text("Cells")
    assert page.is_visible("#gallery")
    assert page.is_visible("#unreadable")
    assert not page.is_visible("#unreadable ul")


def test_files_that_cannot_be_sent_say_why_before_anything_is_sent(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.set_input_files("#files", packed({"notes.txt": b"fed on monday", "run_1/empty.tif": b""}))
    expect(page.locator("#upload-summary")).to_have_text("None of these files is an image that the model can read.")
    expect(page.locator("#rejected li")).to_have_count(2)
    expect(page.locator("#choose-others")).to_be_focused()
    assert not page.is_visible("#start")
    assert sent == []
    shoot(page, "nothing-to-send")
