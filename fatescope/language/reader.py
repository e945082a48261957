"""Reads a text about a culture in which classes and verdicts are marked, and collects what is wrong with it.

The rules are in `fatescope.language.check`.
"""

import re
import string
from dataclasses import dataclass

from fatescope.language import numbers, vocabulary
from fatescope.language.culture import Culture, Share, labels
from fatescope.language.numbers import TOKEN, Number

LEVEL = 95
"""Of the intervals, per cent."""
_CLASS = re.compile("\x03(\\w+)\x04")
_TOPIC = re.compile("\x05(\\w+)\x06")
_LEVEL = re.compile(f"({TOKEN.pattern})[ -]?(?:confidence |uncertainty |credible )?(?:intervals?|range)(?!\\w)")
_OF_ALL = re.compile(f"(?<!\\w)(?:out of|of|among) (?:the |all |these |a total of )*({TOKEN.pattern})(?= )")
_SEGMENTS = re.compile(r"[,;:()]|(?<!\w)(?:and|with|while|whereas|where)(?!\w)")
_SET_PHRASES = re.compile(r"(?<!\w)(?:ma(?:ke|kes|king|de) up(?! to)|confidence intervals?|(?:in|of|among) all)(?!\w)")
"""Words that are allowed in these phrases alone."""
_OF_THE_REST = re.compile(r"(?<!\w)(?:of|among) (?:the |these )?(?:rest|remain)")
_ALL_CELLS = re.compile(r"(?<!\w)(?:cells?|images?)(?!\w)")
_SENTENCES = re.compile(r"\.")
_POINTING = re.compile(r"(?<!\w)(?:these|this|those|them|they|their|which)(?!\w)")
"""Words that may be about the cells of the sentence before."""
_WORD = re.compile(r"[a-z']+")


def class_mark(place: int) -> str:
    """Return the number of a class in letters, which no number of a text can be taken for."""
    return str(place).translate(str.maketrans(string.digits, "qwertyuiop"))


@dataclass
class _Sentence:
    """What a sentence was about so far."""

    owner: str | None = None
    """The class that it speaks of."""
    is_open: bool = False
    """Whether that has no number yet."""
    shares: bool = False
    verdicts: bool = False


class Reader:
    """Reads a masked text from its beginning to its end, and collects what is wrong with it."""

    def __init__(self, culture: Culture) -> None:
        self._culture = culture
        self._classes = {class_mark(place): name for place, name in enumerate(culture.classes)}
        self._shares = dict(culture.composition or {}) if culture.named else {}
        self._counts = _counts(culture)
        self.problems: list[str] = []
        self._seen: set[tuple[str, str]] = set()
        """What was said: (class, share or interval), and (cells, count)."""
        self._numbers: list[Number] = []
        self._level_said = self._verdicts_said = False

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
        # Of two classes, what is not the one is the other.
        allowed = vocabulary.ALLOWED | vocabulary.MAJORITY | vocabulary.LARGEST
        if len(self._shares) == 2:
            allowed |= vocabulary.OF_TWO
        for word in dict.fromkeys(_WORD.findall(bare)):
            if word in vocabulary.NEGATIONS:
                self.problems.append(f"it says '{word}', and what is denied cannot be checked")
            elif word not in allowed:
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
        state = _Sentence()
        for segment in _SEGMENTS.split(sentence):
            found = [self._numbers[int(index)] for index in TOKEN.findall(segment)]
            classes = [self._classes[place] for place in _CLASS.findall(segment)]
            topics = _TOPIC.findall(segment)
            compared = self._check_comparatives(segment, classes, topics)
            state.shares, state.verdicts = state.shares or bool(classes), state.verdicts or bool(topics)
            if len(classes) + len(topics) > 1:
                self._ambiguous(found[0].text if found else "a class or a verdict")
                self._leave(state)
            elif classes:
                self._leave(state)
                state.owner, state.is_open = classes[0], not found and not compared
                self._check_shares(found, classes[0])
            elif topics:
                self._leave(state)
                self._check_topic(found, topics[0], compared=compared)
            elif found:
                self._read_unnamed(found, segment, state)
        self._leave(state)
        if state.shares and state.verdicts:
            self.problems.append("shares of classes and numbers of verdicts stand in one sentence; give each its own")
        if state.shares and self._verdicts_said and _POINTING.search(sentence):
            self.problems.append("which cells a share is of cannot be told; name no cells before it")
        self._verdicts_said = self._verdicts_said or state.verdicts

    def _read_unnamed(self, found: list[Number], segment: str, state: "_Sentence") -> None:
        """Check numbers of a segment without a class or a verdict: they go on about the class before, or all cells."""
        if state.owner is not None and not _ALL_CELLS.search(segment):
            state.is_open = False
            self._check_shares(found, state.owner)
        elif len(found) == 1 and found[0].is_count and _ALL_CELLS.search(segment):
            self._check_count(found[0], "cells")
        else:
            self.problems.append(f"'{found[0].text}' stands beside no class and no verdict")

    def _leave(self, state: "_Sentence") -> None:
        """Turn from the class that was spoken of."""
        if state.owner is not None and state.is_open:
            self._without_number(self._label(state.owner))
        state.owner, state.is_open = None, False

    def _without_number(self, what: str) -> None:
        self.problems.append(f"{what} is named without its number")

    def _ambiguous(self, what: str) -> None:
        self.problems.append(f"what '{what}' is of cannot be told; give each number a clause of its own")

    def _check_topic(self, found: list[Number], topic: str, *, compared: bool) -> None:
        if not found and not compared:
            self._without_number(topic)
        if len(found) > 1:
            self._ambiguous(found[0].text)
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

    def _check_comparatives(self, segment: str, classes: list[str], topics: list[str]) -> bool:
        """Check words such as `mostly`; return whether there are any."""
        words = set(_WORD.findall(re.sub("\x03\\w+\x04|\x05\\w+\x06", " ", segment)))
        compared = sorted(words & (vocabulary.MAJORITY | vocabulary.LARGEST))
        for word in compared:
            holds = False
            if len(classes) == 1 and not topics and (share := self._shares.get(classes[0])):
                others = [other.high for name, other in self._shares.items() if name != classes[0]]
                holds = share.low > (0.5 if word in vocabulary.MAJORITY else max(others, default=0.0))
            elif len(topics) == 1 and not classes and word in vocabulary.MAJORITY:
                holds = self._counts.get(topics[0], 0) > self._culture.cells / 2
            if not holds:
                self.problems.append(f"'{word}' is more than the figures say")
        return bool(compared)

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
