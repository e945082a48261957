"""Proposals for exports with images: what is proposed makes ingest and validate pass at the first try."""

import shutil
from functools import partial

import numpy as np
import pytest

from fatescope import config
from fatescope.config import editing
from fatescope.errors import DataError
from pipelines.commands import import_data
from pipelines.ingestion.proposal import drafts
from pipelines.ingestion.proposal.describe import describe
from pipelines.ingestion.proposal.exports import open_export
from pipelines.ingestion.proposal.plan import plan
from pipelines.ingestion.proposal.propose import propose
from pipelines.ingestion.proposal.settings import keep_hierarchy
from pipelines.ingestion.proposal.wishes import Wishes
from pipelines.stages.ingest import ingest
from tests.support import native
from tests.support.images import tiff
from tests.support.params import write_params
from tests.support.pictures import brightfield, stain, write
from tests.support.presets import preset
from tests.support.project import ROOT, SHARED


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def settings(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


def proposal(settings, source, **wishes):
    with open_export(source) as export:
        return propose(export, config.load(settings), Wishes(**wishes))


def ingested(settings, source, target, made):
    """Write a proposal, import, and return the summary of ingest."""
    params = editing.set_fields(settings, made.values)
    import_data.import_export(params.dataset, source, target / "data", made.labels)
    return ingest(params.dataset, params.ingest, target / "data", target / "cells")


def paths(classes, runs=(1, 2, 3), cells=range(4), channels=(1,)):
    return [f"{name}/run{run}/{cell}_Ch{channel}.tif" for name in classes for run in runs for cell in cells
            for channel in channels]  # fmt: skip


def test_a_folder_for_each_class_is_proposed_whole_and_then_read(settings, tmp_path, rng):
    large = partial(brightfield, height=70, width=100)
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead")), {"0_ch1.tif": large})
    made = proposal(settings, source)
    dataset = made.values["dataset"]
    assert dataset["classes"] == {"Dead": "Dead", "Live": "Live"}
    assert dataset["tasks"] == {"binary": ["Dead", "Live"]}
    assert made.values["ingest"] == {"canvas": [72, 100]}
    assert made.values["validate"] == {"height_px": [32, 72], "width_px": [35, 100], "min_cells_per_class": 12}
    assert any("min_cells_per_class is lowered from 50 to 12" in line for line in made.decide)
    summary = ingested(settings, source, tmp_path, made)
    assert (summary.labels, summary.groups, summary.refused) == ({"Dead": 12, "Live": 12}, 6, {})


def test_comments_of_params_stay(settings, tmp_path, rng):
    made = proposal(settings, write(tmp_path / "lab", rng, paths(("Live", "Dead"))))
    text = describe(made, settings.read_text())
    assert "+  classes: {Dead: Dead, Live: Live}" in text
    editing.set_fields(settings, made.values)
    before, after = (ROOT / "params.yaml").read_text(), settings.read_text()
    assert [line.partition("#")[2] for line in after.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in before.splitlines() if "#" in line
    ]


def test_the_brightfield_channel_is_found_by_its_pixels(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead"), channels=(1, 2)), {"_ch1.tif": stain})
    made = proposal(settings, source)
    assert made.values["dataset"]["channels"] == {"2": "brightfield"}
    assert made.values["dataset"]["marker_channels"] == ["1"]
    assert any("channel 2: it looks like brightfield" in line for line in made.sure)
    with pytest.raises(DataError, match="--channel 7: there are 1, 2"):
        proposal(settings, source, channel="7")


def test_two_brightfield_channels_are_for_a_person_to_decide(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead"), channels=(1, 9, 2)), {"_ch2.tif": stain})
    made = proposal(settings, source)
    assert made.values["dataset"]["channels"] == {"1": "brightfield"}
    assert made.values["dataset"]["marker_channels"] == ["2"]
    assert any("channels 1 and 9 are both brightfield" in line and "--channel 9" in line for line in made.decide)
    assert proposal(settings, source, channel="09").values["dataset"]["channels"] == {"9": "brightfield"}


def test_a_sheet_wins_over_the_paths(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, [f"{well}/{cell}_Ch1.tif" for well in ("ctrl", "drug", "wash", "dmso", "pbs",
                   "ab") for cell in range(4)])  # fmt: skip
    table = "sample,medium,run\nctrl,Astro,1\ndrug,astro,2\nwash,astro,3\ndmso,oligo,1\npbs,oligo,2\nab,Oligo,3\n"
    (source / "plate.csv").write_text(table)
    made = proposal(settings, source)
    assert made.values["dataset"]["tasks"] == {"binary": ["astro", "oligo"]}
    summary = ingested(settings, source, tmp_path, made)
    assert (summary.labels, summary.groups) == ({"astro": 12, "oligo": 12}, 6)


def test_the_sheet_may_be_elsewhere(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, [f"S{s}_{cell}_Ch1.tif" for s in range(1, 7) for cell in range(4)])
    with pytest.raises(DataError, match=r"nothing in its names says which class(.|\n)*sample,class\n  S1,") as error:
        proposal(settings, source)
    # The table that the message shows is one that is understood.
    table = str(error.value).partition("such as\n")[2].partition("\nsave")[0].replace(" ", "").splitlines()
    filled = [table[0], *(f"{row}{'ab'[i % 2]}" for i, row in enumerate(table[1:]))]
    (tmp_path / "map.csv").write_text("\n".join(filled))
    made = proposal(settings, source, sheet=tmp_path / "map.csv")
    assert made.classes == {"a": 12, "b": 12}
    assert ingested(settings, source, tmp_path, made).groups == 6


def test_classes_with_too_few_cells_are_of_no_task(settings, tmp_path, rng):
    many = paths(("Live", "Dead"), cells=range(20))
    made = proposal(settings, write(tmp_path / "lab", rng, [*many, *paths(("Odd",), runs=(1,))]))
    assert made.values["dataset"]["tasks"] == {"binary": ["Dead", "Live"]}
    assert "min_cells_per_class" not in made.values["validate"]
    assert any(line.startswith("of no task: Odd") for line in made.decide)


def test_the_pages_of_stacks_are_counted_as_cells(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead"), cells=(1,)))
    for path in paths(("Live", "Dead"), cells=(1,)):
        (source / path).write_bytes(tiff(np.stack([brightfield(rng) for _ in range(20)]), photometric="minisblack"))
    made = proposal(settings, source)
    assert made.classes == {"Live": 60, "Dead": 60}
    assert "min_cells_per_class" not in made.values["validate"]
    assert ingested(settings, source, tmp_path, made).labels == {"Dead": 60, "Live": 60}


def test_one_group_a_class_is_told(settings, tmp_path, rng):
    made = proposal(settings, write(tmp_path / "lab", rng, paths(("Live", "Dead"), runs=(1,))))
    assert any("fewer than 3 acquisition groups" in line and "Dead 1, Live 1" in line for line in made.decide)


def test_one_class_alone_is_an_error(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, [f"a_1d{run}_{cell}_Ch1.ome.tif" for run in (1, 2) for cell in range(4)])
    with pytest.raises(DataError, match="two classes of 3 cells are needed for a model, but there are astrocyte 8"):
        proposal(settings, source)


def test_images_that_cannot_be_used_are_foreseen(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead")))
    (source / "Live/run1/0_Ch1.tif").write_bytes(tiff(rng.random((40, 44)).astype(np.float32)))
    made = proposal(settings, source)
    assert any("1 image is refused: 1 such as Live/run1/0_Ch1.tif" in line for line in made.decide)
    assert made.values["ingest"]["max_refused_share"] == pytest.approx(0.055)
    assert ingested(settings, source, tmp_path, made).refused == {"bit_depth": 1}
    for path in paths(("Live", "Dead")):
        (source / path).write_bytes(tiff(rng.random((40, 44)).astype(np.float32)))
    with pytest.raises(DataError, match="24 of 24 images that were looked at cannot be used"):
        proposal(settings, source)


def test_several_bit_depths_are_told(settings, tmp_path, rng):
    source = write(tmp_path / "lab", rng, paths(("Live", "Dead")))
    (source / "Live/run1/0_Ch1.tif").write_bytes(tiff((brightfield(rng) // 16).astype(np.uint8)))
    assert any("16 bit: 23, 8 bit: 1" in line for line in proposal(settings, source).decide)


def test_native_files_are_read_by_their_names_and_their_lamp(settings, tmp_path):
    (tmp_path / "lab").mkdir()
    for i, name in enumerate(("ctrl", "drug")):
        for run in (1, 2, 3):
            xml = native.acquisition_xml(channels=(1, 5), brightfield=(5,))
            raw = native.pack(
                native.parts(native.draw_objects(5, (1, 5), seed=10 * i + run), xml=xml, runs=(f"{name}{run}",))
            )
            (tmp_path / "lab" / f"{name}_day{run}.cif").write_bytes(raw)
    made = proposal(settings, tmp_path / "lab")
    assert made.classes == {"ctrl": 15, "drug": 15}
    assert made.values["dataset"]["channels"] == {"5": "brightfield"}
    assert any("a brightfield lamp lit" in line for line in made.sure)
    summary = ingested(settings, tmp_path / "lab", tmp_path, made)
    assert (summary.labels, summary.groups, summary.refused) == ({"ctrl": 15, "drug": 15}, 6, {})


def test_a_native_file_that_says_no_class_asks_for_one(settings):
    source = SHARED / "eosinophil.cif"
    if not source.exists():
        pytest.skip(f"the real file is not here: {source}")
    with pytest.raises(
        DataError, match=r"nothing in its names says which class(.|\n)*tag cells of each class in IDEAS"
    ):
        proposal(settings, source)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channel", "task", "known"),
    [
        ("nsc_sample", "1", ["astrocyte", "oligodendrocyte", "RA/SHH"], True),
        ("jurkat_ifc", "3", ["G1", "S_phase", "G2"], True),
        ("jurkat_ifc", "3", ["G1", "G2", "Metaphase", "Prophase", "S_phase"], False),
    ],
)
def test_public_sets_run_through_ingest(settings, tmp_path, monkeypatch, name, channel, task, known):
    source = SHARED / f"{name}.zip"
    if not source.exists():
        pytest.skip(f"the real images are not here: {source}")
    if not known:
        monkeypatch.setattr(drafts, "list_presets", list)
    made = proposal(settings, source)
    assert made.values["dataset"]["channels"] == {channel: "brightfield"}
    assert made.values["dataset"]["tasks"]["multiclass"] == task
    assert ingested(settings, source, tmp_path, made).labels == dict(sorted(made.classes.items()))


def decided(params, source, **known):
    with open_export(source) as export:
        return plan(export, config.load(params), Wishes(), known, forced=False)


def test_a_section_that_reads_the_export_stays_and_what_will_fail_is_told(tmp_path, rng):
    names = [f"{m}_1d{run}_{cell}_Ch1.ome.tif" for m in "ao" for run in (1, 2, 3) for cell in range(4)]
    source = write(tmp_path / "lab", rng, names)
    params = write_params(tmp_path, {"dataset.tasks": {"binary": ["astrocyte", "oligodendrocyte"]},
                                     "validate.min_cells_per_class": 12})  # fmt: skip
    made = decided(params, source)
    assert (made.proposal, made.foreseen) == (None, [])
    params = write_params(tmp_path, {"ingest.canvas": [30, 80], "validate.height_px": [20, 30]})
    made = decided(params, source, astrocyte=100, oligodendrocyte=100)
    assert made.proposal is None
    assert made.values["ingest"] == {"canvas": [40, 80]}
    assert made.values["validate"] == {"height_px": [20, 40]}
    assert made.values["dataset"] == {"tasks": {"binary": ["astrocyte", "oligodendrocyte"]}}
    assert "24 of 24 crops do not fit ingest.canvas" in made.foreseen[0]
    assert "RA/SHH 0, NT3 0" in made.foreseen[2]


def test_the_present_pattern_stays_where_only_the_classes_are_others(tmp_path, rng):
    names = [f"{m}_1d{run}_{cell}_Ch1.ome.tif" for m in ("ctrl", "drug") for run in (1, 2, 3) for cell in range(4)]
    made = decided(write_params(tmp_path), write(tmp_path / "lab", rng, names)).proposal
    assert made.values["dataset"]["pattern"] == config.load(write_params(tmp_path)).dataset.pattern
    assert made.values["dataset"]["tasks"] == {"binary": ["ctrl", "drug"]}
    assert made.values["dataset"]["classes"] == {"ctrl": "ctrl", "drug": "drug"}


def test_a_sheet_counts_where_the_present_section_lists_its_classes(tmp_path, rng):
    names = [f"a_1d{run}/a_1d{run}_{cell}_Ch1.ome.tif" for run in (1, 2, 3, 4) for cell in range(4)]
    source = write(tmp_path / "lab", rng, names)
    table = "folder,medium\na_1d1,Astrocyte\na_1d2,o\na_1d3,astrocyte\na_1d4,oligodendrocyte\n"
    (source / "map.csv").write_text(table)
    made = decided(write_params(tmp_path), source)
    assert made.proposal is None
    assert {path: row.label for path, row in made.labels.items()} == {
        "a_1d1/": "astrocyte", "a_1d2/": "oligodendrocyte", "a_1d3/": "astrocyte", "a_1d4/": "oligodendrocyte"
    }  # fmt: skip


def test_populations_by_hand_are_the_classes_of_native_files(settings, tmp_path):
    (tmp_path / "lab").mkdir()
    for run in (1, 2, 3):
        raw = native.native(native.draw_objects(10, (1, 5), seed=run), xml=native.acquisition_xml((1, 5), (5,)),
                            runs=(f"r{run}",))  # fmt: skip
        (tmp_path / "lab" / f"r{run}.cif").write_bytes(raw)
        tagged = native.analysis(f"r{run}.cif", 10, listed={"round": [0, 2, 4, 6], "long": [1, 3, 5]})
        (tmp_path / "lab" / f"r{run}.daf").write_bytes(tagged)
    made = proposal(settings, tmp_path / "lab")
    assert made.classes == {"round": 12, "long": 9}
    assert any("populations that were made by hand" in line for line in made.sure)
    summary = ingested(settings, tmp_path / "lab", tmp_path, made)
    assert (summary.labels, summary.groups) == ({"long": 9, "round": 12}, 3)


def test_coarse_classes_that_a_preset_has_are_kept_where_they_still_say_something(make_params):
    changes = preset("lineages")
    tasks = {"lineages": ["astrocyte", "oligodendrocyte", "RA/SHH"]}
    kept = keep_hierarchy(changes["dataset.hierarchy"], tasks)
    assert kept == {"lineages": {"glia": ["astrocyte", "oligodendrocyte"]}}
    assert make_params(changes | {"dataset.tasks": tasks, "dataset.hierarchy": kept}).dataset.hierarchy == kept
    assert keep_hierarchy(changes["dataset.hierarchy"], {"lineages": ["astrocyte", "oligodendrocyte"]}) == {}
