"""Drawn cells: the same seed gives the same bytes, and nothing but the cell tells its medium."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from fatescope.config import Dataset, load
from fatescope.config.presets import get_preset
from fatescope.data import images
from fatescope.data.crops import background, border
from fatescope.data.export_folder import ORIGIN, list_files
from fatescope.data.paths import PathParser
from fatescope.data.tracks import frame_of
from fatescope.errors import DataError
from pipelines.commands import simulate as stage
from pipelines.commands.simulate import simulate
from pipelines.simulation import acquisition_groups
from pipelines.simulation.acquisition_groups import Group, draw_cells, groups
from pipelines.simulation.cell import DrawnCell
from pipelines.simulation.junk import KINDS
from pipelines.simulation.phenotypes import MEDIA, PAPER
from tests.support.simulation import SMALL

ROOT = Path(__file__).parents[3]


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    target = tmp_path_factory.mktemp("simulate") / "data"
    simulate(SMALL, target, workers=1)
    return target


def brightfield(folder: Path) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {medium: [] for medium in PAPER}
    for path in sorted(folder.glob("*/*_Ch1.ome.tif")):
        found[path.name.split("_")[0]].append(tifffile.imread(path))
    return found


def test_the_seed_decides_every_byte_whatever_the_number_of_workers(drawn, tmp_path):
    simulate(SMALL, tmp_path / "two", workers=2)
    assert hashes(tmp_path / "two") == hashes(drawn)


def test_cells_are_the_same_whatever_other_media_are_drawn(drawn, tmp_path):
    nine = SMALL.model_copy(update={"media": dict.fromkeys(MEDIA, 1.0), "days": [1], "runs": 1, "cells": 18})
    simulate(nine, tmp_path / "nine", workers=1)
    ours, theirs = hashes(drawn), hashes(tmp_path / "nine")
    assert {name.split("_")[0] for name in theirs if name != ORIGIN} == set(MEDIA)
    common = (ours.keys() & theirs.keys()) - {ORIGIN}
    assert len(common) == 4 * 2 * 3
    assert all(ours[name] == theirs[name] for name in common)
    origins = [json.loads((folder / ORIGIN).read_text())["params"] for folder in (drawn, tmp_path / "nine")]
    assert ["media" in params for params in origins] == [False, True]


def test_another_seed_draws_other_cells(drawn, tmp_path):
    simulate(SMALL.model_copy(update={"seed": 8}), tmp_path / "other", workers=1)
    ours, theirs = hashes(drawn), hashes(tmp_path / "other")
    assert ours.keys() == theirs.keys()
    assert not {ours[name] for name in ours} & {theirs[name] for name in theirs}


def test_a_cell_does_not_depend_on_how_many_others_are_drawn(drawn, tmp_path):
    simulate(SMALL.model_copy(update={"cells": 24, "days": [5], "runs": 2}), tmp_path / "few", workers=1)
    ours, few = hashes(drawn), hashes(tmp_path / "few")
    common = (ours.keys() & few.keys()) - {ORIGIN}
    assert len(common) > 24
    assert all(ours[name] == few[name] for name in common)


@pytest.fixture(scope="module")
def with_junk(tmp_path_factory):
    """The cells of `drawn`, of which 30 % are junk, and what is in each image."""
    target = tmp_path_factory.mktemp("junk") / "data"
    simulate(SMALL.model_copy(update={"junk": 0.3, "days": [5], "cells": 240}), target, workers=2)
    return target, pd.read_csv(stage.junk_file(target))


def test_junk_changes_no_cell_but_those_that_it_replaces(with_junk, tmp_path):
    junk, contents = with_junk
    simulate(SMALL.model_copy(update={"days": [5], "cells": 240}), tmp_path / "clean", workers=2)
    clean = tmp_path / "clean"
    assert not stage.junk_file(clean).exists()
    ours, theirs = hashes(clean), hashes(junk)
    assert ours.keys() == theirs.keys()
    kinds = dict(zip(contents["cell"], contents["kind"], strict=True))
    planted = set(contents["cell"][contents["planted"]])
    changed = {cell for cell in contents["cell"] if ours[cell] != theirs[cell]}
    assert changed <= planted
    # A cell that is a doublet in any case is the same one when that is asked for.
    assert {kinds[cell] for cell in planted - changed} <= {"doublet"}
    assert len(planted - changed) < 0.1 * len(planted)


def test_what_is_in_each_image_is_beside_the_folder_and_not_in_it(with_junk):
    junk, contents = with_junk
    reader = PathParser(load(ROOT / "params.yaml").dataset)
    assert all(reader.read(path) for path in list_files(junk))
    assert set(contents["cell"]) == {f"{p.parent.name}/{p.name}" for p in junk.glob("*/*_Ch1.ome.tif")}
    planted = Counter(contents["kind"][contents["planted"]])
    assert set(planted) == set(KINDS)
    assert 48 <= planted.total() <= 96  # 72 of 240 are expected, and 7 is their standard deviation
    # A few doublets and blurred cells are there in any case.
    assert set(contents["kind"][~contents["planted"]]) == {"cell", "doublet", "focus"}


def test_planted_junk_looks_like_what_it_is_called(with_junk):
    junk, contents = with_junk
    cells = {kind: [tifffile.imread(junk / c) for c in rows["cell"]] for kind, rows in contents.groupby("kind")}
    assert all((cell == 4095).mean() > 0.001 for cell in cells["saturated"])
    assert not any((cell == 4095).any() for cell in cells["cell"])
    # A fragment darkens or brightens few pixels, and a cell that is cut off some at the border.
    spread = {kind: np.median([cell.std() / cell.mean() for cell in cells[kind]]) for kind in cells}
    assert spread["debris"] < spread["cell"] < spread["doublet"]
    at_border = {kind: np.median([border(cell).std() / cell.mean() for cell in cells[kind]]) for kind in cells}
    assert at_border["clipped"] > 2 * at_border["cell"]


def test_names_match_the_pattern_of_the_project(drawn):
    reader = PathParser(load(ROOT / "params.yaml").dataset)
    paths = list(list_files(drawn))
    facts = [reader.read(path) for path in paths]
    assert len(paths) == SMALL.cells * (1 + SMALL.marker_channels)
    assert all(name is not None for name in facts)
    assert {name.facts["channel"] for name in facts} == {"1", "2", "3"}
    assert all(
        path.startswith(f"{name.facts['medium']}_{name.facts['day']}d") for path, name in zip(paths, facts, strict=True)
    )
    assert {name.facts["run"] for name in facts} == {"1", "2", "3"}


def test_cells_are_spread_evenly(drawn):
    counts = Counter(path.parent.name for path in drawn.glob("*/*_Ch1.ome.tif"))
    assert len(counts) == 24
    assert set(counts.values()) == {2, 3}
    assert {len(cells) for cells in brightfield(drawn).values()} == {13}


def test_a_file_is_one_12_bit_page_with_ome_xml_that_both_readers_take(drawn):
    path = drawn / "nt3_5d2" / "nt3_5d2_1_Ch2.ome.tif"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert len(tiff.pages) == 1
        assert tiff.pages[0].compression == 1
        pixels = tiff.series[0].asarray()
        described = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels.dtype == np.uint16
    assert pixels.max() < 4096
    assert (described["SizeY"], described["SizeX"]) == pixels.shape
    assert described["Channel"]["Name"] == "GFAP"
    [(header, decoded)] = images.decode(path.read_bytes(), path.name, 10**6)
    assert header.bit_depth == 12
    np.testing.assert_array_equal(decoded, pixels)


def test_crops_vary_within_the_canvas_and_not_with_the_medium(monkeypatch):
    # Only sizes are wanted, and many of them.
    monkeypatch.setattr(stage, "_write", lambda path, pixels, _: sizes[path.name.split("_")[0]].append(pixels))
    monkeypatch.setattr(acquisition_groups, "draw_cell", lambda *given: DrawnCell([given[4]], "cell", False))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    sizes: dict[str, list[tuple[int, int]]] = {medium: [] for medium in PAPER}
    many = SMALL.model_copy(update={"cells": 6000, "marker_channels": 0})
    for group in groups(many):
        stage.draw_group(many, group, Path("nowhere"))
    means = np.array([np.mean(found, axis=0) for found in sizes.values()])
    every = np.concatenate(list(sizes.values()))
    assert np.ptp(every, axis=0).min() >= 18
    assert (every.min(axis=0) >= (36, 48)).all()
    assert (every.max(axis=0) <= (56, 76)).all()
    assert np.ptp(means, axis=0).max() < 1  # px; the standard error of each mean is 0.12 and 0.15


def test_with_a_full_shortcut_the_background_orders_the_media(tmp_path):
    few = SMALL.model_copy(update={"shortcut": 1.0, "days": [1], "cells": 48, "marker_channels": 0})
    simulate(few, tmp_path / "data", workers=1)
    levels = [
        np.array([np.median(border(cell)) for cell in cells]) for cells in brightfield(tmp_path / "data").values()
    ]
    means = [level.mean() for level in levels]
    assert means == sorted(means)
    assert min(np.diff(means)) > 40


def test_the_cell_stands_out_from_a_background_like_that_of_a_camera(drawn):
    cells = [cell for found in brightfield(drawn).values() for cell in found]
    levels = np.array([np.median(border(cell)) for cell in cells])
    contrast = np.array([np.ptp(cell.astype(float)) for cell in cells]) / levels
    assert levels.min() > 500
    assert levels.max() < 1000
    assert np.quantile(contrast, 0.05) > 0.1


def test_a_marker_follows_the_fate(tmp_path):
    late = SMALL.model_copy(update={"days": [5], "cells": 48})
    simulate(late, tmp_path / "data", workers=1)

    def signal(medium: str, channel: int) -> float:
        files = tmp_path.glob(f"data/{medium}_*/*_Ch{channel}.ome.tif")
        return float(np.mean([tifffile.imread(file).mean() for file in files]))

    assert signal("a", 2) > signal("o", 2)
    assert signal("o", 3) > signal("a", 3)


def test_the_origin_says_that_all_of_it_was_drawn(drawn):
    origin = json.loads((drawn / ORIGIN).read_text())
    assert origin == {
        "origin": "simulated",
        "generator": "fatescope data simulate",
        "seed": 7,
        "params": SMALL.model_dump(
            mode="json", exclude={"focus_shift", "noise_shift", "gain_shift", "junk", "darkfield", "frames", "media"}
        ),
    }


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.tif").write_bytes(b"precious")
    with pytest.raises(DataError, match=r"already holds files.*move or delete"):
        simulate(SMALL, tmp_path, workers=1)
    assert (tmp_path / "mine.tif").read_bytes() == b"precious"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "data").mkdir()
    simulate(SMALL.model_copy(update={"cells": 4, "marker_channels": 0}), tmp_path / "data", workers=1)
    assert len(list(tmp_path.glob("data/*/*.tif"))) == 4


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, failure):
    written: list[Path] = []

    def write(path: Path, _pixels: np.ndarray, _channel: int) -> None:
        if len(written) == 5:
            raise failure
        path.touch()
        written.append(path)

    monkeypatch.setattr(stage, "_write", write)
    with pytest.raises(type(failure)):
        simulate(SMALL, tmp_path / "data", workers=1)
    assert written
    assert list(tmp_path.iterdir()) == []


def test_the_origin_tells_what_was_planted(tmp_path):
    planted = SMALL.model_copy(update={"cells": 4, "days": [1], "runs": 1, "focus_shift": 0.5})
    simulate(planted, tmp_path / "data", workers=1)
    params = json.loads((tmp_path / "data" / ORIGIN).read_text())["params"]
    assert params["focus_shift"] == 0.5
    assert "noise_shift" not in params


def test_darkfield_is_drawn_beside_the_other_channels_which_stay_as_they_are(drawn, tmp_path):
    simulate(SMALL.model_copy(update={"darkfield": True}), tmp_path / "data", workers=1)
    ours, without = hashes(tmp_path / "data"), hashes(drawn)
    assert {name for name in ours if ours[name] != without.get(name)} - {ORIGIN} == {
        name.replace("_Ch1.", "_Ch12.") for name in without if "_Ch1." in name
    }
    for path in sorted((tmp_path / "data").glob("*/*_Ch12.ome.tif"))[:10]:
        scatter = tifffile.imread(path)
        assert scatter.shape == tifffile.imread(path.with_name(path.name.replace("_Ch12.", "_Ch1."))).shape
        assert 40 < background(scatter) < 90  # no lamp: offset, and what scatters at the rim
        assert np.quantile(scatter, 0.99) > background(scatter) + 20


def test_what_granules_scatter_tells_media_apart_a_little(tmp_path):
    simulate(SMALL.model_copy(update={"darkfield": True, "cells": 480, "days": [5]}), tmp_path / "data", workers=1)
    total = {
        medium: [
            float(np.log(np.clip(tifffile.imread(path) - 50.0, 1, None).mean()))
            for path in sorted((tmp_path / "data").glob(f"{medium}_*/*_Ch12.ome.tif"))
        ]
        for medium in ("a", "n")
    }
    granular, smooth = np.array(total["a"]), np.array(total["n"])
    area = (granular[:, None] > smooth[None]).mean()
    assert 0.55 < area < 0.9


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    target = tmp_path_factory.mktemp("followed") / "data"
    simulate(SMALL.model_copy(update={"frames": 3, "cells": 24, "days": [1], "runs": 3}), target, workers=1)
    return target


def test_images_of_one_cell_have_the_hour_in_their_names_and_are_a_track(followed):
    dataset = Dataset.read(get_preset("followed").values()["dataset"])
    reader = PathParser(dataset)
    found = Counter()
    for path in list_files(followed):
        parsed = reader.read(path)
        if reader.is_input(parsed):
            found[parsed.group, frame_of(parsed.facts, dataset)] += 1
    assert set(found.values()) == {1}
    assert len(found) == 24 * 3
    assert {time for _, (_, time) in found} == {0.0, 6.0, 12.0}
    assert json.loads((followed / ORIGIN).read_text())["params"]["frames"] == 3


def test_a_cell_stays_what_it_is_from_image_to_image_and_no_two_images_are_the_same(followed):
    files = hashes(followed)
    assert len(set(files.values())) == len(files)
    cell = SMALL.model_copy(update={"frames": 20, "cells": 4, "days": [5], "runs": 1, "marker_channels": 0})
    images = [drawn.channels[0] for drawn in draw_cells(cell, Group("a", 5, 1, 12))]
    # How dark a cell is follows from its size and granules, which are its own, and from focus, which is the image's.
    darkness = np.array([(image < 0.93 * np.median(image)).sum() for image in images], float).reshape(12, 20)
    within, between = darkness.var(axis=1).mean(), darkness.mean(axis=1).var()
    assert between > 2 * within / 20
