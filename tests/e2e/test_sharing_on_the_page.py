"""A result that is shared without images, in a real browser."""

import json
import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.test_page import EXPORT, cell, classify, packed
from tests.support.accessibility import serious
from tests.support.pages import wait_until_drawn

pytestmark = pytest.mark.slow

OTHER_LAMP = {f"day_{run}/a_1d1_{i}_Ch1.ome.tif": cell(i, level=1500) for run in (1, 2, 3) for i in range(10)}


def shoot(page, name):
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def link_of(page):
    page.click("#share")
    expect(page.locator("#share-box")).to_be_visible()
    return page.input_value("#share-link")


def answer(page):
    return (
        # Not the button that describes a culture, which asks the service.
        page.locator("#samples .sample > :not(.description)").all_inner_texts(),
        page.eval_on_selector_all(".sample svg title", "all => all.map((title) => title.textContent)"),
    )


def open_link(context, link):
    """Open a link in a page of its own; return it, and all that it has requested."""
    page, sent = context.new_page(), []

    def note(request):
        sent.append(request)

    page.on("request", note)
    page.goto(link)
    expect(page.locator("#shared")).to_be_visible()
    page.wait_for_selector("#task option", state="attached")
    return page, sent


def test_a_link_shows_the_result_and_nothing_of_it_reaches_the_server(page, browser):
    classify(page, packed({**OTHER_LAMP, "day_1/bad.tif": b"x" * 100}))
    page.wait_for_selector("#drift")
    link = link_of(page)
    shoot(page, "share-box")
    assert len(link) < 4_000
    assert "#result=" in link
    other = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, sent = open_link(other, link)
    assert answer(opened) == answer(page)
    expect(opened.locator("#shared-text")).to_contain_text("30 cells in 3 samples, classified by fatescope-multiclass")
    expect(opened.locator("#shared-text")).to_contain_text("1 image could not be read")
    expect(opened.locator("#shared-simulated")).to_be_visible()
    expect(opened.locator("#drift")).to_contain_text("brightness of the background")
    assert opened.query_selector("#drift svg")
    assert not opened.query_selector("#samples img")
    assert not opened.query_selector(".description")
    for hidden in ("#cells", "#drop", "#exports", "#progress", "#kept-note"):
        assert not opened.is_visible(hidden), hidden
    packed_result = link.split("#result=")[1]
    assert {request.method for request in sent} == {"GET"}
    assert not any(packed_result[:40] in json.dumps([request.url, request.headers]) for request in sent)
    shoot(opened, "shared")
    opened.click("#close-shared")
    assert opened.is_visible("#drop")
    assert "#" not in opened.url
    other.close()


def test_by_the_keyboard_alone_it_is_copied(page, context):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    classify(page, packed(EXPORT))
    page.focus("#share")
    page.keyboard.press("Enter")
    expect(page.locator("#share-link")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#share-status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.input_value("#share-link")


def test_a_link_that_was_cut_says_so(page, service):
    page.goto("about:blank")
    page.goto(f"{service.base_url}#result=abc")
    expect(page.locator("#problem")).to_have_text(
        "This shared result cannot be shown: a part of it is missing or changed. Ask for it once more."
    )
    assert page.is_visible("#drop")


def test_a_link_in_the_same_tab_replaces_what_is_shown(page):
    classify(page, packed(EXPORT))
    link = link_of(page)
    page.click("#start-over")
    classify(page, packed(OTHER_LAMP))
    page.evaluate("(link) => { location.href = link; }", link)
    expect(page.locator("#shared")).to_be_visible()
    expect(page.locator(".sample")).to_have_count(2)
    page.click("#close-shared")
    classify(page, packed(OTHER_LAMP))
    assert page.is_visible("#exports")
    assert not page.is_visible("#shared")


def test_many_samples_become_a_file_that_another_page_opens(page, context, service, tmp_path):
    classify(page, packed(EXPORT))
    page.evaluate(
        "async () => { const { state } = await import('./page/state.js'); const [[, sample]] = state.run.samples;"
        " for (let i = 0; i < 2000; i++) state.run.samples.set(`sample ${i} of ${Math.random()}`, sample); }"
    )
    page.click("#share")
    expect(page.locator("#share-text")).to_contain_text("too long for a link (2,002 samples). Save it as a file")
    assert not page.is_visible("#share-link")
    with page.expect_download() as download:
        page.click("#save-shared")
    assert download.value.suggested_filename.startswith("multiclass-20")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    other = context.new_page()
    sent = []
    other.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    other.goto(str(service.base_url))
    other.wait_for_selector("#task option", state="attached")
    other.set_input_files("#files", path)
    expect(other.locator("#shared-text")).to_contain_text("in 2,002 samples")
    expect(other.locator(".sample")).to_have_count(2002)
    assert sent == []
    other.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shared_result_keeps_nobody_out(page, context, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": 768, "height": 1024})
    classify(page, packed(OTHER_LAMP))
    link = link_of(page)
    found = [Axe().run(page)]
    opened = context.new_page()
    opened.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    opened.set_viewport_size({"width": 768, "height": 1024})
    opened.goto(link)
    expect(opened.locator("#shared")).to_be_visible()
    found.append(Axe().run(opened))
    assert serious(*found) == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= 768
    shoot(opened, f"shared-{scheme}")


def test_without_a_key_a_shared_result_is_shown(browser, page):
    classify(page, packed(EXPORT))
    link = link_of(page)
    other = browser.new_context()
    opened = other.new_page()
    opened.route("**/models", lambda route: route.fulfill(status=401, json={"error": {"code": "key", "message": "no"}}))
    opened.goto(link)
    expect(opened.locator("#shared")).to_be_visible()
    expect(opened.locator("#key")).to_be_visible()
    wait_until_drawn(page)
    other.close()
