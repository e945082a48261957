"""What a comparison of cultures says of differences and of days."""

import pytest

from fatescope.inference import comparison_sentences as sentences
from fatescope.inference.comparison import Estimate
from fatescope.inference.comparison_sentences import Step


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.2, "20 percentage points"), (0.01, "1 percentage point"), (0.004, "0.4 percentage points")],
)
def test_a_difference_of_shares_is_not_told_as_so_many_per_cent_more_cells(share, told):
    estimate = Estimate(share, share / 2, share * 2, 0.01, (3, 3))
    sentence = sentences.difference("treated", "control", "astrocyte", estimate)
    assert sentence.startswith(f"treated has {told} more astrocytes than control (")
    assert "%" not in sentence


def test_a_condition_on_its_own_days_is_told_from_its_first_one():
    alone = [Step(3, 0.1, differs=False), Step(5, 0.3, differs=True), Step(7, 0.1, differs=False)]
    assert sentences.course("day", "control", 0.0, "astrocyte", alone) == (
        "By its astrocytes, control on days 3 and 7 cannot be told from control on day 0; it can on day 5."
    )
    assert sentences.course("day", "treated", "control", "astrocyte", alone[:1]) == (
        "treated cannot be told from control by its astrocytes on day 3."
    )


def test_doses_are_told_with_their_unit_where_it_is_known():
    assert sentences.place(3, 10, "µM") == "Day 3, 10 µM: "
    assert sentences.place(None, 10, "µM") == "10 µM: "
    assert sentences.place(None, 10) == "Dose 10: "
    assert sentences.place(None, None, "µM") == ""
    steps = [Step(x, 0.1, differs=x == 3) for x in (1, 3, 10)]
    assert sentences.course("dose", "drug", 0.5, "astrocyte", steps, "µM") == (
        "By its astrocytes, drug at 1 and 10 µM cannot be told from drug at 0.5 µM; it can at 3 µM."
    )
    assert sentences.course("dose", "drug", 0.5, "astrocyte", steps[1:2]) == (
        "From dose 3 on, drug has more astrocytes than at dose 0.5."
    )
    assert sentences.course("day", "drug", "control", "astrocyte", steps[1:2], "µM") == (
        "From day 3 on, drug has more astrocytes than control."
    )
