"""Cultures compared on the page, in a real browser."""

import io
import json
import re
import zipfile

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support import comparisons
from tests.support.bundles import CLASSES
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn

pytestmark = pytest.mark.slow

CELLS = [tiff(typical(seed, level=700)) for seed in range(12)]
THREE = [f"{condition}_r{number}" for condition in ("control", "CHIR", "NT3") for number in (1, 2, 3)]
DAYS = [f"{condition}_d{day}_r{number}" for condition in ("control", "CHIR") for day in (1, 3) for number in (1, 2)]


def export(samples, cells=2):
    """Return an upload of a folder for each sample."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, sample in enumerate(samples):
            for i in range(cells):
                archive.writestr(f"{sample}/a_1d1_{i}_Ch1.ome.tif", CELLS[(5 * place + i) % len(CELLS)])
    return {"name": "cells.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}


def plate_map(text, name="plate.csv"):
    return {"name": name, "mimeType": "text/csv", "buffer": text.encode()}


@pytest.fixture
def asked(page):
    """Answer /compare in the form of the service; the requests that came."""
    requests = []

    def reply(route):
        requests.append(route.request.post_data_json)
        if "format=csv" in route.request.url:
            route.fulfill(body="\ufeffcondition\n", headers={"Content-Type": "text/csv"})
        else:
            route.fulfill(json=comparisons.answer(requests[-1]))

    page.route("**/compare?*", reply)
    return requests


def classify(page, *files):
    page.set_input_files("#files", list(files))
    page.click("#start")
    page.wait_for_selector("#compare:not([hidden])", timeout=180_000)


def field(page, role, sample):
    return page.get_by_label(f"{role} of {sample}", exact=True)


def compared(page, count):
    expect(page.locator("#comparison-text")).to_have_text(f"{count} samples compared.")


def test_replicates_are_read_from_names_and_the_answer_is_shown(page, asked):
    classify(page, export(THREE))
    compared(page, 9)
    [request] = asked
    assert (request["task"], request["reference"]) == ("multiclass", "control")
    sent = {sample["sample"]: sample for sample in request["samples"]}
    assert {name: (each["condition"], each["replicate"]) for name, each in sent.items()} == {
        name: tuple(name.split("_r")) for name in THREE
    }
    for each in sent.values():
        assert each["cells"] == sum(each["called"].values()) == 2
        assert sum(each["mean"].values()) == pytest.approx(1, abs=1e-5)
        assert set(each["shares"]) == set(CLASSES)
    summary = "Roles of the samples: 9 samples in 3 conditions: CHIR (3), NT3 (3) and control (3)"
    expect(page.locator("#roles-summary")).to_have_text(summary)
    assert page.locator("#comparison article h3").all_inner_texts() == ["CHIR against control", "NT3 against control"]
    shown = page.inner_text("#comparison [data-condition=CHIR]")
    for difference in comparisons.answer(request)["differences"]:
        assert difference["condition"] != "CHIR" or difference["sentence"] in shown
    assert "p = " in shown
    assert "3 replicates of CHIR, 3 of control" in shown
    assert "These are 8 comparisons." in page.inner_text("#comparison")
    # Every replicate is a dot, the reference is the first row.
    chart = page.locator("#comparison figure[data-class=NT3] svg").first
    assert chart.locator("circle").count() == 9
    assert chart.locator("title").first.text_content().startswith("Share of NT3 in each sample. control: ")


def test_another_reference_is_asked_for_and_an_older_answer_does_not_replace_a_newer_one(page, asked):
    classify(page, export(THREE))
    compared(page, 9)
    held = []

    def hold(route):
        if route.request.post_data_json["reference"] == "NT3":
            held.append(route)
        else:
            route.fallback()

    page.route("**/compare?*", hold)
    page.select_option("#reference", "NT3")
    expect(page.locator("#comparison-text")).to_have_text("Comparing …")
    page.select_option("#reference", "CHIR")
    expect(page.locator("#comparison article h3").first).to_have_text("NT3 against CHIR")
    assert asked[-1]["reference"] == "CHIR"
    [late] = held
    late.fulfill(json=comparisons.answer(late.request.post_data_json))
    page.wait_for_timeout(300)
    assert page.locator("#comparison article h3").first.inner_text() == "NT3 against CHIR"


def test_by_the_keyboard_alone_samples_get_conditions(page, asked):
    classify(page, export(["run_1", "run_2", "run_3"]))
    expect(page.locator("#comparison-text")).to_contain_text("Nothing to compare yet")
    assert "run_1, run_2 and run_3 are not compared: no condition is given." in page.inner_text("#comparison-notes")
    assert asked == []
    page.focus("#roles-summary")
    page.keyboard.press("Tab")  # to the table, which scrolls
    page.keyboard.press("Tab")
    expect(field(page, "Condition", "run_1")).to_be_focused()
    for condition in ("A", "a", "B"):
        page.keyboard.type(condition)
        page.keyboard.press("Enter")
    compared(page, 3)
    expect(field(page, "Condition", "run_2")).to_have_value("A")
    assert [sample["condition"] for sample in asked[-1]["samples"]] == ["A", "A", "B"]
    # To the right, and back up.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(field(page, "Day", "run_3")).to_be_focused()
    page.keyboard.type("monday")
    page.keyboard.press("ArrowUp")
    expect(field(page, "Day", "run_2")).to_be_focused()
    expect(field(page, "Day", "run_3")).to_have_attribute("aria-invalid", "true")
    page.keyboard.type("48 h")
    page.keyboard.press("ArrowUp")
    expect(field(page, "Day", "run_2")).to_have_value("2")
    expect(page.locator("#comparison-text")).to_have_text("3 samples compared.")
    page.wait_for_timeout(500)
    assert [sample["day"] for sample in asked[-1]["samples"]] == [None, 2, None]


def test_cells_of_a_spreadsheet_are_pasted(page, asked):
    classify(page, export(["run_1", "run_2", "run_3"]))
    field(page, "Condition", "run_1").focus()
    page.evaluate(
        """() => {
            const clipboardData = new DataTransfer();
            clipboardData.setData("text/plain", "A\\t1\\t3\\r\\nA\\t2\\t3\\r\\nB\\t1\\t3\\r\\nC\\t1\\t3\\r\\n");
            const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
            document.activeElement.dispatchEvent(event);
        }"""
    )
    compared(page, 3)
    sent = [(each["condition"], each["replicate"], each["day"]) for each in asked[-1]["samples"]]
    assert sent == [("A", "1", 3), ("A", "2", 3), ("B", "1", 3)]


def test_a_plate_map_comes_with_the_images_or_later(page, asked):
    first = plate_map("well;condition;dose (µM)\nA1;DMSO;0\nB02;drug;2,5\n")
    page.set_input_files("#files", [export(["x_A01", "x_B2", "x_C3"]), first])
    expect(page.locator("#map-summary")).to_have_text(
        "plate.csv is a plate map of 2 wells or samples: their cultures can be compared. It is not sent."
    )
    assert page.inner_text("#rejected") == ""
    page.click("#start")
    page.wait_for_selector("#compare:not([hidden])", timeout=180_000)
    compared(page, 3)
    sent = {each["sample"]: (each["condition"], each["dose"]) for each in asked[-1]["samples"]}
    assert sent == {"x_A01": ("DMSO", 0), "x_B2": ("drug", 2.5), "x_C3": ("x_C3", None)}
    assert asked[-1]["dose_unit"] == "µM"
    expect(page.locator("#map-problems")).to_contain_text("plate.csv: 1 sample not found in it")

    page.set_input_files("#map-file", plate_map("sample,group,day\nx_A01,a,1\nx_B2,b,soon\nx_C3,b,1\n", "b.csv"))
    expect(page.locator("#roles-summary")).to_contain_text("2 conditions: a (1) and b (2)")
    expect(page.locator("#map-problems")).to_have_text(
        "b.csv: line 3: the day 'soon' is not a number; write days as 3 or 3.5."
    )
    page.set_input_files("#map-file", plate_map("a,b\n1,2\n"))
    expect(page.locator("#map-problems")).to_contain_text("names neither a column 'well' nor 'sample'")
    expect(page.locator("#roles-summary")).to_contain_text("2 conditions: a (1) and b (2)")
    page.click("#roles-from-names")
    expect(page.locator("#roles-summary")).to_contain_text("3 conditions: x_A01 (1), x_B2 (1) and x_C3 (1)")


def test_a_plate_map_that_is_dropped_on_results_keeps_them(page, asked):
    classify(page, export(["x_A1", "x_B1"]))
    compared(page, 2)
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["well,condition\\nA1,left\\nB1,right\\n"], "map.csv"));
            return transfer;
        }"""
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#roles-summary")).to_contain_text("2 conditions: left (1) and right (1)")
    compared(page, 2)
    assert [each["condition"] for each in asked[-1]["samples"]] == ["left", "right"]
    assert page.locator("#samples > *").count() == 2


