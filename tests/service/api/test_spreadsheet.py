"""CSV that a spreadsheet leaves as it is."""

import io
import time

import pandas as pd
import pytest

from service.api import spreadsheet

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
DATES = ["1-3", "3/4", "2024-11-05", "5.11.24", "MAR2", "3-Sep", "Mai 2024", "12:30"]
NUMBERS = ["1E5", "007", "12345678901234567"]


@pytest.mark.parametrize("text", [*FORMULAS, *DATES, *NUMBERS])
def test_a_text_that_would_be_changed_or_run_is_guarded(text):
    assert spreadsheet.guard(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["run_1", "a_1d1/3_Ch1.tif", "day 3", "march", "marker 2", "17", "1.tif", "a=b", "RA/SHH", ""]
)
def test_other_texts_stay(text):
    assert spreadsheet.guard(text) == text


def test_a_text_of_any_length_is_guarded_in_no_time():
    start = time.monotonic()
    assert spreadsheet.guard("1" * 50_000) == f"'{'1' * 50_000}"
    assert spreadsheet.guard(f"{'1' * 50_000}x") == f"{'1' * 50_000}x"
    assert time.monotonic() - start < 5


def test_numbers_keep_their_digits_and_look_like_no_date():
    table = pd.DataFrame({"name": ["a,b", None], "value": [1.05, 2.5e-7], "count": pd.array([3, None], "Int64")})
    raw = spreadsheet.to_csv(table)
    assert raw.decode("utf-8-sig").splitlines() == ["name,value,count", '"a,b",1.050000,3', ",0.00000025,"]
    pd.testing.assert_series_equal(pd.read_csv(io.BytesIO(raw))["value"], table["value"])
