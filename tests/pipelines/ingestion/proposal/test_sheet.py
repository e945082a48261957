"""Sheets that say what samples are."""

import pytest

from fatescope.errors import DataError
from pipelines.ingestion.proposal import layout, sheet
from pipelines.ingestion.proposal.sheet_keys import read_sheet


def understand(text, paths, wanted=None):
    found = layout.infer(paths)
    reading = sheet.understand(read_sheet(text.encode(), "map.csv"), found, wanted)
    return reading, (sheet.as_labels(reading, found) if reading else {})


def rows(labels):
    return {path: (row.label, row.group) for path, row in labels.items()}


WELLS = [f"{well}/{number}_Ch{channel}.tif" for well in ("A01", "A02", "B01", "B02", "C01", "C02") for number in (1, 2)
         for channel in (1, 2)]  # fmt: skip
PLATE = (
    "Well;Medium;Day;Run;Replicate;Donor\nA1;Astro;3;1;1;d1\nA2;oligo;3;1;1;d1\nB1;astro;3;2;1;d2\nB2;Oligo;3;2;1;d2\n"
    "C1;astro;3;3;1;d3\nC2;oligo;3;3;1;d3\n"
)


def test_a_plate_map_gives_the_class_and_the_donor_of_each_well():
    reading, labels = understand(PLATE, WELLS)
    assert (reading.keys, reading.label, reading.group) == (["Well"], "Medium", ["Donor"])
    assert rows(labels) == {
        "A01/": ("astro", "d1"), "A02/": ("oligo", "d1"), "B01/": ("astro", "d2"), "B02/": ("oligo", "d2"),
        "C01/": ("astro", "d3"), "C02/": ("oligo", "d3"),
    }  # fmt: skip


def test_plates_and_wells_are_found_together():
    paths = [f"Plate{plate}/{well}/{number}.png" for plate in (1, 2) for well in ("A01", "A02") for number in (1, 2)]
    reading, labels = understand("plate,well,treatment\n1,A01,ctrl\n1,A02,drug\n2,A01,drug\n2,A02,ctrl\n", paths)
    assert (reading.keys, reading.label) == (["plate", "well"], "treatment")
    assert labels["Plate2/A01/"].label == "drug"


def test_samples_in_the_names_of_files_get_a_row_for_each_image():
    paths = [f"S0{sample}_{number}_Ch1.tif" for sample in (1, 2) for number in (1, 2)]
    _, labels = understand("sample\tcell type\nS1\tlive\nS2\tdead\n", paths)
    assert rows(labels)["S01_1_Ch1.tif"] == ("live", "S1")
    assert len(labels) == 4


def test_native_files_are_named_by_a_sheet():
    _, labels = understand("file,class\nr1.cif,a\nr2.cif,b\n", ["r1.cif", "r2.cif"])
    assert rows(labels) == {"r1.cif": ("a", "r1.cif"), "r2.cif": ("b", "r2.cif")}


def test_a_table_of_measurements_is_no_sheet():
    reading, _ = understand("object,area,label\n1,20,a\n2,30,b\n", WELLS)
    assert reading is None


def test_samples_without_a_row_are_of_a_class_of_no_task():
    reading, labels = understand(PLATE, [*WELLS, "H12/1_Ch1.tif"])
    assert reading.missing == [("H12",)]
    assert labels["H12/"].label == sheet.UNLABELLED


def test_a_row_without_a_class_is_an_error():
    with pytest.raises(DataError, match="the row of Well A1 has no Medium"):
        understand(PLATE.replace("A1;Astro", "A1;"), WELLS)


def test_another_column_can_be_the_class():
    reading, _ = understand(PLATE.replace("Run", "Treatment"), WELLS)
    assert (reading.label, reading.rivals) == ("Medium", ["Treatment"])
    reading, _ = understand(PLATE, WELLS, "day")
    assert reading.label == "Day"
    with pytest.raises(DataError, match=r"map\.csv has no such column; it has Well, Medium"):
        understand(PLATE, WELLS, "colour")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_sheets_as_spreadsheets_save_them_are_read(encoding):
    table = read_sheet("sample;Überstand\nS1;müde\n".encode(encoding), "map.csv")
    assert (table.columns, table.rows) == (["sample", "Überstand"], [{"sample": "S1", "Überstand": "müde"}])
