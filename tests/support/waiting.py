"""Wait for a state, with a generous limit: how fast a machine is, is none of the tests' business."""

import time

LIMIT_S = 120


def until(condition, limit_s=LIMIT_S, every_s=0.02):
    """Return what `condition()` returns once that is true; fail after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every_s)
    raise AssertionError("it did not come about")
