"""Whose label of a cell counts, where several people have given one."""

import itertools

import pytest

from fatescope.data.statements import Statement, settle


def said(*labels):
    """Return (counting label, disputed) of labels such as `ann:a` or, with the scope admin, `!ann:a`; `-` is no key."""
    statements = []
    for place, text in enumerate(labels):
        by, _, label = text.removeprefix("!").partition(":")
        line = {"label": label, "by": None if by == "-" else by, "scope": "admin" if text[0] == "!" else "feedback"}
        statements.append(Statement.of(place, line))
    settled = {settle(order) for order in itertools.permutations(statements)}
    assert len(settled) == 1, "the order of the lines counts, not that of the list"
    [settled] = settled
    return settled and (settled.label, settled.disputed)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["ann:a"], ("a", False)),
        (["ann:a", "ann:b"], ("b", False)),
        (["ann:a", "bob:b"], ("a", True)),
        (["ann:a", "bob:a"], ("a", False)),
        (["ann:a", "bob:b", "bob:a"], ("a", False)),
        (["ann:a", "bob:b", "ann:b"], ("b", False)),
        (["ann:a", "bob:"], ("a", True)),
        (["ann:", "bob:b"], ("", True)),
        (["ann:a", "bob:b", "!eve:b"], ("b", False)),
        (["ann:a", "!eve:b", "ann:a"], ("b", True)),
        (["!eve:a", "bob:b"], ("a", True)),
        (["!eve:a", "!joe:b"], ("a", True)),
        (["!eve:a", "bob:b", "!eve:a"], ("a", False)),
        (["-:a", "ann:b"], ("a", True)),
        (["-:a", "!ann:b", "-:a"], ("b", True)),
        (["!-:a", "-:b"], ("b", False)),
    ],
    ids=str,
)
def test_the_first_label_counts_until_its_author_or_a_stronger_one_changes_it(labels, expected):
    assert said(*labels) == expected


def test_lines_of_earlier_versions_are_of_one_author():
    lines = [{"label": "a"}, {"label": None}, {"label": "b", "scope": "something else"}]
    settled = settle(Statement.of(place, line) for place, line in enumerate(lines))
    assert (settled.label, settled.disputed) == ("b", False)
    assert settle([]) is None
