"""Facts of the acquisition as columns of a table, and which of them the training data know."""

import io
import math

import pandas as pd

from fatescope.data.acquisition_facts import columns_of, known_values
from fatescope.data.cell_facts import CellFacts, tabulate
from fatescope.data.formats.facts import ExportedFacts
from fatescope.data.native.reader import NativeFile
from tests.support import native

EXPORTED = CellFacts.of_export(ExportedFacts("a_1d1", 17, 4711, 1234567, 89, 43.5))


def facts_of(**of_xml):
    """Return the facts of the objects of a file of the channels 3 and 5, of which 5 is brightfield."""
    xml = native.acquisition_xml((3, 5), (5,), **of_xml)
    file = NativeFile(io.BytesIO(native.native(native.draw_objects(2, (3, 5)), xml=xml)), "x.cif")
    found = [file.read(place, (5,), 10**6) for place in file.places()]
    return [CellFacts.of_object(file.acquisition, (5,), each.facts) for each in found], found


def test_the_facts_of_an_object_are_columns_without_who_which_or_when():
    facts, found = facts_of(power=0.7)
    table = tabulate([facts[0], None, EXPORTED])
    assert table == {
        "native_instrument": ["IS100-Lab", None, None],
        "native_software": ["6.0.354.0", None, None],
        "native_magnification": [40.0, None, None],
        "native_brightfield_power_w": [0.7, None, None],
        "native_flow_speed": [22.5, None, 43.5],
        "native_background_mean": [found[0].facts.background_mean[1], None, None],
        "native_background_mean_3": [found[0].facts.background_mean[0], None, None],
        "native_background_mean_5": [found[0].facts.background_mean[1], None, None],
    }
    for telling in (native.NAME_OF_A_PERSON, "run1", "2016", "a_1d1", "4711"):
        assert telling not in str(table)


def test_plain_images_have_no_columns_and_no_number_is_infinite():
    assert tabulate([None, None]) == {}
    nowhere = CellFacts(magnification=math.inf, brightfield_power_w=math.nan, channels=(1, 2), background_mean=(9.0,))
    assert tabulate([nowhere]) == {"native_background_mean_1": [9.0]}


def test_what_is_known_of_a_setting_are_its_values_and_of_a_number_the_medians_of_runs():
    cells = pd.DataFrame(
        {
            "group": ["a"] * 3 + ["b"] * 3,
            "native_magnification": [20.0] * 3 + [60.0] * 3,
            "native_instrument": ["IS100", None, None, "IS100", "IS200", None],
            "native_software": [None] * 6,
            "native_flow_speed": [40.0, 41.0, 99.0, 44.0, None, 44.0],
            "native_background_mean": [7.0] * 6,
            "native_background_mean_1": [7.0] * 6,
            "native_date": ["5/2/2016"] * 6,
        }
    )
    assert known_values(cells) == {
        "instrument": ["IS100", "IS200"],
        "magnification": [20.0, 60.0],
        "flow_speed": [41.0, 44.0],
        "background_mean": [7.0, 7.0],
    }
    assert "native_background_mean_1" not in columns_of(cells), "that of the brightfield is there already"
    assert known_values(cells[["group"]]) == {}
