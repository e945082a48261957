"""Whether every number in a text about a culture is one of the figures of its answer, and stands beside what it is of.

The text names classes by their labels, `[A]`, `[B]` and so on. It passes where

- each word is in the vocabulary (`fatescope.language.vocabulary`), which has no negation, bound or conclusion;
- each number is a figure. A percentage is one where it is its rounding: at most half a unit of its last decimal away,
  two decimals at most; `0.62` without a sign is a share likewise, with two decimals or more. A count is exact. `half`,
  `two thirds` and the like are percentages without decimals. `95 %` before `interval` is the level;
- each number belongs to one thing. A text is cut into segments at punctuation, `and`, `with`, `while`. A segment with
  a number has one class, or one verdict or reason, or is about all cells. A segment with neither goes on about the
  class of the one before it: its interval, or the share that was not named yet;
- `mostly` and the like stand beside a class whose interval is above one half or a verdict of more than half of the
  cells, `largest` beside a class whose interval is above those of all others;
- the share and the interval of each class that the template names are there, that the ranges are 95 % intervals is
  said once, and so is the number of cells.

What a text passes through says nothing that the figures do not, but it is no proof that it reads well.
"""

import re
import string
from collections.abc import Sequence

from fatescope.language import numbers, vocabulary
from fatescope.language.culture import Culture, Share
from fatescope.language.numbers import TOKEN, Number