@pytest.mark.usefixtures("asked")
def test_a_single_replicate_has_no_p_value_but_the_reason_why_not(page):
    classify(page, export(["control_r1", "CHIR_r1"]))
    compared(page, 2)
    shown = page.inner_text("#comparison")
    assert "CHIR has a single replicate: what differs between cultures of it is unknown." in shown
    assert shown.count("single replicate") == 1
    assert "p = " not in shown
    assert "(no interval)" in page.locator("#comparison figure svg").nth(1).text_content()


@pytest.mark.usefixtures("asked")
def test_days_are_curves_and_charts_of_their_own(page):
    classify(page, export(DAYS))
    compared(page, 8)
    assert page.locator("#comparison details.day summary").all_inner_texts() == ["Day 1", "Day 3"]
    assert page.locator("#comparison details.day[open] figure").count() == len(CLASSES)
    assert [text.strip() for text in page.locator(".keys li").all_inner_texts()] == ["control", "CHIR"]
    title = page.locator(".curves svg title").first.text_content()
    assert re.match(rf"Share of {CLASSES[0]} by day\. .*control: \d+% at 1, \d+% at 3", title)
    assert page.locator(".curves figure").first.locator("polyline").count() == 2


@pytest.mark.usefixtures("asked")
def test_days_of_one_culture_are_curves_without_a_condition(page):
    classify(page, export(["day1", "day3"]))
    compared(page, 2)
    assert page.locator(".curves figure").count() == len(CLASSES)
    assert page.locator("#comparison article").count() == 0
    assert page.locator(".figures figure").count() == 0, "days are not thrown together"


