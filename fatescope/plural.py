"""Numbers with words that agree with them.

A number that happens to be one is common: a test run has one cell, a laboratory one group.
"""


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: `1 image`, `1,200 images`.

    `many` is for a plural that an s does not make, and for words that follow the noun: `class`, `classes`;
    `file is`, `files are`.
    """
    return f"{number:,} {agree(number, one, many or f'{one}s')}"


def agree(number: float, one: str, many: str) -> str:
    """Return the word that goes with a number which stands elsewhere in the sentence, such as its verb."""
    return one if number == 1 else many