MAX_TEXT = 1_500
"""Longest text, characters."""
LEVEL = 95
"""Of the intervals, per cent."""
_TOPIC = re.compile("\x05(\\w+)\x06")
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
_LEVEL = re.compile(f"({TOKEN.pattern})[ -]?(?:confidence |uncertainty |credible )?(?:intervals?|range)(?!\\w)")
_OF_ALL = re.compile(f"(?<!\\w)(?:out of|of|among) (?:the |all |these |a total of )*({TOKEN.pattern})(?= )")
_SEGMENTS = re.compile(r"[,;:()]|(?<!\w)(?:and|with|while|whereas|where)(?!\w)")
_SET_PHRASES = re.compile(r"(?<!\w)(?:ma(?:ke|kes|king|de) up(?! to)|confidence intervals?)(?!\w)")
"""Words that are allowed in these phrases alone."""
_OF_THE_REST = re.compile(r"(?<!\w)(?:of|among) (?:the |these )?(?:rest|remain)")
_ALL_CELLS = re.compile(r"(?<!\w)(?:cells?|images?)(?!\w)")
_SENTENCES = re.compile(r"[.!?]")
_WORD = re.compile(r"[a-z']+")
_PLAIN = str.maketrans(
    {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2011": "-",
     "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)  # fmt: skip
_SIGNS = frozenset(string.ascii_letters + string.digits + " .,;:!?%()'\"-[]")


def labels(classes: Sequence[str]) -> list[str]:
    """Return what a text calls each class: `[A]`, ..., `[Z]`, `[AA]`, ...; it is never told their names."""
    letters = string.ascii_uppercase
    return [f"[{letters[i]}]" if i < 26 else f"[{letters[i // 26 - 1]}{letters[i % 26]}]" for i in range(len(classes))]


def check(text: str, culture: Culture) -> list[str]:
    """Return why a text must not be shown, one reason each; empty where it may be."""
    plain = " ".join(text.translate(_PLAIN).split())
    if not plain or len(plain) > MAX_TEXT:
        return [f"it has {len(plain):,} characters; write 1 to {MAX_TEXT:,}"]
    if strange := sorted(set(plain) - _SIGNS):
        return [f"it has the sign {strange[0]!r}; write plain letters, digits and punctuation"]
    reader = _Reader(culture)
    reader.read(_mask(plain, culture))
    return reader.problems


def _mask(text: str, culture: Culture) -> str:
    """Return a text in lower case with marks in the place of classes and topics."""
    for place, label in enumerate(labels(culture.classes)):
        text = text.replace(label, f" \x03{_letters(place)}\x04 ")
    text = text.lower()
    for name, pattern in _TOPICS.items():
        text = re.sub(rf"(?<![\w\x05-])(?:{pattern})(?![\w\x06-])", f"\x05{name}\x06", text)
    return re.sub(r" (?=[.,;:!?)])|(?<=\() ", "", " ".join(text.split()))


def _letters(place: int) -> str:
    """Return a number in letters, which no number of the text can be taken for."""
    return str(place).translate(str.maketrans(string.digits, "qwertyuiop"))


class _Reader:
    """Reads a masked text from its beginning to its end, and collects what is wrong with it."""

    def __init__(self, culture: Culture) -> None:
        self._culture = culture
        self._classes = {_letters(place): name for place, name in enumerate(culture.classes)}
        self._shares = dict(culture.composition or {}) if culture.named else {}
        self._counts = _counts(culture)
        self.problems: list[str] = []
        self._seen: set[tuple[str, str]] = set()
        """What was said: (class, share or interval), and (cells, count)."""
        self._numbers: list[Number] = []
        self._level_said = False

    def read(self, text: str) -> None:
        """Check all of a text."""
        text, self._numbers, self.problems = numbers.take_out(text)
        text = self._take_level(text)
        self._check_words(text)
        for sentence in _SENTENCES.split(text):
            self._read_sentence(self._take_total(sentence))
        for name, share in self._culture.named:
            missing = [what for what in ("share", "interval") if (name, what) not in self._seen]
            if share.low == share.high and "interval" in missing:
                missing.remove("interval")
            self.problems += [f"the {what} of {self._label(name)} is missing" for what in missing]
        if any((name, "interval") in self._seen for name in self._shares) and not self._level_said:
            self.problems.append(f"it never says that the ranges are {LEVEL} % intervals")
        if ("cells", "count") not in self._seen:
            self.problems.append("the number of cells is missing")

    def _check_words(self, text: str) -> None:
        bare = re.sub("\x03\\w+\x04|\x05\\w+\x06|" + TOKEN.pattern, " ", text)
        bare = _SET_PHRASES.sub(" ", bare)
        if _OF_THE_REST.search(bare):
            self.problems.append("a share of the rest is not a figure; all shares are of the whole culture")
        if any(char.isdigit() for char in bare) or "[" in bare or "]" in bare or "%" in bare:
            self.problems.append("it has a number, a sign or a class that cannot be told from its surroundings")
        for word in dict.fromkeys(_WORD.findall(bare)):
            if word in vocabulary.NEGATIONS:
                self.problems.append(f"it says '{word}', and what is denied cannot be checked")
            elif word not in vocabulary.ALLOWED | vocabulary.MAJORITY | vocabulary.LARGEST:
                self.problems.append(f"the word '{word}' is not one that figures can confirm")

    def _take_level(self, text: str) -> str:
        """Take out the level of intervals."""

        def replace(found: re.Match[str]) -> str:
            number = self._numbers[int(found[2])]
            if number.percent and number.high is None:
                if number.value != LEVEL:
                    self.problems.append(f"'{number.text}' is not the level of the intervals, {LEVEL} %")
                self._level_said = True
                return " interval"
            return found[0]

        return _LEVEL.sub(replace, text)

    def _take_total(self, sentence: str) -> str:
        """Take out numbers of all cells, `of 40` and `out of the 40`."""

        def replace(found: re.Match[str]) -> str:
            number = self._numbers[int(found[2])]
            if not number.is_count:
                return found[0]
            self._check_count(number, "cells")
            return "of the"

        return _OF_ALL.sub(replace, sentence)

    def _read_sentence(self, sentence: str) -> None:
        owner: str | None = None
        for segment in _SEGMENTS.split(sentence):
            found = [self._numbers[int(index)] for index in TOKEN.findall(segment)]
            classes = [self._classes[place] for place in re.findall("\x03(\\w+)\x04", segment)]
            topics = _TOPIC.findall(segment)
            self._check_comparatives(segment, classes, topics)
            if len(classes) + len(topics) > 1:
                owner = None
                if found:
                    self._ambiguous(found)
            elif classes:
                owner = classes[0]
                self._check_shares(found, owner)
            elif topics:
                owner = None
                self._check_topic(found, topics[0])
            elif found and owner is not None and not _ALL_CELLS.search(segment):
                self._check_shares(found, owner)
            elif found:
                self._check_alone(found, segment)

    def _ambiguous(self, found: list[Number]) -> None:
        self.problems.append(f"what '{found[0].text}' is of cannot be told; give each number a clause of its own")

    def _check_alone(self, found: list[Number], segment: str) -> None:
        if len(found) == 1 and found[0].is_count and _ALL_CELLS.search(segment):
            self._check_count(found[0], "cells")
        else:
            self.problems.append(f"'{found[0].text}' stands beside no class and no verdict")

    def _check_topic(self, found: list[Number], topic: str) -> None:
        if len(found) > 1:
            self._ambiguous(found)
            return
        for number in found:
            if number.percent and number.high is None:
                count, cells = self._counts.get(topic), self._culture.cells
                if count is None or not cells or not _rounds_to(number, 100 * count / cells, 0, 2):
                    self.problems.append(f"'{number.text}' is not the share of cells that are {topic}")
            else:
                self._check_count(number, topic)

    def _check_count(self, number: Number, topic: str) -> None:
        if not number.is_count or number.value != self._counts.get(topic):
            self.problems.append(
                f"'{number.text}' is not the number of cells" + f" that are {topic}" * (topic != "cells")
            )
        self._seen.add((topic, "count"))

    def _check_shares(self, found: list[Number], name: str) -> None:
        share = self._shares.get(name)
        if share is None:
            self.problems.append(f"no share of {self._label(name)} is given")
            return
        for number in found:
            what = "share" if number.high is None else "interval"
            if (name, what) in self._seen:
                self.problems.append(f"'{number.text}' is a second {what} of {self._label(name)}")
            elif not _is_share(number, share):
                self.problems.append(f"'{number.text}' is not the {what} of {self._label(name)}")
            self._seen.add((name, what))

    def _check_comparatives(self, segment: str, classes: list[str], topics: list[str]) -> None:
        words = set(_WORD.findall(re.sub("\x03\\w+\x04|\x05\\w+\x06", " ", segment)))
        for word in sorted(words & (vocabulary.MAJORITY | vocabulary.LARGEST)):
            holds = False
            if len(classes) == 1 and not topics and (share := self._shares.get(classes[0])):
                others = [other.high for name, other in self._shares.items() if name != classes[0]]
                holds = share.low > (0.5 if word in vocabulary.MAJORITY else max(others, default=0.0))
            elif len(topics) == 1 and not classes and word in vocabulary.MAJORITY:
                holds = self._counts.get(topics[0], 0) > self._culture.cells / 2
            if not holds:
                self.problems.append(f"'{word}' is more than the figures say")

    def _label(self, name: str) -> str:
        return labels(self._culture.classes)[list(self._culture.classes).index(name)]


def _counts(culture: Culture) -> dict[str, int]:
    """Return topic → cells."""
    counts = {
        "cells": culture.cells, "sure": culture.sure, "unsure": culture.unsure, "unlike": culture.unlike
    }  # fmt: skip
    if culture.outside is not None:
        counts |= {"outside": culture.outside, **(culture.outside_reasons or {})}
    return counts


def _is_share(number: Number, share: Share) -> bool:
    """Return whether a number is the share, or a range its interval."""
    ends = [(number, share.share)] if number.high is None else [(number, share.low), (number.high, share.high)]
    if number.percent:
        return all(_rounds_to(end, 100 * value, 0, 2) for end, value in ends)
    return all(_rounds_to(end, value, 2, 4) for end, value in ends)


def _rounds_to(number: Number, value: float, least: int, most: int) -> bool:
    """Return whether a number of `least` to `most` decimals is a rounding of `value`; both of a half are."""
    return least <= number.decimals <= most and abs(number.value - value) <= 0.5 * 10**-number.decimals + 1e-9