def test_conditions_of_other_days_are_not_compared(page, asked):
    classify(page, export(["control_d1", "CHIR_d3"]))
    compared(page, 2)
    assert asked[-1]["reference"] == "control"
    expect(page.locator("#comparison")).to_contain_text("No condition was recorded on the same day")


def test_what_is_taken_away(page, asked):
    classify(page, export(["control_d1_r1", "CHIR_5uM_d1_r1"]))
    compared(page, 2)
    with page.expect_download() as saved:
        page.click("#save-differences")
    assert saved.value.suggested_filename == "fatescope-multiclass-differences.csv"
    assert asked[-1] == asked[-2], "the same comparison, as CSV"
    with page.expect_download() as saved:
        page.click("#save-samples")
    table = pd.read_csv(saved.value.path(), encoding="utf-8-sig")
    assert table["dose (µM)"].tolist()[0] == 5
    assert table["sample"].tolist() == ["CHIR_5uM_d1_r1", "control_d1_r1"]
    bodies = []

    def export_files(route):
        bodies.append(json.loads(route.request.post_data))
        route.fulfill(body="", headers={"Content-Type": "text/csv"})

    page.route("**/export?*", export_files)
    with page.expect_download():
        page.click("[data-format=fcs]")
    roles = {each["sample"]: each["roles"] for each in bodies[0]["samples"]}
    assert roles["CHIR_5uM_d1_r1"] == {"condition": "CHIR", "replicate": "1", "day": 1, "dose": 5, "donor": None}


@pytest.mark.usefixtures("asked")
def test_the_report_has_the_comparison_on_a_second_page(page):
    classify(page, export(THREE))
    compared(page, 9)
    page.evaluate("window.print = () => {}")
    page.click("#print")
    told = page.text_content("#report")
    assert "Fatescope: comparison of cultures" in told
    assert "CHIR_r1, CHIR_r2 and CHIR_r3" in told
    assert "Conditions are compared by their replicates" in told
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 2


def test_an_error_is_told_and_one_sample_is_not_compared(page):
    body = {"error": {"code": "unknown_version", "message": "this version is not served any more", "file": None}}
    page.route("**/compare?*", lambda route: route.fulfill(status=409, json=body))
    classify(page, export(["control_r1", "CHIR_r1"]))
    expect(page.locator("#comparison-text")).to_have_text(
        "The comparison could not be computed: this version is not served any more"
    )
    assert not page.is_visible("#comparison-exports")
    page.click("#start-over")
    assert not page.is_visible("#compare")
    page.set_input_files("#files", export(["control_r1"]))
    page.click("#start")
    wait_until_drawn(page)
    assert not page.is_visible("#compare")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("asked")
def test_nothing_keeps_anyone_out(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    classify(page, export(DAYS))
    compared(page, 8)
    found = [Axe().run(page, context="#compare")]
    page.click("#roles-summary")
    field(page, "Day", "CHIR_d1_r1").fill("soon")
    page.keyboard.press("Tab")
    compared(page, 8)
    found.append(Axe().run(page, context="#compare"))
    assert [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for state in found
        for each in state.response["violations"]
    ] == []


@pytest.mark.parametrize("width", [820, 390])
@pytest.mark.usefixtures("asked")
def test_a_tablet_and_a_telephone_show_everything_without_scrolling_sideways(page, width):
    classify(page, export(THREE))
    compared(page, 9)
    page.set_viewport_size({"width": width, "height": 1180})
    page.click("#roles-summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Where the differences stand below the shares, their rows have names too.
    rows = page.locator("#comparison figure").first.locator("svg").nth(1)
    expect(rows.get_by_text("CHIR", exact=True)).to_have_count(1 if width == 390 else 0)
