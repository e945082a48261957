"""Whether every number in a text about a culture is one of the figures of its answer, and stands beside what it is of.

The text names classes by their labels, `[A]`, `[B]` and so on. It passes where

- each word is in the vocabulary (`fatescope.language.vocabulary`), which has no negation, bound or conclusion;
- each number is a figure. A percentage is one where it is its rounding: at most half a unit of its last decimal away,
  two decimals at most; `0.62` without a sign is a share likewise, with two decimals or more. A count is exact. `half`,
  `two thirds` and the like are percentages without decimals. `95 %` before `interval` is the level;
- each number belongs to one thing. A text is cut into segments at punctuation, `and`, `with`, `while`. A segment with
  a number has one class, or one verdict or reason, or is about all cells. A segment with neither goes on about the
  class of the one before it: its interval, or the share that was not named yet;
- what is named has its number: a class or verdict without one makes a text refused, for it would be a claim that no
  figure confirms, or a condition (`among the unsure cells, ...`); shares and verdicts are in sentences of their own;
- `mostly` and the like stand beside a class whose interval is above one half or a verdict of more than half of the
  cells, `largest` beside a class whose interval is above those of all others;
- the share and the interval of each class that the template names are there, that the ranges are 95 % intervals is
  said once, and so is the number of cells.

What a text passes through says nothing that the figures do not, but it is no proof that it reads well.
"""

import re
import string

from fatescope.language.culture import Culture, labels
from fatescope.language.reader import Reader, class_mark

MAX_TEXT = 1_500
"""Longest text, characters."""
_TOPICS = {
    "unlike": r"unlike (?:the |all |its )?(?:training )?cells(?: of the training)?",
    "outside": r"outside (?:of )?(?:the |its )?(?:quality )?gates(?: of quality)?",
    "doublet": r"more than one cell|doublets?",
    "focus": r"out of focus",
    "clipped": r"cut off by the border",
    "saturated": r"overexposed",
    "debris": r"debris",
    "unsure": r"unsure",
    "sure": r"sure",
}
_PLAIN = str.maketrans(
    {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2011": "-",
     "\u2018": "'", "\u2019": "'"}
)  # fmt: skip
_SIGNS = frozenset(string.ascii_letters + string.digits + " .,;:%()'-[]")


def check(text: str, culture: Culture) -> list[str]:
    """Return why a text must not be shown, one reason each; empty where it may be."""
    plain = " ".join(text.translate(_PLAIN).split())
    if not plain or len(plain) > MAX_TEXT:
        return [f"it has {len(plain):,} characters; write 1 to {MAX_TEXT:,}"]
    if strange := sorted(set(plain) - _SIGNS):
        return [f"it has the sign {strange[0]!r}; write plain letters, digits and punctuation"]
    reader = Reader(culture)
    reader.read(_mask(plain, culture))
    return reader.problems


def _mask(text: str, culture: Culture) -> str:
    """Return a text in lower case with marks in the place of classes and topics."""
    for place, label in enumerate(labels(culture.classes)):
        text = text.replace(label, f" \x03{class_mark(place)}\x04 ")
    text = text.lower()
    for name, pattern in _TOPICS.items():
        text = re.sub(rf"(?<![\w\x05-])(?:{pattern})(?![\w\x06-])", f"\x05{name}\x06", text)
    return re.sub(r" (?=[.,;:)])|(?<=\() ", "", " ".join(text.split()))
