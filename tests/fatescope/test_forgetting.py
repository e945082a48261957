"""A person's sample is deleted everywhere, and the proof says so without telling of whom."""

import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fatescope import audit_log, forgetting
from fatescope.data import corrections
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.errors import DataError
from fatescope.forgetting import Places, Selection, deletion, images, tables
from fatescope.inference import label_queue
from fatescope.inference.labels import append_labels, read_labels

SAMPLE, CELLS = "donor-jane", 6


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Cells of two donors in each place: three of each."""
    monkeypatch.setenv(audit_log.VARIABLE, str(tmp_path / "log"))
    found = Places(*(tmp_path / name for name in ("records", "incidents", "feedback", "data", "artifacts")))
    donors = [SAMPLE] * 3 + ["donor-john"] * 3
    raws = [f"cell {number}".encode() for number in range(CELLS)]
    paths = [f"{donor}/a_1d1_{number}_Ch1.tif" for number, donor in enumerate(donors)]
    for path, raw in zip(paths, raws, strict=True):
        (found.data / path).parent.mkdir(parents=True, exist_ok=True)
        (found.data / path).write_bytes(raw)
    # A copy under another name, and what is said of images beside them.
    (found.data / "copy.tif").write_bytes(raws[0])
    write_table(
        found.data / LABELS, {f"{SAMPLE}/": Label("a", ""), paths[3]: Label("a", ""), "copy.tif": Label("o", "")}
    )
    origin = {"groups": [SAMPLE, "donor-john"], "sources": [{"name": f"{SAMPLE}.zip", "files": 3}, {"name": "b.zip"}]}
    (found.data / "origin.json").write_text(json.dumps(origin))

    cells = found.artifacts / "cells"
    cells.mkdir(parents=True)
    manifest = {"cell_id": paths, "path": paths, "group": donors, "sha256": [digest(raw) for raw in raws]}
    pq.write_table(pa.table(manifest), cells / "manifest.parquet", row_group_size=2)
    np.save(cells / "pixels.npy", np.arange(CELLS)[:, None, None] * np.ones((1, 2, 2), np.uint16))
    (cells / "summary.json").write_text("{}")
    pq.write_table(pa.table({"cell_id": paths, "random": ["train"] * CELLS}), found.artifacts / "splits.parquet")

    rows = pa.table({"request_id": ["r1", "r1", "r2", "r3"], "p_a": [0.1, 0.2, 0.3, 0.4]})
    for path in (
        found.records / "binary" / "20261126T120000-1-1-0-a.parquet",
        found.incidents / "i" / "window.parquet",
    ):
        path.parent.mkdir(parents=True)
        pq.write_table(rows, path)

    found.feedback.mkdir()
    with (found.feedback / "corrections.jsonl").open("w") as file:
        for path, raw in zip(paths, raws, strict=True):
            own = digest(raw)[:12]
            (found.feedback / own / path).parent.mkdir(parents=True)
            (found.feedback / own / path).write_bytes(raw)
            line = {"time": "2026-11-26T12:00:00+00:00", "sha256": digest(raw), "path": f"{own}/{path}", "group": "g"}
            file.write(json.dumps(line) + "\n")
        # Of the same cell, without consent to keep the image.
        file.write(json.dumps({"sha256": digest(raws[1]), "path": None}) + "\n")
    write_table(found.feedback / LABELS, {f"{digest(raw)[:12]}/{path}": Label("a", "g")
                                          for path, raw in zip(paths, raws, strict=True)})  # fmt: skip
    return found


def everything(folder):
    """Return all that is below a folder: names, and the content of files, of tables as text."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path.relative_to(folder)))
        if path.suffix == ".parquet":
            parts.append(str(pq.read_table(path).to_pydict()))
        elif path.is_file() and path.suffix != ".npy":
            parts.append(path.read_text())
    return "\n".join(parts)


def counts(found):
    return {one.place: one.selected for one in found}


