"""Wait for a state, with a generous limit: how fast a machine is, is none of the tests' business."""

import time

LIMIT_S = 120


def until(condition):
    """Return what `condition()` returns once that is true; fail after LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come about")
