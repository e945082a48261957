"""The page of the service, driven by a browser."""

import time

from playwright.sync_api import Page

TIMEOUT_MS = 180_000


def wait_until_drawn(page: Page) -> None:
    """Wait until all files are processed and the results of all of them are on display."""
    page.wait_for_selector("#start-over:not([hidden])", timeout=TIMEOUT_MS)
    page.wait_for_selector("#samples[aria-busy=false]", timeout=TIMEOUT_MS, state="attached")


def wait_until(page: Page, expression: str, timeout_s: float = 30) -> None:
    """Wait until `expression` is true of the page.

    `page.wait_for_function` evaluates it by `eval` from the second time on, which the policy of the page forbids.
    """
    end = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{expression} did not become true in {timeout_s} s"
        page.wait_for_timeout(50)
