"""A browser, and the service that it looks at."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.bundles import EXACT, copy_bundle
from tests.support.project import ROOT
from tests.support.servers import serving

# Without these, Chromium asks hosts of its maker at every start.
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


# The default of 5 s is short for a machine whose cores other tests share.
expect.set_options(timeout=30_000)


# Not of the session: while it lives, nothing else in this thread can run an event loop.
@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium on this machine; install it to test the page (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    copy_bundle(folder / "bundles" / "multiclass", "multiclass")
    copy_bundle(folder / "bundles" / "binary", "binary")
    settings = {"FATESCOPE_BUNDLES": str(folder / "bundles"), "FATESCOPE_FEEDBACK": str(folder / "feedback"), **EXACT}
    with serving(folder, ROOT, settings) as client:
        client.folder = folder
        yield client


@pytest.fixture
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(90_000)
    yield context
    context.close()


@pytest.fixture
def page(context, service):
    """The page, opened; whatever goes wrong in it fails the test."""
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(str(service.base_url))
    page.wait_for_selector("#task option", state="attached")
    yield page
    assert wrong == []
