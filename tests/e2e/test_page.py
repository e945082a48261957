"""What a biologist does on the page, in a real browser."""

import base64
import hashlib
import io
import json
import re
import shutil
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fcsparser
import httpx
import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from pipelines.commands import import_data
from tests.support.accessibility import serious
from tests.support.bundles import CLASSES
from tests.support.images import tiff, typical
from tests.support.pages import wait_until_drawn
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow


def cell(seed, level=700):
    return tiff(typical(seed, level=level))


EXPORT = {f"run_{run}/a_1d{run}_{i}_Ch1.ome.tif": cell(10 * run + i) for run in (1, 2) for i in range(12)}


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return {"name": "cells.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}


def classify(page, files):
    page.set_input_files("#files", files)
    page.click("#start")
    wait_until_drawn(page)


def test_before_anything_is_sent_it_says_what_it_will_read(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    others = {f"run_1/a_1d1_{i}_Ch4.ome.tif": cell(i) for i in range(3)}
    junk = {"run_1/notes.txt": b"fed on monday", "run_1/.DS_Store": b"", "run_2/a_1d2_99_Ch1.ome.tif": b""}
    page.set_input_files("#files", packed({**EXPORT, **others, **junk}))
    summary = "24 images in 2 samples will be sent to this service and classified."
    expect(page.locator("#upload-summary")).to_have_text(summary)
    told = page.inner_text("#rejected")
    assert "5 files will not be sent" in told
    assert "3 files, for example run_1/a_1d1_0_Ch4.ome.tif: channel 4; the model uses channel 1 only." in told
    assert "\nrun_1/notes.txt: not an image" in told
    assert "\nrun_2/a_1d2_99_Ch1.ome.tif: the file is empty" in told
    page.click("#choose-others")
    assert page.is_visible("#drop")
    assert sent == []


def test_files_stay_chosen_where_another_model_is(page):
    page.set_input_files("#files", packed(EXPORT))
    summary = page.locator("#upload-summary")
    expect(summary).to_contain_text("24 images")
    page.evaluate("document.querySelector('#upload-summary').textContent = ''")
    page.focus("#task")
    page.select_option("#task", "binary")
    expect(summary).to_contain_text("24 images in 2 samples will be sent")
    expect(page.locator("#task")).to_be_focused()
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("24 cells")
    page.select_option("#task", "multiclass")
    expect(page.locator("#drop")).to_be_visible()
    expect(page.locator("#cells")).to_be_hidden()


def test_files_are_taken_where_they_are_dropped(page):
    content = base64.b64encode(cell(1)).decode()
    transfer = page.evaluate_handle(
        """(content) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
            for (const i of [1, 2, 3]) transfer.items.add(new File([bytes], `a_1d1_${i}_Ch1.ome.tif`));
            return transfer;
        }""",
        content,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#upload-summary")).to_contain_text("3 images in 1 sample will be sent")
    page.click("#start")
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("3 cells")


def test_a_zip_that_cannot_be_opened_says_how_to_pack_it(page):
    page.set_input_files("#files", {"name": "cells.zip", "mimeType": "application/zip", "buffer": b"PK no zip at all"})
    expect(page.locator("#rejected")).to_contain_text("this zip cannot be opened; create it again or drop the folder")
    assert not page.is_visible("#start")


def test_the_culture_and_its_cells(page, service):
    classify(page, packed(EXPORT))
    names = page.eval_on_selector_all(".sample", "all => all.map((each) => each.dataset.sample)")
    assert names == ["run_1", "run_2"]
    said = page.inner_text(".sample[data-sample=run_1] .sentence")
    assert re.match(r"run_1: about \d+% \S+ \(95% interval \d+\u2013\d+%\)", said)
    # The same as a program gets for the same cells.
    zipped = packed({name: raw for name, raw in EXPORT.items() if "run_1" in name})["buffer"]
    answer = service.post("/classify_batch", content=zipped).json()
    unlike = answer["sample"]["unlike_training"]
    assert f"{unlike} unlike the training cells" in page.inner_text(".sample[data-sample=run_1] .counts")
    title = page.text_content(".sample[data-sample=run_1] svg title")
    for name, each in answer["sample"]["composition"].items():
        assert f"{name} {round(100 * each['share'])}%" in title
    assert page.inner_text("#cell-count") == "24 cells"
    page.select_option("#by-sample", "run_2")
    assert page.inner_text("#cell-count") == "12 cells"
    page.select_option("#order", "odd")
    label = page.get_attribute("#cell-0", "aria-label").split(",")[0]
    page.select_option("#by-class", label)
    shown = page.eval_on_selector_all(".cell", "all => all.map((each) => each.ariaLabel.split(',')[0])")
    assert set(shown) == {label}


def test_a_sample_of_unlike_cells_is_not_called_anything(page):
    noise = [tiff(np.random.default_rng(seed).integers(0, 4000, (45, 60), np.uint16)) for seed in range(4)]
    classify(page, packed({f"debris/{i}.tif": raw for i, raw in enumerate([*noise, cell(1)])}))
    said = page.inner_text(".sample .sentence")
    assert said == "debris: no composition is given, because 4 of 5 cells are unlike the training cells."
    assert page.query_selector(".sample svg") is None


def test_a_cell_shows_its_probabilities_and_where_the_network_looked(page):
    classify(page, packed(EXPORT))
    page.hover("#cell-2")
    page.wait_for_selector(".cell-image .map")
    assert page.eval_on_selector(".cell-image .map", "map => map.decode().then(() => map.naturalWidth)") == 60
    assert len(page.query_selector_all("#detail meter")) == len(CLASSES)
    # And by the keyboard alone.
    page.focus("#gallery")
    for key in ("Home", "ArrowRight", "End"):
        page.keyboard.press(key)
    assert page.get_attribute("#gallery", "aria-activedescendant") == "cell-23"
    chosen = page.get_attribute("#cell-23", "aria-label").split(", ")[-1]
    assert chosen in page.inner_text("#detail .path")


def test_a_folder_is_read_as_its_samples_and_bad_images_say_why(page, tmp_path):
    for name, raw in {**EXPORT, "run_1/a_1d1_77_Ch1.ome.tif": cell(1)[:-60], "run_1/b.png": b"no image"}.items():
        (tmp_path / "export" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "export" / name).write_bytes(raw)
    page.set_input_files("#folder", tmp_path / "export")
    expect(page.locator("#upload-summary")).to_contain_text("26 images in 2 samples")
    page.click("#start")
    wait_until_drawn(page)
    assert len(page.query_selector_all(".sample")) == 2
    page.click("#unreadable summary")
    told = page.inner_text("#unreadable")
    assert "2 images could not be read" in told
    assert "a_1d1_77_Ch1.ome.tif: the header is intact but the pixels cannot be decoded" in told
    assert "export the file again" in told
    assert "b.png: not an image" in told


def test_where_nothing_can_be_read_the_reasons_are_there_and_no_empty_gallery(page):
    classify(page, packed({"run_1/a.tif": b"x" * 100, "run_1/b.tif": cell(1)[:-60]}))
    assert "None of these 2 images could be read" in page.inner_text("#samples")
    told = page.inner_text("#unreadable ul")
    assert "run_1/a.tif: not an image" in told
    assert "run_1/b.tif: the header is intact but the pixels cannot be decoded" in told
    assert not page.is_visible("#gallery")
    assert not page.is_visible("#filters")
    page.click("#start-over")
    classify(page, packed(many(3)))
    expect(page.locator("#cell-count")).to_have_text("3 cells")
    assert page.is_visible("#gallery")
    assert not page.is_visible("#unreadable")


def test_two_zips_with_the_same_names_are_two_samples_and_corrections_reach_their_own_image(page, service):
    days = {day: [cell(10 * number + i) for i in range(3)] for number, day in enumerate(("day1", "day3"))}
    zips = [
        packed({f"a_1d1_{i}_Ch1.ome.tif": raw for i, raw in enumerate(cells)}) | {"name": f"{day}.zip"}
        for day, cells in days.items()
    ]
    corrections = []

    def keep(route):
        corrections.append(route.request.post_data_buffer)
        route.fulfill(json={"sha256": "", "kept": True, "reason": None})

    page.route("**/feedback*", keep)
    page.set_input_files("#files", zips)
    expect(page.locator("#upload-summary")).to_contain_text("6 images in 2 samples will be sent")
    page.click("#start")
    wait_until_drawn(page)
    assert page.inner_text("#progress-text") == "6 of 6 images processed."
    assert page.eval_on_selector_all(".sample", "all => all.map((each) => each.dataset.sample)") == ["day1", "day3"]
    maps = []
    for day, cells in days.items():
        page.select_option("#by-sample", day)
        expect(page.locator("#cell-count")).to_have_text("3 cells")
        page.hover("#cell-1")
        page.wait_for_selector(".cell-image .map")
        path = page.inner_text("#detail .path")
        name, number = re.match(r"(.*\.tif), object (\d)", path).groups()
        assert name == f"{day}/a_1d1_{number}_Ch1.ome.tif"
        raw = cells[int(number)]
        answer = service.post("/classify?explain=true", files={"image": ("a_1d1_0_Ch1.ome.tif", raw)}).json()
        assert page.inner_text("#detail h3") == answer["label"]
        shown = page.get_attribute(".cell-image .map", "src")
        assert shown == f"data:image/png;base64,{answer['activation_map']['png']}"
        page.set_checked("#detail input[type=checkbox]", True)
        page.click("#detail form button")
        expect(page.locator("#detail form [role=status]")).to_contain_text("Recorded as", timeout=90_000)
        assert raw in corrections[-1]
        maps.append(shown)
    assert maps[0] != maps[1]
    table = pd.read_csv(downloaded(page, "csv"))
    assert table.groupby("sample").size().to_dict() == {"day1": 3, "day3": 3}
    with page.expect_download() as found:
        page.click("[data-format=fcs]")
    assert found.value.suggested_filename == "fatescope-multiclass.zip"
    with zipfile.ZipFile(found.value.path()) as files:
        assert sorted(files.namelist()) == ["day1.fcs", "day3.fcs"]


def downloaded(page, form):
    with page.expect_download() as found:
        page.click(f"[data-format={form}]")
    return found.value.path()


@pytest.mark.filterwarnings("ignore")  # of the reader of FCS, which is older than its parts
def test_what_is_taken_away(page, tmp_path):
    classify(page, packed({**EXPORT, "run_1/bad.tif": b"x" * 100}))
    table = pd.read_csv(downloaded(page, "csv"))
    assert len(table) == 25
    assert table["error"].dropna().tolist() == ["not_an_image"]
    assert set(table["label"].dropna()) <= set(CLASSES)
    # A file for each sample.
    with zipfile.ZipFile(downloaded(page, "fcs")) as files:
        assert sorted(files.namelist()) == ["run_1.fcs", "run_2.fcs"]
        files.extractall(tmp_path)
    read = [fcsparser.parse(tmp_path / f"run_{run}.fcs", reformat_meta=True) for run in (1, 2)]
    about, events = read[0][0], pd.concat([each for _, each in read]).sort_values("event")
    assert [len(each) for _, each in read] == [12, 12]
    assert table["sample"][events["event"].astype(int)].tolist() == ["run_1"] * 12 + ["run_2"] * 12
    by_file = table[table["label"].notna()].reset_index(drop=True)
    for name in CLASSES:
        np.testing.assert_allclose(events[f"p_{name}"], by_file[f"p_{name}"], atol=1e-5)
    assert set(json.loads(about["FATESCOPE_COMPOSITION"])) == set(CLASSES)


def test_the_report_fits_one_page(page):
    classify(page, packed(EXPORT))
    page.evaluate("window.print = () => {}")
    page.click("#print")
    told = page.text_content("#report")
    assert "fatescope-multiclass, version" in told
    assert "24 classified, 0 could not be read" in told
    assert "trained on simulated cells" in told
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 1


POOL = [cell(seed) for seed in range(7)]


def many(count):
    return {f"run_1/a_1d1_{i}_Ch1.ome.tif": POOL[i % 7] for i in range(count)}


def test_it_can_be_cancelled_and_shows_what_there_is(page):
    held = []

    def hold(route):
        if len(held) < 2:
            held.append(route)
            route.continue_()
        # The others are never answered.

    page.route("**/classify_batch*", hold)
    page.set_input_files("#files", packed(many(450)))
    page.click("#start")
    expect(page.locator("#progress-text")).to_contain_text("200 of 450", timeout=90_000)
    page.click("#cancel")
    wait_until_drawn(page)
    assert "200 of 450 images processed" in page.inner_text("#progress-text")
    assert "Cancelled" in page.inner_text("#progress-text")
    expect(page.locator("#cell-count")).to_have_text("200 cells", timeout=90_000)
    page.unroute("**/classify_batch*")
    page.click("#retry")
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("450 cells", timeout=90_000)


def test_a_chunk_that_fails_is_tried_again_and_costs_no_other(page):
    failures = iter([503, "abort", 429])

    def fail(route):
        what = next(failures, None)
        if what is None:
            route.continue_()
        elif what == "abort":
            route.abort()
        else:
            body = json.dumps({"error": {"code": "overloaded", "message": "busy", "file": None}})
            route.fulfill(status=what, body=body, headers={"Retry-After": "1", "Content-Type": "application/json"})

    page.route("**/classify_batch*", fail)
    classify(page, packed(many(250)))
    expect(page.locator("#cell-count")).to_have_text("250 cells", timeout=90_000)
    assert not page.is_visible("#retry")


def test_one_that_is_refused_is_told_and_the_rest_is_there(page):
    def refuse(route):
        if b"a_1d1_0_Ch1" in (route.request.post_data_buffer or b""):
            body = json.dumps(
                {"error": {"code": "body_too_large", "message": "the body has too many bytes", "file": None}}
            )
            route.fulfill(status=413, body=body, headers={"Content-Type": "application/json"})
        else:
            route.continue_()

    page.route("**/classify_batch*", refuse)
    classify(page, packed(many(250)))
    told = page.inner_text("#progress-text")
    assert "150 of 250 images processed" in told
    assert "100 images could not be sent: the body has too many bytes." in told
    assert page.is_visible("#retry")


def test_offline_it_waits_and_goes_on(page, context):
    answered = []
    page.on("response", lambda response: answered.append(response.url) if "classify_batch" in response.url else None)
    page.set_input_files("#files", packed(many(250)))
    context.set_offline(True)
    page.click("#start")
    expect(page.locator("#progress-text")).to_contain_text("You are offline", timeout=90_000)
    assert answered == []
    context.set_offline(False)
    wait_until_drawn(page)
    expect(page.locator("#cell-count")).to_have_text("250 cells", timeout=90_000)


def test_another_lamp_is_told_in_plain_words_with_pictures(page):
    classify(page, packed(EXPORT))
    page.wait_for_selector(".sample")
    assert not page.is_visible("#drift")
    page.click("#start-over")
    classify(page, packed({f"a_1d1_{i}_Ch1.ome.tif": cell(i, level=1500) for i in range(20)}))
    page.wait_for_selector("#drift")
    told = page.inner_text("#drift")
    assert "These images differ from the training images" in told
    values = r"typically 1,5\d0 here, (700|69\d|70\d) in the training images"
    assert re.search(f"brightness of the background: {values}", told)
    assert page.query_selector("#drift svg")
    assert len(page.query_selector_all("#drift .strip img")) >= 6


def test_corrections_become_data_where_the_person_lets_them(page, service, tmp_path, params):
    folder = service.folder / "feedback"
    classify(page, packed(EXPORT))
    for number, (label, keep) in enumerate([("oligodendrocyte", True), ("NT3", False)]):
        page.hover(f"#cell-{number}")
        page.select_option("#detail select", label)
        # Results that come in while the form is filled in draw the gallery again.
        page.evaluate("document.getElementById('order').dispatchEvent(new Event('change'))")
        # A scrolled page has another cell below a pointer that rests.
        page.evaluate("window.scrollBy(0, 120)")
        page.wait_for_timeout(300)
        expect(page.locator("#detail select")).to_have_value(label)
        page.set_checked("#detail input[type=checkbox]", keep)
        page.click("#detail form button")
        expect(page.locator("#detail form [role=status]")).to_contain_text("Recorded as", timeout=90_000)
    lines = [json.loads(line) for line in (folder / "corrections.jsonl").read_text().splitlines()]
    assert [each["label"] for each in lines] == ["oligodendrocyte", "NT3"]
    assert {each["model"] for each in lines} == {"fatescope-multiclass"}
    assert lines[1]["path"] is None
    kept = list(folder.rglob("*.tif"))
    assert [str(path.relative_to(folder)) for path in kept] == [lines[0]["path"]]
    assert kept[0].name.startswith("o_1d")
    found = import_data.import_export(params.dataset, folder, tmp_path / "data")
    assert {label for label, _ in found.cells} == {"oligodendrocyte"}
    assert not found.unmatched


def test_one_click_shows_an_answer(page):
    page.click("#try-example")
    wait_until_drawn(page)
    assert page.inner_text("#progress-text").startswith("4 of 4 images processed")
    assert page.is_visible("text=Research use only")
    assert page.is_visible("text=Trained on simulated cells")
    assert page.is_visible("text=Its results for real cells have no meaning")
    assert page.get_attribute("#card", "href") == "card/multiclass"


def test_with_keys_it_asks_for_one(browser, service, tmp_path):
    shutil.copytree(service.folder / "bundles", tmp_path / "bundles")
    styled = "<!doctype html><style>h1 {color: rgb(1, 2, 3)}</style><h1>The card of a test</h1>"
    (tmp_path / "bundles" / "multiclass" / "card.html").write_text(styled)
    settings = {
        "FATESCOPE_BUNDLES": str(tmp_path / "bundles"),
        "FATESCOPE_API_KEYS": hashlib.sha256(b"open sesame").hexdigest(),
    }
    with serving(tmp_path, ROOT, settings) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        page.fill("#secret", "wrong")
        page.click("#key button")
        expect(page.locator("#key label")).to_contain_text("did not accept this API key")
        page.fill("#secret", "open sesame")
        page.click("#key button")
        page.wait_for_selector("#task option", state="attached")
        classify(page, packed(EXPORT))
        assert len(page.query_selector_all(".sample")) == 2
        # A browser sends no key with a link.
        with page.expect_popup() as opened:
            page.click("#card")
        card = opened.value
        expect(card.locator("h1")).to_have_text("The card of a test")
        assert card.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
        page.close()


@contextmanager
def behind(prefix, service):
    """Yield the address of a proxy that has `service` below a prefix, which it removes."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix)
            kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            response = httpx.request(self.command, service.base_url.join(path), headers=kept, content=content)
            self.send_response(response.status_code)
            for name in ("content-type", "content-security-policy"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("content-length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_POST = do_GET  # noqa: N815  as the base class names it

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{prefix}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_behind_a_prefix_the_page_and_the_documentation_reach_the_service(context, service):
    with behind("/lab/cells", service) as address:
        page = context.new_page()
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(f"{address}/")
        page.wait_for_selector("#task option", state="attached")
        page.click("#try-example")
        wait_until_drawn(page)
        page.goto(f"{address}/docs")
        page.click("#operations-models-list_models_models_get button")
        page.click("text=Try it out")
        with page.expect_response("**/models") as answered:
            page.click("button.execute")
        assert answered.value.url == f"{address}/models"
        assert answered.value.status == 200
        assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_out(page, scheme):
    # Without motion: colours that are still turning from light to dark are no colours of the page.
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = [Axe().run(page)]
    page.set_input_files("#files", packed({**EXPORT, "notes.txt": b"x", "bad.tif": b"y" * 100}))
    found.append(Axe().run(page))
    page.click("#start")
    wait_until_drawn(page)
    page.hover("#cell-0")
    page.wait_for_selector(".cell-image .map")
    found.append(Axe().run(page))
    assert serious(*found) == []


def test_nothing_of_an_earlier_upload_is_left(page):
    classify(page, packed(EXPORT))
    page.hover("#cell-2")
    page.wait_for_selector("#detail form")
    page.click("#start-over")
    classify(page, packed(many(3)))
    assert page.inner_text("#detail").startswith("Select a cell")
    assert page.get_attribute("#gallery", "aria-activedescendant") is None


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 390, "height": 844})
    classify(page, packed(EXPORT))
    page.hover("#cell-2")
    page.wait_for_selector("#detail form")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.is_visible("#card")


def test_the_first_paint_stays_where_it_is(context, service):
    page = context.new_page()
    page.add_init_script(
        "window.shift = 0; new PerformanceObserver((list) => list.getEntries().forEach((each) => "
        "window.shift += each.value)).observe({ type: 'layout-shift', buffered: true })"
    )
    page.goto(str(service.base_url))
    page.wait_for_selector("#task option", state="attached")
    page.wait_for_timeout(500)
    assert page.evaluate("window.shift") < 0.02


def shown_numbers(page):
    return page.eval_on_selector_all(".cell", "all => all.map((each) => Number(each.dataset.index))")


@pytest.mark.long
def test_thousands_of_cells_keep_the_document_small(page):
    classify(page, packed(many(5000)))
    expect(page.locator("#cell-count")).to_have_text("5,000 cells", timeout=90_000)
    page.evaluate("document.querySelector('#gallery').scrollTop = 30000")
    end = time.monotonic() + 30
    # It draws when the browser has time to.
    while min(numbers := shown_numbers(page), default=0) <= 1000:
        assert time.monotonic() < end, "it shows what is in sight"
        page.wait_for_timeout(100)
    assert len(numbers) < 150, "and only that"


def test_a_link_asks_for_an_answer_at_once(page, service):
    page.goto("about:blank")
    page.goto(f"{service.base_url}#example")
    wait_until_drawn(page)
    assert page.inner_text(".sample .sentence")
