"""Label cells in the gallery and teach a head, in a real browser."""

import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from fatescope.inference import bundle
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn

pytestmark = pytest.mark.slow

CELLS = 24


def crop(seed):
    pixels = typical(seed)
    if seed % 2:
        pixels[18:27, 24:36] //= 2
    return tiff(pixels)


def test_cells_are_labelled_by_keyboard_and_taught_and_saved(page, tmp_path):
    page.select_option("#task", "binary")
    path = tmp_path / "cells.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed in range(CELLS):
            archive.writestr(f"run{seed // 2 % 4}/c{seed}.tif", crop(seed))
    page.set_input_files("#files", path)
    page.click("#start")
    wait_until_drawn(page)
    page.locator("#teach summary").click()
    for name in ("plain", "dark"):
        page.fill("#teach-class", name)
        page.keyboard.press("Enter")
    expect(page.locator("#teach-classes button")).to_have_text(["1 plain (0)", "2 dark (0)"])

    gallery = page.locator("#gallery")
    gallery.focus()
    page.keyboard.press("Home")
    for _ in range(CELLS):
        selected = page.locator("#gallery .cell[aria-selected=true]")
        said = selected.get_attribute("aria-label")
        number = int(said.rsplit("/c", 1)[1].split(".")[0])
        page.keyboard.press("2" if number % 2 else "1")
    expect(page.locator("#teach-classes button")).to_have_text(["1 plain (12)", "2 dark (12)"])

    # Several at a time: the last three lose their class, and get it back.
    page.keyboard.press("End")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#teach-marked")).to_have_text("3 cells marked")
    page.keyboard.press("0")
    expect(page.locator("#gallery .taught")).to_have_count(CELLS - 3)

    page.click("#teach-learn")
    said = page.locator("#teach-said")
    expect(said).to_contain_text("by cross-validation over samples", timeout=90_000)
    expect(page.locator("#cell-count")).to_have_text("3 cells")
    page.emulate_media(reduced_motion="reduce")
    violations = Axe().run(page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    page.fill("#teach-name", "nuclei")
    page.fill("#teach-by", "ann")
    with page.expect_download() as saved:
        page.click("#teach-save button")
    with zipfile.ZipFile(saved.value.path()) as archive:
        archive.extractall(tmp_path)
    spec = bundle.open_spec(tmp_path / "nuclei")
    assert (spec.classes, spec.taught.by) == (["dark", "plain"], "ann")
    expect(said).to_contain_text("fatescope models add fatescope-nuclei.zip")
