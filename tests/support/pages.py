"""The page of the service, driven by a browser."""

from playwright.sync_api import Page

TIMEOUT_MS = 180_000


def wait_until_drawn(page: Page) -> None:
    """Wait until all files are processed and the results of all of them are on display."""
    page.wait_for_selector("#start-over:not([hidden])", timeout=TIMEOUT_MS)
    page.wait_for_selector("#samples[aria-busy=false]", timeout=TIMEOUT_MS, state="attached")
