"""The bytes of FCS files; that programs read them is tested where they are downloaded."""

import io

import flowio
import numpy as np
import pytest

from service.api import fcs

EVENTS = np.array([[0.25, 6.2, 0.0], [0.5, 3.0, 7.0]])
NAMES = ("p_a", "CD4,CD8", "event")


def keywords(raw):
    """Return the keywords of the text segment, whose place the header says."""
    begin, end = int(raw[10:18]), int(raw[18:26])
    parts = raw[begin : end + 1].decode().split("\x0c")
    assert (parts[0], parts[-1]) == ("", "")
    return dict(zip(parts[1:-1:2], parts[2:-1:2], strict=True))


def data_in_header(raw):
    return int(raw[26:34]), int(raw[34:42])


def test_the_range_of_a_parameter_ends_at_its_largest_value_and_that_of_shares_at_1():
    text = keywords(fcs.write_fcs(EVENTS, NAMES, {}))
    assert [text[f"$P{number}R"] for number in (1, 2, 3)] == ["1", "7", "7"]
    empty = keywords(fcs.write_fcs(EVENTS[:0], NAMES, {}))
    assert [empty[f"$P{number}R"] for number in (1, 2, 3)] == ["1", "1", "1"]
    assert (text["$TOT"], empty["$TOT"], text["$PAR"]) == ("2", "0", "3")


def test_a_comma_which_separates_names_is_in_none():
    text = keywords(fcs.write_fcs(EVENTS, NAMES, {}))
    assert [text[f"$P{number}N"] for number in (1, 2, 3)] == ["p_a", "CD4;CD8", "event"]


def test_a_value_is_never_empty_and_holds_no_delimiter():
    """Two delimiters in a row stand for one in a value."""
    text = keywords(fcs.write_fcs(EVENTS, NAMES, {"SAMPLE": "", "NOTE": "a\x0cb", "LAST": "Größe"}))
    assert (text["SAMPLE"], text["NOTE"], text["LAST"]) == (" ", "a b", "Größe")


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_header_says_where_the_events_are_as_long_as_it_has_room(monkeypatch, beyond):
    assert (len(str(fcs._MAX_IN_HEADER)), len(str(fcs._MAX_IN_HEADER + 1))) == (8, 9), "it has 8 characters"
    text = keywords(fcs.write_fcs(EVENTS, NAMES, {}))
    place = int(text["$BEGINDATA"]), int(text["$ENDDATA"])
    monkeypatch.setattr(fcs, "_MAX_IN_HEADER", place[1] - beyond)
    raw = fcs.write_fcs(EVENTS, NAMES, {})
    assert keywords(raw) == text
    assert data_in_header(raw) == ((0, 0) if beyond else place)
    assert raw[place[0] :] == EVENTS.astype("<f8").tobytes()
    assert len(raw) == place[1] + 1
    # The reader knows that this file is not as large as that.
    read = flowio.FlowData(io.BytesIO(raw), ignore_offset_discrepancy=bool(beyond))
    np.testing.assert_array_equal(np.reshape(read.events, EVENTS.shape), EVENTS)
