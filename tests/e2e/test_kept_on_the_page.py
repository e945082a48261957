"""Results that survive a reload, in a real browser."""

import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.test_page import EXPORT, classify, downloaded, packed
from tests.support.accessibility import serious
from tests.support.pages import wait_until

pytestmark = pytest.mark.slow

BAD = {"run_1/bad.tif": b"x" * 100}


def posts(page):
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    return sent


def reload(page):
    page.reload()
    page.wait_for_selector("#task option", state="attached")


def kept(page):
    expect(page.locator("#kept-text")).to_contain_text("kept on this computer, in this browser alone, for 30 days")


def shoot(page, name):
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def shown(page):
    return {
        "samples": page.locator("#samples").inner_text(),
        "titles": page.eval_on_selector_all(".sample svg title", "all => all.map((title) => title.textContent)"),
        "cells": page.eval_on_selector_all(".cell", "all => all.map((cell) => cell.ariaLabel)"),
        "pictures": page.eval_on_selector_all(".cell img", "all => all.map((image) => image.src)"),
        "unreadable": page.text_content("#unreadable"),
    }


def test_results_survive_a_reload_and_nothing_is_sent_for_that(page):
    classify(page, packed({**EXPORT, **BAD}))
    kept(page)
    assert re.search(r"\([\d.]+ kB of at most 150 MB\)", page.inner_text("#kept-text"))
    before, table = shown(page), downloaded(page, "csv").read_text()
    shoot(page, "kept-note")
    sent = posts(page)
    reload(page)
    expect(page.locator("#kept-summary")).to_contain_text("25 cells in 2 samples, classified by multiclass, version ")
    expect(page.locator("#kept-summary")).to_contain_text("Kept on this computer, in this browser alone")
    shoot(page, "kept-offer")
    page.focus("#show-kept")
    page.keyboard.press("Enter")
    expect(page.locator("#cell-count")).to_have_text("24 cells")
    expect(page.locator("#progress-text")).to_contain_text("25 of 25 files had been answered")
    assert shown(page) == before
    kept(page)
    page.hover("#cell-0")
    expect(page.locator("#detail")).to_contain_text("kept without the image files")
    shoot(page, "kept-again")
    assert [url for url in sent if "classify" in url or "summarise" in url or "explain" in url] == []
    assert downloaded(page, "csv").read_text() == table


def test_a_button_deletes_them(page):
    classify(page, packed(EXPORT))
    kept(page)
    page.click("#delete-kept")
    expect(page.locator("#kept-text")).to_have_text(
        "Deleted from this computer. What you see is gone when you close or reload this page."
    )
    # Drawing them once more does not bring them back.
    page.select_option("#order", "odd")
    page.check("#exclude-outside") if page.is_visible("#exclude-outside") else None
    reload(page)
    page.wait_for_timeout(300)
    assert not page.is_visible("#kept-offer")
    classify(page, packed(EXPORT))
    kept(page)
    reload(page)
    page.click("#forget-kept")
    expect(page.locator("#kept-offer")).to_be_hidden()
    reload(page)
    page.wait_for_timeout(300)
    assert not page.is_visible("#kept-offer")


def test_they_are_offered_where_one_starts_over_until_others_are_classified(page):
    classify(page, packed(EXPORT))
    kept(page)
    page.click("#start-over")
    expect(page.locator("#kept-summary")).to_contain_text("24 cells in 2 samples")
    classify(page, packed({name: raw for name, raw in EXPORT.items() if "run_1" in name}))
    kept(page)
    reload(page)
    expect(page.locator("#kept-summary")).to_contain_text("12 cells in 1 sample")


def test_half_a_run_is_there_after_a_reload(page):
    calls = []

    def hold(route):
        calls.append(route)
        if len(calls) == 1:
            route.continue_()

    page.route("**/classify_batch*", hold)
    page.set_input_files(
        "#files", packed({f"run_1/{i}_{name[6:]}": raw for i in range(9) for name, raw in EXPORT.items()})
    )
    page.click("#start")
    expect(page.locator("#cell-count")).to_have_text("100 cells")
    wait_until(page, "indexedDB.databases().then((all) => all.length)")
    page.wait_for_timeout(500)
    reload(page)
    expect(page.locator("#kept-summary")).to_contain_text("100 cells in 1 sample (100 of 216 files had been answered)")


def test_where_the_browser_refuses_nothing_is_kept_and_that_is_said(context, service):
    page = context.new_page()
    page.add_init_script("IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError'); }")
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(str(service.base_url))
    page.wait_for_selector("#task option", state="attached")
    classify(page, packed(EXPORT))
    expect(page.locator("#kept-text")).to_contain_text("This browser does not let the page keep results")
    assert not page.is_visible("#delete-kept")
    assert wrong == []


def test_a_full_browser_keeps_nothing_rather_than_a_half(context, service):
    page = context.new_page()
    page.add_init_script(
        "const add = IDBObjectStore.prototype.add;"
        "IDBObjectStore.prototype.add = function (...values) {"
        "  const request = add.apply(this, values);"
        "  throw new DOMException('full', 'QuotaExceededError'); }"
    )
    page.goto(str(service.base_url))
    page.wait_for_selector("#task option", state="attached")
    classify(page, packed(EXPORT))
    expect(page.locator("#kept-text")).to_contain_text("the browser has no room for them")
    reload(page)
    page.wait_for_timeout(300)
    assert not page.is_visible("#kept-offer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_out_of_what_is_kept(page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 768, "height": 1024})
    classify(page, packed(EXPORT))
    kept(page)
    found = [Axe().run(page)]
    reload(page)
    page.wait_for_selector("#kept-offer:not([hidden])")
    shoot(page, f"kept-offer-{scheme}")
    found.append(Axe().run(page))
    assert serious(*found) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 768