def test_a_dry_run_says_where_a_sample_is_and_changes_nothing(places, tmp_path):
    before = everything(tmp_path)
    found, selection = forgetting.find(places, Selection(samples=frozenset({SAMPLE}), requests=frozenset({"r1"})))
    assert counts(found) == {
        "records": 2,
        "incidents": 2,
        "artifacts": 6,  # manifest and splits
        "feedback": 7,  # three lines, one without an image, three images
        "data": 8,  # three images and a copy, two rows of labels, a group and an export
    }
    assert len(selection.hashes) == 3
    assert everything(tmp_path) == before


def test_a_sample_goes_everywhere_and_the_proof_tells_nobody_of_whom(places, tmp_path):
    other = (places.records / "binary" / "20261126T120000-1-1-0-a.parquet").stat().st_mtime_ns
    selection = Selection(samples=frozenset({SAMPLE}), requests=frozenset({"r1"}))
    proof = forgetting.forget(places, selection, "ann", settle_s=0)
    assert proof["complete"]
    lines = {line["place"]: line for line in proof["places"]}
    assert {name: (line["found"], line["remaining"]) for name, line in lines.items()} == {
        "records": (2, 0), "incidents": (2, 0), "artifacts": (6, 0), "feedback": (7, 0), "data": (8, 0),
    }  # fmt: skip
    assert (lines["records"]["items_before"], lines["records"]["items_after"]) == (4, 2)
    assert all(line["digest_before"] != line["digest_after"] for line in lines.values())

    text = everything(tmp_path)
    gone = [digest(f"cell {number}".encode()) for number in range(3)]
    assert not [name for name in (SAMPLE, "r1", *gone, *(name[:12] for name in gone)) if name in text]
    assert text.count("donor-john") > 10, "the other sample is where it was"
    assert np.load(places.artifacts / "cells" / "pixels.npy")[:, 0, 0].tolist() == [3, 4, 5]
    assert pq.read_table(places.artifacts / "cells" / "manifest.parquet")["group"].to_pylist() == ["donor-john"] * 3
    assert set(read_table(places.data / LABELS)) == {"donor-john/a_1d1_3_Ch1.tif"}
    assert json.loads((places.data / "origin.json").read_text()) == {
        "groups": ["donor-john"], "sources": [{"name": "b.zip"}],
    }  # fmt: skip
    assert (places.records / "binary" / "20261126T120000-1-1-0-a.parquet").stat().st_mtime_ns == other, (
        "its time of retention is that of its rows"
    )
    [entry] = audit_log.read(tmp_path / "log")
    assert (entry.what, entry.who, entry.evidence["complete"]) == ("deletion", "ann", True)
    assert entry.evidence["proof_sha256"] == digest(json.dumps(proof, sort_keys=True).encode())
    assert not [name for name in (SAMPLE, "jane", "r1", *gone) if name in str(entry) + json.dumps(proof)]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(hashes=frozenset({digest(b"cell 1")})),
        Selection(paths=frozenset({"a_1d1_1_Ch1.tif"})),
        Selection(paths=frozenset({f"{SAMPLE}/*_1_*"})),
    ],
)
def test_an_image_is_found_by_its_hash_and_by_its_name_also_where_the_other_is_known(places, selection):
    proof = forgetting.forget(places, selection, "ann", settle_s=0)
    assert proof["complete"]
    found = {line["place"]: line["found"] for line in proof["places"]}
    assert (found["data"], found["artifacts"]) == (1, 2), "of the image, its cell, its split"
    assert found["feedback"] == 3, "also the line without an image"
    assert digest(b"cell 1")[:12] not in everything(places.feedback)


def test_a_group_is_a_sample_too(places):
    proof = forgetting.forget(
        places,
        Selection(samples=frozenset({"g7"})),
        "ann",
        group_of=lambda path: "g7" if "_4_" in path else "g",
        settle_s=0,
    )
    assert {line["place"]: line["found"] for line in proof["places"]}["data"] == 1
    assert not list(places.data.rglob("*_4_*"))


