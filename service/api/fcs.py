"""Write FCS 3.1 (Spidlen et al. 2010), the format of flow cytometry, in double precision.

In single precision an object number above 2^24 would come back as another one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

MAX_EXACT = 2**53
"""Largest whole number up to which all are exact."""
_DELIMITER = "\x0c"
_HEADER_SIZE = 58
_MAX_IN_HEADER = 99_999_999
"""Largest offset that the header has room for; beyond it counts what $BEGINDATA and $ENDDATA say."""


def write_fcs(events: npt.NDArray[np.float64], names: Sequence[str], keywords: Mapping[str, str]) -> bytes:
    """Return a file with (n, P) `events` of P parameters called `names`; `keywords` are added to the standard ones."""
    data = np.ascontiguousarray(events, "<f8").tobytes()
    standard = {
        "$BEGINANALYSIS": "0",
        "$ENDANALYSIS": "0",
        "$BEGINSTEXT": "0",
        "$ENDSTEXT": "0",
        "$BYTEORD": "1,2,3,4",
        "$DATATYPE": "D",
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(len(names)),
        "$TOT": str(len(events)),
    }
    for number, (name, column) in enumerate(zip(names, events.T, strict=True), 1):
        # Shares are drawn on an axis from 0 to 1, numbers and indices up to the largest of them.
        top = max(1, int(np.ceil(column.max(initial=0))))
        # A comma separates names in other keywords.
        parameter = {"B": "64", "E": "0,0", "N": name.replace(",", ";"), "R": str(top), "G": "1.0"}
        standard |= {f"$P{number}{letter}": value for letter, value in parameter.items()}
    rest = {**standard, **keywords}
    # The offsets are part of the text whose length they depend on, so they have a fixed width.
    length = len(_text({**rest, "$BEGINDATA": "0" * 20, "$ENDDATA": "0" * 20}))
    begin = _HEADER_SIZE + length
    end = begin + len(data) - 1
    text = _text({**rest, "$BEGINDATA": f"{begin:020}", "$ENDDATA": f"{end:020}"})
    in_header = (begin, end) if end <= _MAX_IN_HEADER else (0, 0)
    header = "FCS3.1    " + "".join(f"{offset:>8}" for offset in (_HEADER_SIZE, begin - 1, *in_header, 0, 0))
    return header.encode() + text + data


def _text(keywords: Mapping[str, str]) -> bytes:
    pairs = (f"{key}{_DELIMITER}{value.replace(_DELIMITER, ' ') or ' '}" for key, value in keywords.items())
    return f"{_DELIMITER}{_DELIMITER.join(pairs)}{_DELIMITER}".encode()
