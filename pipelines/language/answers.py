"""Answers: written from facts, read back, and compared with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.language import prompt
from pipelines.language.facts import SIZE_LEEWAY, SURE, WORDS, Facts, Scale, word_for_sure

_NUMBER = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s*(px|um|µm|μm|pixels?|micrometers?|micrometres?|microns?)", re.IGNORECASE
)
_UNITS = {"px": "px", "pixel": "px", "pixels": "px"}


def write(topic: str, facts: Facts, scale: Scale) -> str:
    """Return the answer of the measured facts to the question about a topic."""
    size = f"about {facts.size:.{0 if scale.unit == 'px' else 1}f} {scale.unit} across"
    words = {name: scale.word(name, facts.value(name)) for name in WORDS}
    sure = f"one {word_for_sure(facts.sure)}."
    return {
        prompt.MEDIUM: facts.label,
        prompt.SURE: sure.capitalize(),
        prompt.SIZE: f"It is {words[prompt.SIZE]}, {size}.",
        prompt.SHAPE: f"It is {words[prompt.SHAPE]}.",
        prompt.TEXTURE: f"It is {words[prompt.TEXTURE]}.",
        prompt.FOCUS: f"The image is {words[prompt.FOCUS]}.",
        prompt.DESCRIBE: (
            f"The cell is {words[prompt.SIZE]}, {size}, {words[prompt.SHAPE]} and {words[prompt.TEXTURE]}. "
            f"The image is {words[prompt.FOCUS]}. Its medium is likely {facts.label}: {sure}"
        ),
    }[topic]


@dataclass(frozen=True)
class Read:
    """What an answer says."""

    medium: str | None = None
    """The one class that it names; None where it names none, or several."""
    sure: str | None = None
    words: dict[str, str] = field(default_factory=dict)
    """Topic of WORDS → word."""
    size: float | None = None
    unit: str | None = None


def read(text: str, topic: str, classes: Sequence[str]) -> Read:
    """Read an answer to the question about `topic`; what it does not say, or not clearly, is None or missing."""
    asked = WORDS if topic == prompt.DESCRIBE else {topic: WORDS[topic]} if topic in WORDS else {}
    words = {name: word for name, known in asked.items() if (word := _only(text, known)) is not None}
    size = unit = None
    if topic in (prompt.SIZE, prompt.DESCRIBE) and (numbers := _NUMBER.findall(text)):
        size, unit = float(numbers[0][0]), _UNITS.get(numbers[0][1].lower(), "um")
    medium = _only(text, classes) if topic in (prompt.MEDIUM, prompt.DESCRIBE) else None
    sure = _only(text, SURE) if topic in (prompt.SURE, prompt.DESCRIBE) else None
    return Read(medium, sure, words, size, unit)


def _only(text: str, known: Sequence[str]) -> str | None:
    """Return the one of the `known` words that stands in a text; a longer one counts, not what is part of it."""
    rest, named = text.lower(), []
    for word in sorted(known, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(word.lower())}(?!\w)"
        if re.search(pattern, rest):
            named.append(word)
            rest = re.sub(pattern, " ", rest)
    return named[0] if len(named) == 1 else None


def parsed(answer: Read, topic: str) -> bool:
    """Return whether an answer says what was asked."""
    if topic == prompt.MEDIUM:
        return answer.medium is not None
    if topic == prompt.SURE:
        return answer.sure is not None
    if topic == prompt.DESCRIBE:
        return answer.medium is not None and set(answer.words) == set(WORDS)
    return topic in answer.words or (topic == prompt.SIZE and answer.size is not None)


def contradictions(answer: Read, facts: Facts, scale: Scale) -> list[str]:
    """Return the topics in which an answer says other than what is measured; the class is no measured fact.

    A size in another unit than that of the scale contradicts it: nobody measured it.
    """
    wrong = [name for name, word in answer.words.items() if not scale.allows(name, facts.value(name), word)]
    if answer.size is not None and prompt.SIZE not in wrong:
        off = abs(answer.size - facts.size) > SIZE_LEEWAY * facts.size
        if off or answer.unit != scale.unit:
            wrong.append(prompt.SIZE)
    return wrong