def test_what_a_service_is_writing_is_left_alone_and_what_it_deletes_meanwhile_is_no_error(places, monkeypatch):
    folder = places.records / "binary"
    part = folder / ".20261126T120001-1-1-1-a.parquet"
    part.write_bytes(b"half of a table")
    (folder / "20261126T110000-1-1-1-a.parquet").write_bytes((folder / "20261126T120000-1-1-0-a.parquet").read_bytes())
    rewrite = tables._rewrite

    def expire_first(path, *arguments):
        if "T110000" in path.name:
            path.unlink()
        rewrite(path, *arguments)

    monkeypatch.setattr(tables, "_rewrite", expire_first)
    proof = forgetting.forget(places, Selection(requests=frozenset({"r1"})), "ann", settle_s=0)
    assert proof["complete"]
    assert part.read_bytes() == b"half of a table"


def test_a_correction_that_is_sent_meanwhile_is_not_lost(places):
    """A service that waits for the lock of the file that is replaced writes to the new one."""
    started = threading.Event()

    def send():
        started.set()
        with corrections.locked(places.feedback) as file:
            file.write(json.dumps({"sha256": "new"}) + "\n")

    with corrections.locked(places.feedback):
        sender = threading.Thread(target=send)
        sender.start()
        started.wait()
        path = places.feedback / "corrections.jsonl"
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
    sender.join()
    assert [line["sha256"] for line in corrections.read(places.feedback)][-1] == "new"


def test_what_is_left_makes_a_proof_incomplete(places, monkeypatch):
    monkeypatch.setattr(images, "remove", lambda *_: None)
    proof = forgetting.forget(places, Selection(samples=frozenset({SAMPLE})), "ann", settle_s=0)
    assert not proof["complete"]
    assert not next(audit_log.read(Path(audit_log.configured()))).evidence["complete"]


def test_a_selection_of_nothing_or_of_everything_is_refused():
    for selection, message in (
        (Selection(), "say what"),
        (Selection(paths=frozenset({"**/*"})), "is of every file"),
        (Selection(hashes=frozenset({"12"})), "not a SHA-256"),
        (Selection(samples=frozenset({""})), "an option is empty"),
        (Selection(requests=frozenset({"r1", " "})), "an option is empty"),
    ):
        with pytest.raises(DataError, match=message):
            forgetting.check(selection)


def test_records_and_labels_with_hashes_of_pixels_are_found_by_the_image(places):
    """Where the manifest, the prediction log and corrections have them, no request has to be named."""
    manifest = places.artifacts / "cells" / "manifest.parquet"
    hashes = [-7, 1, 2, 3, 4, 5]
    pq.write_table(pq.read_table(manifest).append_column("pixel_hash", [hashes]), manifest)
    rows = pa.table({"request_id": ["r7", "r8"], "cell": [0, 0], "image_hash": [-7, 4]})
    pq.write_table(rows, places.records / "binary" / "20261126T130000-1-1-0-b.parquet")
    with corrections.locked(places.feedback) as file:
        for cell, pixels in (("r7-0", -7), ("r1-1", 99), ("r8-0", 4)):
            file.write(json.dumps({"cell": cell, "image_hash": pixels, "sha256": None, "path": None}) + "\n")
    selection = Selection(hashes=frozenset({digest(b"cell 0")}), requests=frozenset({"r1"}))
    assert forgetting.forget(places, selection, "ann", settle_s=0)["complete"]
    assert pq.read_table(places.records / "binary" / "20261126T130000-1-1-0-b.parquet")["request_id"].to_pylist() == [
        "r8"
    ]
    assert [line["cell"] for line in corrections.read(places.feedback) if "cell" in line] == ["r8-0"]


CELLS_OF_TWO = 120
"""Of two persons in turn, whose requests are `jane` and `john`."""


def pixels_of(number):
    """Return what the image of a cell is called in records: no two are alike, and zero is none."""
    return 10 * number - 7


