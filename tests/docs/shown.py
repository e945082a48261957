"""Whether a command printed what a page shows: the same in all but numbers, names of versions and dates."""

import json
import re

NUMBER = re.compile(r"\d[\d.,:eE+-]*")
HEX = re.compile(r"\b[0-9a-f]{12,64}\b")


def differs(shown, printed):
    """Return how `printed` differs from what is `shown`, or nothing where it does not.

    JSON must have the same fields with values of the same kind. Of other text every line that is shown must be printed,
    numbers and hashes aside; a line of `…` stands for any.
    """
    try:
        expected = json.loads(shown)
    except ValueError:
        return _lines(shown, printed)
    return _json(expected, json.loads(printed), "answer")


def _json(expected, received, place):
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        alike = type(expected) is type(received)
    else:
        alike = isinstance(received, int | float)
    if not alike:
        return f"{place}: {received!r} where the page shows {expected!r}"
    if isinstance(expected, dict):
        if set(expected) != set(received):
            return f"{place}: fields {sorted(received)} where the page shows {sorted(expected)}"
        return next(filter(None, (_json(expected[key], received[key], f"{place}.{key}") for key in expected)), None)
    if isinstance(expected, list) and expected and received:
        return _json(expected[0], received[0], f"{place}[0]")
    return None


def _lines(shown, printed):
    known = set(map(_plain, printed.splitlines()))
    missing = [line for line in shown.splitlines() if line.strip() not in ("", "…") and _plain(line) not in known]
    return f"the page shows, but nothing printed: {missing}" if missing else None


def _plain(line):
    return " ".join(NUMBER.sub("0", HEX.sub("0", line)).split())
