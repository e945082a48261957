"""Slices of a native file: which bytes are needed next; `tests/service/api/test_slices.py` reads whole files so."""

import pytest

from fatescope.data.native.objects import Place
from fatescope.data.native.slices import (
    MAX_BYTES,
    NEAR,
    SLICE,
    Cursor,
    MissingBytesError,
    SlicedSource,
    Span,
    merge,
    next_spans,
)
from fatescope.data.native.source import DamageError

SIZE = 5 << 30
HEADER = [Span(0, 500)]


def at(offset, *, answered=True, index=7):
    return Cursor(Place(index, 20, offset), answered)


def test_bytes_at_hand_are_returned_and_others_are_asked_for():
    source = SlicedSource([(0, b"abcdef"), (100, b"xyz")], 200)
    assert source.read(2, 3) == b"cde"
    assert source.read(100, 3) == b"xyz"
    assert source.used == [Span(2, 5), Span(100, 103)]
    with pytest.raises(MissingBytesError) as missing:
        source.read(4, 3)
    assert (missing.value.offset, missing.value.size) == (4, 3)
    with pytest.raises(DamageError, match="the file has 200 bytes"):
        source.read(199, 2)
    source.gives_up = True
    with pytest.raises(DamageError, match="too far apart"):
        source.read(4, 3)


def test_a_source_gives_up_where_it_has_been_given_as_much_as_it_may_ask_for():
    assert not SlicedSource([(0, bytes(SLICE))], SIZE).gives_up
    assert SlicedSource([(0, bytes(MAX_BYTES))], SIZE).gives_up
    assert SlicedSource([(i, b"x") for i in range(16)], SIZE).gives_up


def test_a_slice_behind_the_end_of_the_file_is_refused():
    with pytest.raises(ValueError, match="behind the 3 bytes"):
        SlicedSource([(0, b"abcd")], 3)


def test_a_cursor_is_read_as_it_was_written():
    cursor = at(5_000_000_000)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "1-2-3", "1-2-3-4-5", "a-2-3-1", "1-2--3-1", "1-2-3-" + "9" * 19])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(ValueError, match="is no place in a file"):
        Cursor.parse(text)


def test_touching_and_overlapping_spans_are_one_and_none_ends_behind_the_file():
    assert merge([Span(50, 70), Span(0, 10), Span(10, 20), Span(15, 18), Span(90, 110), Span(120, 130)], 100) == [
        Span(0, 20),
        Span(50, 70),
        Span(90, 100),
    ]


def test_the_next_slice_begins_at_the_last_object():
    source, last = SlicedSource([(0, bytes(10))], SIZE), 4_500_000_000
    for missing in (None, MissingBytesError(last + SLICE - 20, 20)):
        assert next_spans(source, HEADER, None, at(last), missing) == [*HEADER, Span(last, last + SLICE)]


def test_what_lies_elsewhere_is_asked_for_with_the_object():
    source = SlicedSource([(0, bytes(10))], SIZE)
    behind, before = MissingBytesError(900_000_000, 20), MissingBytesError(2000, 20)
    wanted = [*HEADER, Span(10**8, 10**8 + NEAR), Span(900_000_000, 900_000_000 + SLICE)]
    assert next_spans(source, HEADER, None, at(10**8), behind) == wanted
    wanted = [*HEADER, Span(2000, 2000 + SLICE), Span(10**8, 10**8 + NEAR)]
    assert next_spans(source, HEADER, None, at(10**8), before) == wanted


def test_what_led_nowhere_is_asked_for_with_what_was_missing():
    source, missing = SlicedSource([(0, bytes(500)), (9000, bytes(10))], SIZE), MissingBytesError(10**8, 20)
    wanted = [Span(0, 500), Span(9000, 9010), Span(10**8, 10**8 + NEAR)]
    assert next_spans(source, HEADER, at(9000), at(9000), missing) == wanted
    assert next_spans(source, [], None, None, missing) == wanted
