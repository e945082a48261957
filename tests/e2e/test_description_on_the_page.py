"""A paragraph about a culture, asked for on the page, in a real browser."""

import json
import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.e2e.test_page import EXPORT, cell, classify, packed
from tests.support.accessibility import serious
from tests.support.bundles import EXACT, copy_bundle
from tests.support.chat_server import serving_chat
from tests.support.project import ROOT
from tests.support.servers import serving

pytestmark = pytest.mark.slow

OTHER_LAMP = {f"day_1/a_1d1_{i}_Ch1.ome.tif": cell(i, level=1500) for i in range(12)}


def shoot(page, name):
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_button_describes_a_culture_from_its_figures(page):
    classify(page, packed({**EXPORT, **OTHER_LAMP}))
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    card = page.locator('.sample[data-sample="day_1"]')
    card.get_by_role("button", name="Describe this culture: day_1").focus()
    page.keyboard.press("Enter")
    expect(card.locator(".paragraph")).to_contain_text("12 classified cells")
    expect(card.locator(".paragraph")).to_contain_text("The images differ from the training images (")
    expect(card.locator(".description .hint")).to_have_text("Written from a template: no language model is set up.")
    [request] = sent
    assert request.url.endswith("/describe")
    assert len(request.post_data) < 3_000
    assert not any(word in request.post_data for word in ("day_1", "run_1", ".tif", "base64"))
    # Drawing the results once more keeps it.
    page.select_option("#order", "odd")
    expect(card.locator(".paragraph")).to_be_visible()
    assert serious(Axe().run(page)) == []
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    shoot(page, "description-narrow")
    page.set_viewport_size({"width": 1280, "height": 900})
    shoot(page, "description")


def test_what_fails_is_said_and_can_be_tried_again(page):
    classify(page, packed(EXPORT))
    page.route(
        "**/describe", lambda route: route.fulfill(status=429, json={"error": {"code": "quota", "message": "no"}})
    )
    card = page.locator(".sample").first
    card.get_by_role("button").click()
    expect(card.locator(".description")).to_contain_text("It could not be described: no")
    page.unroute("**/describe")
    card.get_by_role("button").click()
    expect(card.locator(".paragraph")).to_contain_text("12 classified cells")


def write_well(body):
    """Return what a good model writes of the figures in a request."""
    figures = json.loads(body["messages"][1]["content"])
    shares = figures["composition"].items()
    parts = [f"{of['share']} are {name} (95 % interval {of['95 % interval']})" for name, of in shares]
    return f"{', '.join(parts)}. In all, {figures['cells']['classified']} cells were classified."


def test_a_model_of_the_service_writes_it(context, tmp_path):
    copy_bundle(tmp_path / "bundles" / "multiclass", "multiclass")
    with serving_chat(write_well) as endpoint:
        settings = {
            "FATESCOPE_BUNDLES": str(tmp_path / "bundles"),
            "FATESCOPE_LANGUAGE_URL": endpoint.url,
            "FATESCOPE_LANGUAGE_MODEL": "<b>tiny</b>",
            **EXACT,
        }
        with serving(tmp_path, ROOT, settings) as service:
            page = context.new_page()
            page.goto(str(service.base_url))
            page.wait_for_selector("#task option", state="attached")
            classify(page, packed(EXPORT))
            card = page.locator(".sample").first
            card.get_by_role("button").click()
            expect(card.locator(".description .hint")).to_have_text(
                "Written by the language model <b>tiny</b> from these figures alone; each number in it was checked."
            )
            expect(card.locator(".paragraph")).to_contain_text("In all, 12 cells were classified.")
            shoot(page, "description-by-a-model")
