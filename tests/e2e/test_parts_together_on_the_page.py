"""Comparing, teaching, keeping and privacy used together, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.e2e.test_compare_on_the_page import THREE, classify, compared, export, field, plate_map
from tests.e2e.test_page import packed
from tests.support.images import tiff, typical

pytestmark = pytest.mark.slow

CELLS = 2 * len(THREE)

DROP = """([files]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([files.text], files.name));
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def drop(page, text, name="plate.csv"):
    page.evaluate(DROP, [{"text": text, "name": name}])


def show_kept(page):
    page.reload()
    page.click("#show-kept")
    page.wait_for_selector("#samples > *")


def label(page, count):
    """Name two classes, and label the first cells by turns."""
    for name in ("plain", "dark"):
        page.fill("#teach-class", name)
        page.keyboard.press("Enter")
    page.focus("#gallery")
    page.keyboard.press("Home")
    for i in range(count):
        page.keyboard.press(str(1 + i % 2))


def test_roles_that_were_corrected_survive_a_reload(page):
    classify(page, export(THREE))
    compared(page, 9)
    page.locator("#roles summary").click()
    field(page, "Condition", THREE[0]).fill("mine")
    page.keyboard.press("Enter")
    expect(page.locator("#roles-summary")).to_contain_text("mine (1)")
    page.select_option("#reference", "NT3")
    expect(page.locator("#comparison article h3").first).to_contain_text("against NT3")
    show_kept(page)
    expect(page.locator("#roles-summary")).to_contain_text("mine (1)")
    expect(page.locator("#comparison article h3").first).to_contain_text("against NT3")


def test_labels_come_back_with_their_cells_and_not_with_others(page):
    cells = packed({f"run_r{i % 3}/a_1d1_{i}_Ch1.ome.tif": tiff(typical(100 + i)) for i in range(12)})
    others = packed({f"other_r{i % 2}/a_1d1_{i}_Ch1.ome.tif": tiff(typical(500 + i)) for i in range(6)})
    classify(page, cells)
    page.locator("#teach summary").click()
    label(page, 10)
    buttons = page.locator("#teach-classes button")
    expect(buttons).to_have_text(["1 plain (5)", "2 dark (5)"])
    page.select_option("#teach-show", "labelled")
    expect(page.locator("#cell-count")).to_have_text("10 cells")

    # Nothing of them stays where other cells are classified, and no filter that hides all of those.
    page.click("#start-over")
    classify(page, others)
    expect(page.locator("#cell-count")).to_have_text("6 cells")
    expect(buttons).to_have_count(0)

    page.reload()
    page.wait_for_selector("#task option", state="attached")
    classify(page, cells)
    page.locator("#teach summary").click()
    expect(buttons).to_have_text(["1 plain (5)", "2 dark (5)"])
    expect(page.locator("#gallery .taught")).to_have_count(10)


def test_results_that_were_kept_are_not_taught_and_it_is_said_why(page):
    classify(page, export(THREE))
    expect(page.locator("#kept-text")).to_contain_text("kept on this computer")
    show_kept(page)
    page.locator("#teach summary").click()
    expect(page.locator("#teach-impossible")).to_contain_text("kept without the image files")
    assert not page.is_visible("#teach-learn")
    page.click("#start-over")
    classify(page, export(THREE))
    expect(page.locator("#teach-learn")).to_be_visible()
    assert not page.is_visible("#teach-impossible")


def test_privately_it_is_said_how_to_compare_and_to_teach(page):
    page.check("#private-switch")
    expect(page.locator("#private-status")).to_contain_text("test cells")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    classify(page, export(THREE))
    text = page.locator("#comparison-text")
    expect(text).to_contain_text("turn that off and show these results again")
    page.locator("#teach summary").click()
    expect(page.locator("#teach-impossible")).to_contain_text("Turn that off and classify the cells again")
    page.locator("#roles summary").click()
    field(page, "Condition", THREE[0]).fill("mine")
    page.keyboard.press("Enter")
    expect(page.locator("#roles-summary")).to_contain_text("mine (1)")
    expect(page.locator("#kept-text")).to_contain_text("kept on this computer")
    assert sent == []
    page.uncheck("#private-switch")
    page.click("#show-kept")
    expect(text).to_have_text("9 samples compared.")
    expect(page.locator("#roles-summary")).to_contain_text("mine (1)")
    assert [url.split("/")[-1].split("?")[0] for url in sent] == ["compare"]


def test_a_plate_map_dropped_before_or_during_a_run_ends_nothing(page):
    table = "sample,condition\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(THREE))
    page.set_input_files("#files", export(THREE))
    expect(page.locator("#plan")).to_be_visible()
    drop(page, table)
    expect(page.locator("#map-summary")).to_contain_text("plate map of 9 wells or samples")
    expect(page.locator("#upload-summary")).to_contain_text(f"{CELLS} images")
    page.click("#start")
    expect(page.locator("#roles-summary")).to_contain_text("b (4) and a (5)")
    page.click("#start-over")

    held = []

    def hold(route):
        held.append(route)

    page.route("**/classify_batch*", hold)
    page.set_input_files("#files", export(THREE))
    page.click("#start")
    expect(page.locator("#cancel")).to_be_visible()
    drop(page, table.replace(",a", ",c"))
    expect(page.locator("#progress-text")).to_contain_text("will be used once the cells are classified")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    expect(page.locator("#roles-summary")).to_contain_text("b (4) and c (5)")


def test_a_plate_map_without_cells_or_for_one_sample_says_what_it_is_for(page):
    page.set_input_files("#files", [plate_map("sample,condition\nx,a\n")])
    expect(page.locator("#map-summary")).to_contain_text("Choose it together with the images")
    page.click("#choose-others")
    page.set_input_files("#files", export(THREE[:1]))
    page.click("#start")
    expect(page.locator("#samples > *")).to_have_count(1)
    drop(page, "sample,condition\nx,a\n")
    expect(page.locator("#progress-text")).to_contain_text("less than two samples")
    expect(page.locator("#samples > *")).to_have_count(1)


def test_charts_of_the_run_before_do_not_stand_under_another(page):
    classify(page, export(THREE))
    compared(page, 9)
    page.click("#start-over")
    page.route("**/compare*", lambda _route: None)
    classify(page, export(THREE[:6]))
    expect(page.locator("#comparison-text")).to_have_text("Comparing …")
    assert page.locator("#comparison > *").count() == 0
    assert not page.is_visible("#save-samples")


def test_the_labelling_mode_fits_a_telephone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    classify(page, export(THREE[:2]))
    page.locator("#teach summary").click()
    label(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
