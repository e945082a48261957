"""Roles of samples, from their names and from plate maps; the page is held to the same cases."""

import json

import pytest

from fatescope.data import plate_map
from fatescope.data.roles import Roles, in_one_unit, read_roles, to_number
from tests.support.project import ROOT

CASES = json.loads((ROOT / "tests" / "page" / "roles.json").read_text(encoding="utf-8"))
NAMES = {case.pop("name"): case for case in CASES["names"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_roles_that_a_name_spells(name):
    assert read_roles(name) == Roles(**NAMES[name])


@pytest.mark.parametrize("case", CASES["units"], ids=lambda case: case["case"])
def test_doses_are_in_one_unit(case):
    found = in_one_unit([Roles(dose=dose, unit=unit) for dose, unit in case["roles"]])
    assert [roles.dose for roles in found] == case["doses"]
    assert {roles.unit for roles in found} == {case["unit"]}


@pytest.mark.parametrize("case", CASES["maps"], ids=lambda case: case["case"])
def test_plate_maps(case):
    plate = plate_map.read(plate_map.parse(case["text"]))
    assert plate_map.match(plate.rows, case["samples"]) == {
        sample: Roles(**roles) for sample, roles in case["roles"].items()
    }
    assert plate.problems == case["problems"]


def test_a_table_has_quoted_fields_with_separators_quotes_and_line_ends():
    assert plate_map.parse('a,b\r\n"x, ""y""\nz",2') == [["a", "b"], ['x, "y"\nz', "2"]]


def test_an_empty_plate_map_says_what_it_lacks():
    assert plate_map.read(plate_map.parse("")).problems == [plate_map.NO_HEADER]


def test_a_table_of_features_is_no_plate_map():
    assert plate_map.read(plate_map.parse("id,area\n1,20\n")).problems == [plate_map.NO_ROLE]


def test_numbers_are_those_that_people_write():
    assert [to_number(text) for text in ("3", " 0,5 ", "-1e3", "1,000,000", "x", "")] == [
        3,
        0.5,
        -1000,
        None,
        None,
        None,
    ]
