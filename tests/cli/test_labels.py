"""`fatescope labels`: a sheet is written, filled in and read."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fatescope.cli.app import app
from fatescope.data.crops import pixel_hash
from fatescope.inference import label_queue
from fatescope.inference.bundle import read_spec
from fatescope.inference.label_sheet import write_sheet
from fatescope.inference.labels import read_labels
from service.inference.decoding import CellDecoder
from service.inference.files import Upload
from tests.support import native
from tests.support.bundles import COMMITTED
from tests.support.images import draw_cell, tiff
from tests.support.servers import free_port

CELLS = 110


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with images, records of them, and a batch that was drawn."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    crops = [draw_cell(rng, 40 + i % 5, 60) for i in range(CELLS)]
    (tmp_path / "export" / "deeper").mkdir(parents=True)
    for number, crop in enumerate(crops[:-1]):
        (tmp_path / "export" / "deeper" / f"c{number}.tif").write_bytes(tiff(crop))
    (tmp_path / "export" / "notes.txt").write_text("no image")
    share = rng.random(CELLS)
    rows = pd.DataFrame(
        {
            "cell": np.arange(CELLS),
            "image_hash": [pixel_hash(crop) for crop in crops],
            "request_id": "ab12",
            "time": pd.Timestamp("2026-11-24", tz="UTC").as_unit("us"),
            "label": np.where(share > 0.5, "a", "b"),
            "verdict": "sure",
            "p_a": share,
            "p_b": 1 - share,
        }
    )
    records = tmp_path / "records" / "binary"
    records.mkdir(parents=True)
    label_queue.write_table(rows, records / "20261124T000000-3-1-1-1a2b3c4d.parquet")
    label_queue.draw_batch(tmp_path / "records", "binary", "3", np.array([0.5, 0.5]), count=CELLS)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["labels", *arguments])


def fill(path, labels):
    with path.open(newline="") as sheet:
        rows = list(csv.DictReader(sheet))
    with path.open("w", newline="") as sheet:
        writer = csv.DictWriter(sheet, rows[0].keys())
        writer.writeheader()
        writer.writerows([row | {"label": label} for row, label in zip(rows, labels, strict=True)])
    return rows


def test_a_sheet_names_the_file_of_each_cell_and_what_is_filled_in_is_kept(folder):
    written = run("sheet", "binary", "--images", "export")
    assert written.exit_code == 0
    assert written.output.startswith(f"{CELLS} cells in sheet.csv, {CELLS - 1} of them with their file")
    rows = fill(folder / "sheet.csv", ["a", "?", "b"] + [""] * (CELLS - 3))
    assert all(row["file"] in ("", f"deeper/c{row['cell'].partition('-')[2]}.tif") for row in rows)
    assert run("read", "binary", "sheet.csv").output.startswith("3 labels of sheet.csv kept in feedback")
    [batch] = label_queue.read_batches(folder / "records", "binary", "3")
    assert batch.first(read_labels(folder / "feedback")).tolist() == [0, label_queue.UNTOLD, 1]
    assert run("sheet", "binary").output.startswith(f"{CELLS - 3} cells in sheet.csv;")


def test_a_sheet_names_file_and_object_of_cells_in_native_files(folder):
    """In whichever channel, also where the end of a file is damaged or another one is none."""
    [batch] = label_queue.read_batches(folder / "records", "binary", "3")
    objects = native.draw_objects(4, (1, 5), seed=3)
    raw = native.native(objects, xml=native.acquisition_xml(channels=(1, 5), brightfield=(5,)))
    (folder / "native").mkdir()
    (folder / "native" / "whole.cif").write_bytes(raw)
    (folder / "native" / "none.rif").write_bytes(b"no native file")
    cells = CellDecoder(read_spec(COMMITTED / "multiclass")).decode(Upload(b"", "x.cif", file=io.BytesIO(raw)))
    sent = {cell.object: pixel_hash(cell.native) for cell in cells}
    assert len(sent) == 4
    hashes = batch.rows["image_hash"].to_numpy().copy()
    hashes[:4] = list(sent.values())
    changed = replace(batch, rows=batch.rows.assign(image_hash=hashes))
    assert write_sheet(changed.rows, folder / "sheet.csv", folder / "native") == 4
    rows = fill(folder / "sheet.csv", [""] * CELLS)
    assert [row["file"] for row in rows] == [f"whole.cif, object {number}" for number in sent] + [""] * (CELLS - 4)
    (folder / "native" / "whole.cif").write_bytes(raw[: len(raw) * 3 // 4])
    assert 0 < write_sheet(changed.rows, folder / "sheet.csv", folder / "native") < 4


def test_cells_on_which_people_disagree_are_a_sheet_of_their_own_and_what_is_read_back_decides(folder):
    [batch] = label_queue.read_batches(folder / "records", "binary", "3")
    cells, feedback = batch.rows["cell"].tolist(), folder / "feedback"
    feedback.mkdir()
    said = [("ann", cells[0], "a"), ("ann", cells[1], "a"), ("bob", cells[0], "b"), ("bob", cells[1], "a")]
    lines = [json.dumps({"task": "binary", "by": by, "cell": cell, "label": label}) for by, cell, label in said]
    (feedback / "corrections.jsonl").write_text("\n".join(lines) + "\n")
    assert run("sheet", "binary", "--disputed").output.startswith("1 cell in sheet.csv;")
    assert [row["cell"] for row in fill(folder / "sheet.csv", ["b"])] == [cells[0]]
    run("read", "binary", "sheet.csv")
    assert batch.first(read_labels(feedback)).tolist() == [1, 0]
    assert run("sheet", "binary", "--disputed").output.startswith("0 cells")


def test_a_label_that_is_no_class_is_refused_with_its_row_and_nothing_is_kept(folder):
    run("sheet", "binary")
    fill(folder / "sheet.csv", ["a", "neuron"] + [""] * (CELLS - 2))
    refused = run("read", "binary", "sheet.csv")
    assert "sheet.csv, row 3: 'neuron' is not one of a, b" in str(refused.exception)
    assert not (folder / "feedback").exists()


def test_without_a_batch_the_command_says_how_to_draw_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "run `fatescope labels draw binary`" in str(run("sheet", "binary").exception)


def test_a_service_that_is_elsewhere_can_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("draw", "status"):
        told = str(run(command, "binary", "--service", f"http://127.0.0.1:{free_port()}").exception)
        assert "or name another address with --service" in told
