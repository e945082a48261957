"""What a sidecar says of images and of folders."""

from fatescope.data import paths, sidecar
from fatescope.data.export_folder import read_labels
from fatescope.data.sidecar import Label


def test_the_row_of_a_folder_holds_for_all_below_it_that_no_nearer_row_names(params):
    labels = {
        "lab/": Label("astrocyte", "x"),
        "lab/a_1d1/": Label("oligodendrocyte", "y"),
        "lab/a_1d1/a_1d1_2_Ch1.ome.tif": Label("astrocyte", ""),
    }
    reader = paths.PathParser(params.dataset, labels)
    read = [reader.read(f"{folder}/a_1d1_{number}_Ch1.ome.tif") for folder, number in
            (("lab/a_1d1/deep", 1), ("lab/a_1d1", 2), ("lab/other", 1), ("laboratory", 1))]  # fmt: skip
    assert [(one.label, one.group) for one in read] == [
        ("oligodendrocyte", "y"), ("astrocyte", "a_1_1"), ("astrocyte", "x"), ("astrocyte", "a_1_1")
    ]  # fmt: skip


def test_rows_of_folders_are_relative_to_the_folder_of_their_table(tmp_path):
    (tmp_path / "plates").mkdir()
    (tmp_path / "plates" / sidecar.LABELS).write_text("path,label,group\nA01/,astro,d1\n")
    assert read_labels(tmp_path) == {"plates/A01/": Label("astro", "d1")}
