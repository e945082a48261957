"""Numbers in a text, as digits and as words, with what they are of.

`12`, `1,200`, `12.5 %`, `12,5 %`, `0.62`, `twenty-one`, `a hundred`, `half`, `two thirds`, `10-20 %`,
`between 0.1 and 0.2`. A comma before three digits separates thousands and is a decimal comma otherwise. What looks
like a number and is none of these is a problem: `3e5`, `1/2`, `10x`, `1.2.3`, `-4`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

OPEN, CLOSE = "\x01", "\x02"
"""Marks around the index of a number in a text whose numbers were taken out."""
TOKEN = re.compile(f"{OPEN}(\\d+){CLOSE}")

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""".split()  # noqa: SIM905  easier to read than a list
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_FRACTIONS = {
    "half": 50.0,
    "a third": 100 / 3,
    "one third": 100 / 3,
    "two thirds": 200 / 3,
    "a quarter": 25.0,
    "one quarter": 25.0,
    "three quarters": 75.0,
}
_ANY_WORD = "|".join([*_VALUES, *_SCALES])
_AND = r"(?:(?:(?<=hundred)|(?<=thousand)|(?<=million))[ -]and)?"
_WORDS = re.compile(rf"(?<!\w)(?:a[ -])?(?:{_ANY_WORD})(?:{_AND}[ -](?:{_ANY_WORD}))*(?!\w)")
_FRACTION = re.compile(r"(?<!\w)(?:(?:a|one) (?:third|quarter)|two[ -]thirds|three[ -]quarters|half)(?!\w)")
_DIGITS = re.compile(r"[^\s()\[\]:;]*\d[^\s()\[\]:;]*")
_LITERAL = re.compile(r"\d+(?:\.\d+)?|[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?|\d+,\d+")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
_PERCENT = re.compile(f"({OPEN}\\d+{CLOSE})[ -]?(?:%|per cent(?!\\w)|percent(?!\\w))")
_BETWEEN = re.compile(f"(?<!\\w)between ({OPEN}\\d+{CLOSE}) and ({OPEN}\\d+{CLOSE})")
_RANGE = re.compile(f"(?:(?<!\\w)from )?({OPEN}\\d+{CLOSE})(?: ?- ?| to )({OPEN}\\d+{CLOSE})")


@dataclass(frozen=True)
class Number:
    """A number, or the two ends of a range."""

    text: str
    """As it was written."""
    value: float
    decimals: int
    """Decimals that were written: how exact it claims to be."""
    percent: bool
    high: "Number | None" = None
    """The upper end of a range; None for a single number."""

    @property
    def is_count(self) -> bool:
        """Return whether it can be a number of cells."""
        return not self.percent and not self.decimals and self.high is None


def take_out(text: str) -> tuple[str, list[Number], list[str]]:
    """Return a text in lower case with an index in the place of each number, the numbers, and what is wrong with some.

    `text` is ASCII, with single spaces.
    """
    numbers, problems = list[Number](), list[str]()

    def put(number: Number) -> str:
        numbers.append(number)
        return f"{OPEN}{len(numbers) - 1}{CLOSE}"

    text = _FRACTION.sub(lambda found: put(_fraction(found[0])), text)
    text = _WORDS.sub(lambda found: put(_word(found[0], problems)), text)
    text = _digits(text, put, problems)
    text = _PERCENT.sub(lambda found: put(_as_percent(_of(numbers, found[1]))), text)
    for pattern in (_BETWEEN, _RANGE):
        text = pattern.sub(lambda found: put(_range(_of(numbers, found[1]), _of(numbers, found[2]), problems)), text)
    return text, numbers, problems


def _digits(text: str, put: Callable[[Number], str], problems: list[str]) -> str:
    """Replace numbers in digits, but those that `put` has put there."""

    def replace(found: re.Match[str]) -> str:
        word = found[0]
        if OPEN in word:
            return word
        ends = word.rstrip(".,!?\"'")
        tail, sign = word[len(ends) :], ""
        if ends.endswith("%"):
            ends, sign = ends[:-1], "%"
        parts = re.split(r"%?-", ends) if not ends.startswith("-") else [ends]
        if not all(_LITERAL.fullmatch(part) for part in parts) or len(parts) > 2:
            problems.append(f"'{found[0]}' is not a number that can be checked")
            return " "
        return "-".join(put(_literal(part)) for part in parts) + sign + tail

    # Words in digits that are indices already hold no space, and neither do those that are not.
    return _DIGITS.sub(replace, text)


def _literal(word: str) -> Number:
    plain = word.replace(",", "") if _GROUPED.fullmatch(word) else word.replace(",", ".")
    return Number(word, float(plain), len(plain.partition(".")[2]), percent=False)


def _word(words: str, problems: list[str]) -> Number:
    parts = [part for part in re.split(r"[ -]", words) if part not in ("and", "a")]
    total = group = 0
    for part in parts:
        if part == "hundred":
            group = max(group, 1) * 100
        elif part in _SCALES:
            total, group = total + max(group, 1) * _SCALES[part], 0
        else:
            value = _VALUES[part]
            # Twenty-one, and not twenty eleven or three four.
            step = 10 if 0 < value < 10 and group % 100 >= 20 else 100
            if group % step or (group and not value):
                problems.append(f"'{words}' is not a number that can be checked")
            group += value
    return Number(words, float(total + group), 0, percent=False)


def _fraction(words: str) -> Number:
    return Number(words, _FRACTIONS[words.replace("-", " ")], 0, percent=True)


def _as_percent(number: Number) -> Number:
    return Number(f"{number.text} %", number.value, number.decimals, percent=True)


def _range(low: Number, high: Number, problems: list[str]) -> Number:
    """Return a range; a unit behind its upper end is that of both."""
    text = f"{low.text} to {high.text}"
    if (low.percent and not high.percent) or low.value > high.value or low.high or high.high:
        problems.append(f"'{text}' is not a range that can be checked")
    return Number(text, low.value, low.decimals, high.percent, high)


def _of(numbers: list[Number], token: str) -> Number:
    return numbers[int(token[1:-1])]
