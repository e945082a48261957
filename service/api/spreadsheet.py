"""CSV that spreadsheets open as it is meant, and programs too.

UTF-8 with a byte order mark, without which Excel takes umlauts for Latin-1; commas between columns, points in numbers,
`;` within lists. A text that a spreadsheet would run as a formula, or turn into a date or another number, has an
apostrophe before it; numbers have at least six decimals, since Excel takes 1.05 for the 1st of May in some countries.
"""

import re

import numpy as np
import pandas as pd

_BYTE_ORDER_MARK = "utf-8-sig"
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_MONTH = (
    "(?:jan(?:uary?)?|feb(?:ruary?)?|mar(?:ch)?|märz|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?"
    "|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
"""Names of months in English and German."""
_DATE = re.compile(
    rf"(?:\d{{1,4}}[-/. ]\d{{1,2}}(?:[-/. ]\d{{1,4}})?|\d{{1,4}}[-/. ]?{_MONTH}(?:[-/. ]?\d{{1,4}})?"
    rf"|{_MONTH}[-/. ]?\d{{1,4}}(?:[-/., ]+\d{{1,4}})?|\d+:\d+(?::\d+)?)\.?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"0\d+|\d+(?:[.,]\d*)?e[+-]?\d+|\d{16,}", re.IGNORECASE)
"""Texts of digits that a spreadsheet would write otherwise: 007, 1E5, and numbers that it rounds."""


def to_csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV."""
    safe = table.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = [guard(text) if isinstance(text, str) else text for text in safe[name]]
    return safe.to_csv(index=False, float_format=_decimal).encode(_BYTE_ORDER_MARK)


def _decimal(number: object) -> str:
    """Return a number in as many decimals as it has, but at least six, and never with an exponent."""
    return np.format_float_positional(float(str(number)), min_digits=6)


def guard(text: str) -> str:
    """Return a text with an apostrophe before it where a spreadsheet would not leave it as it is."""
    return f"'{text}" if _FORMULA.match(text) or _DATE.fullmatch(text) or _NUMBER.fullmatch(text) else text
