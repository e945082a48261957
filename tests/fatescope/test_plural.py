"""What is said of a number agrees with it."""

import pytest

from fatescope import plural


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells"), (11, "11 cells"), (1200, "1,200 cells")]
)
def test_the_noun_agrees_with_the_number(number, text):
    assert plural.count(number, "cell") == text


@pytest.mark.parametrize(("number", "text"), [(1, "1 class is"), (2, "2 classes are")])
def test_other_plurals_and_words_behind_the_noun_are_given(number, text):
    assert plural.count(number, "class is", "classes are") == text


@pytest.mark.parametrize(("number", "verb"), [(0, "are"), (1, "is"), (2, "are")])
def test_a_verb_elsewhere_agrees_with_the_number(number, verb):
    assert plural.agree(number, "is", "are") == verb