@pytest.fixture
def live(tmp_path, monkeypatch):
    """The records of a service with cells of two persons, a batch that is drawn of them, and what a challenger said."""
    monkeypatch.setenv(audit_log.VARIABLE, str(tmp_path / "log"))
    found = Places(records=tmp_path / "records", feedback=tmp_path / "feedback")
    folder = found.records / "binary"
    (folder / "shadow").mkdir(parents=True)
    numbers = range(CELLS_OF_TWO)
    columns = {
        "time": pa.array([1_764_000_000_000_000 + number for number in numbers], pa.timestamp("us", tz="UTC")),
        "request_id": ["john" if number % 2 else "jane" for number in numbers],
        "cell": pa.array([number // 2 for number in numbers], pa.int32()),
        "image_hash": [pixels_of(number) for number in numbers],
    }
    answers = {
        "label": ["a"] * CELLS_OF_TWO, "verdict": ["plausible"] * CELLS_OF_TWO,
        "p_a": [0.6] * CELLS_OF_TWO, "p_b": [0.4] * CELLS_OF_TWO,
    }  # fmt: skip
    pq.write_table(pa.table(columns | answers), folder / "20261126T120000-7-1-0-a.parquet")
    shadow = folder / "shadow"
    # There, a cell has the number of its row in a call of the network.
    columns |= {"cell": [0] * CELLS_OF_TWO, "challenger": ["8"] * CELLS_OF_TWO}
    pq.write_table(pa.table(columns), shadow / "20261126T120000-7-8-1-0-a.parquet")
    # A label belongs to no request.
    labels = columns | {"request_id": [""] * CELLS_OF_TWO}
    pq.write_table(pa.table(labels), shadow / "labels-20261126T120000-7-8-1-0-a.parquet")
    (shadow / "taken_back.json").write_text('{"8": {"reason": "alarm"}}')
    return found


def draw(places):
    return label_queue.draw_batch(places.records, "binary", "7", np.array([0.5, 0.5]))


def draw_in_vain(places):
    with pytest.raises(DataError, match="60 cells were recorded"):
        draw(places)


def of_whom(places, pattern):
    """Return of how many rows the tables in the records are, of each of the two."""
    counted = [0, 0]
    for path in places.records.glob(pattern):
        for pixels in pq.read_table(path)["image_hash"].to_pylist():
            counted[(pixels + 7) // 10 % 2] += 1
    return counted


@pytest.mark.parametrize(
    "selection",
    [
        Selection(requests=frozenset({"jane"})),
        # As of images in the data, by whose manifest their pixels are known.
        Selection(pixels=frozenset(str(pixels_of(number)) for number in range(0, CELLS_OF_TWO, 2))),
    ],
)
def test_a_sample_goes_from_the_queue_and_from_what_challengers_answered_and_does_not_come_back(live, selection):
    drawn = draw(live)
    proof = forgetting.forget(live, selection, "ann", settle_s=0)
    assert proof["complete"]
    for pattern in ("binary/2*.parquet", "binary/shadow/2*.parquet", "binary/shadow/labels-*.parquet"):
        assert of_whom(live, pattern) == [0, CELLS_OF_TWO // 2], pattern
    assert json.loads((live.records / "binary" / "shadow" / "taken_back.json").read_text()) == {
        "8": {"reason": "alarm"}
    }

    # All that the queue knows of a batch stays, but for the rows.
    [batch] = label_queue.read_batches(live.records, "binary", "7")
    staying = drawn.rows[drawn.rows["cell"].str.startswith("john-")].reset_index(drop=True)
    assert 0 < len(staying) < len(drawn.rows)
    assert batch.rows["cell"].tolist() == staying["cell"].tolist()
    assert (batch.name, batch.cells, batch.following, batch.until, batch.variance) == (
        drawn.name, drawn.cells, drawn.following, drawn.until, drawn.variance,
    )  # fmt: skip
    assert batch.table.tolist() == drawn.table.tolist()
    assert batch.rows[["q_a", "size", "key"]].equals(staying[["q_a", "size", "key"]])
    with pytest.raises(DataError, match="0 cells were recorded since"):
        draw(live)


def test_a_batch_is_of_a_request_also_where_the_prediction_log_is_gone_after_its_retention_time(live):
    drawn = draw(live)
    for path in (*live.records.glob("binary/*.parquet"), *live.records.glob("binary/shadow/*.parquet")):
        path.unlink()
    # As a service has done before, which keeps what it has read.
    [before] = label_queue.read_batches(live.records, "binary", "7")
    assert any(cell.startswith("jane-") for cell in before.rows["cell"])
    assert forgetting.forget(live, Selection(requests=frozenset({"jane"})), "ann", settle_s=0)["complete"]
    [batch] = label_queue.read_batches(live.records, "binary", "7")
    assert batch.rows["cell"].tolist() == [cell for cell in drawn.rows["cell"] if cell.startswith("john-")]


def test_a_batch_of_one_person_alone_goes_and_its_time_stays(live):
    """So that what it was drawn from is not drawn from again."""
    drawn = draw(live)
    forgetting.forget(live, Selection(requests=frozenset({"jane", "john"})), "ann", settle_s=0)
    [batch] = label_queue.read_batches(live.records, "binary", "7")
    assert (len(batch.rows), batch.until) == (0, drawn.until)
    assert batch.targets(read_labels(live.feedback)).tolist() == []
    assert batch.estimate(batch.first(read_labels(live.feedback))) is None


def test_a_batch_that_is_drawn_while_a_sample_goes_has_none_of_it(live, monkeypatch):
    draw(live)
    for path in live.records.glob("binary/queue/*.parquet"):
        path.unlink()
    thin, drawing = tables._thin_tables, []

    def draw_first(folder, selection):
        drawing.append(threading.Thread(target=draw_in_vain, args=(live,)))
        drawing[0].start()
        drawing[0].join(0.3)
        assert drawing[0].is_alive(), "it waits until all rows are gone"
        thin(folder, selection)

    monkeypatch.setattr(tables, "_thin_tables", draw_first)
    assert forgetting.forget(live, Selection(requests=frozenset({"jane"})), "ann", settle_s=0)["complete"]
    drawing[0].join()
    assert not list(live.records.glob("binary/queue/*.parquet")), "the sixty that are left are too few"


def test_labels_that_name_a_cell_by_its_id_alone_go_with_it(live):
    """As those of the page for one of many cells in a file, of a sheet, and of the answer to a request for one."""
    append_labels(live.feedback, "binary", [("jane-3", "a"), ("john-3", "b"), ("jane", ""), ("john", "a")])
    pixels = Selection(pixels=frozenset({str(pixels_of(0)), str(pixels_of(6))}))
    proof = forgetting.forget(live, pixels, "ann", settle_s=0)
    assert proof["complete"]
    assert [line["cell"] for line in corrections.read(live.feedback)] == ["john-3", "john"]
    assert not [name for name in ("jane", "john") if name in json.dumps(proof)]


def test_a_correction_with_the_id_of_another_persons_cell_takes_nothing_of_that_person_along(live):
    with corrections.locked(live.feedback) as file:
        file.write(json.dumps({"cell": "john-3", "image_hash": pixels_of(0), "sha256": None, "path": None}) + "\n")
    draw(live)
    pixels = Selection(pixels=frozenset({str(pixels_of(0))}))
    assert forgetting.forget(live, pixels, "ann", settle_s=0)["complete"]
    assert list(corrections.read(live.feedback)) == []
    assert of_whom(live, "binary/2*.parquet") == [CELLS_OF_TWO // 2 - 1, CELLS_OF_TWO // 2]


def test_what_a_service_still_writes_is_waited_for_however_a_sample_is_named(live, monkeypatch):
    waited = []
    monkeypatch.setattr(deletion.time, "sleep", waited.append)
    forgetting.forget(live, Selection(paths=frozenset({"cell_3.tif"})), "ann")
    assert waited == [deletion.SETTLE_S]
