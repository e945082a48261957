"""What is kept for longer than its retention time goes, by kind; by default what was kept stays."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from fatescope import audit_log, audit_verification, retention
from fatescope.data import corrections
from fatescope.retention import DAY_S, Kept, Place
from service.api import state
from service.settings import ServiceSettings

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def days_ago(days):
    return (NOW - timedelta(days=days)).isoformat()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Of each kind something of 1 and of 10 days ago."""
    monkeypatch.setenv(audit_log.VARIABLE, str(tmp_path / "audit"))
    for days in (1, 10):
        record = tmp_path / "records" / "binary" / f"{days}.parquet"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()
        os.utime(record, ((NOW - timedelta(days=days)).timestamp(),) * 2)
        own = f"{days:012x}"
        image = tmp_path / "feedback" / own / "cell.tif"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"cell")
        with corrections.locked(tmp_path / "feedback") as file:
            file.write(json.dumps({"time": days_ago(days), "sha256": own, "path": f"{own}/cell.tif"}) + "\n")
        for name, ended in (("ended", days_ago(days)), ("open", None)):
            incident = tmp_path / "incidents" / f"{name}{days}" / "incident.json"
            incident.parent.mkdir(parents=True)
            incident.write_text(json.dumps({"ended": ended}))
    return tmp_path


def kept(folders, **days):
    places = {"records": "records", "feedback": "feedback", "images": "feedback", "incidents": "incidents"}
    return Kept(**{kind: Place(folders / places[kind], days.get(kind)) for kind in places})


def apply(folders, *, dry_run=False, **days):
    return retention.apply(kept(folders, **days), NOW.timestamp(), dry_run=dry_run)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_without_a_time_all_is_kept(folders):
    assert apply(folders) == {}
    assert names(folders / "records" / "binary") == ["1.parquet", "10.parquet"]


def test_each_kind_has_its_time(folders):
    times = {"records": 5, "incidents": 5, "images": 5}
    expected = {"records": 1, "images": 1, "incidents": 1}
    assert apply(folders, dry_run=True, **times) == expected
    assert apply(folders, **times) == expected
    assert names(folders / "records" / "binary") == ["1.parquet"]
    assert names(folders / "incidents") == ["ended1", "open1", "open10"], "one that goes on is needed"
    assert [line["path"] for line in corrections.read(folders / "feedback")] == [f"{1:012x}/cell.tif", None]
    assert names(folders / "feedback") == [f"{1:012x}", "corrections.jsonl"]
    entries = [(entry.subject, entry.evidence["removed"]) for entry in audit_log.read(folders / "audit")]
    assert entries == [("images", 1), ("incidents", 1)]

    assert apply(folders, dry_run=True, feedback=5) == apply(folders, feedback=5) == {"feedback": 1}
    assert len(list(corrections.read(folders / "feedback"))) == 1
    assert apply(folders, feedback=5, images=5) == {"feedback": 0, "images": 0}


def test_an_image_that_a_newer_correction_refers_to_stays(folders):
    own = f"{10:012x}"
    with corrections.locked(folders / "feedback") as file:
        file.write(json.dumps({"time": days_ago(2), "sha256": own, "path": f"{own}/cell.tif"}) + "\n")
    assert apply(folders, images=5) == {"images": 0}
    assert (folders / "feedback" / own / "cell.tif").exists()


def test_batches_of_cells_to_label_are_kept_as_long_as_corrections_and_longer_than_records(folders):
    queue = folders / "records" / "binary" / "queue"
    queue.mkdir()
    for days in (1, 10):
        (queue / f"{days}.parquet").touch()
        os.utime(queue / f"{days}.parquet", ((NOW - timedelta(days=days)).timestamp(),) * 2)
    assert apply(folders, records=5) == {"records": 1}
    assert names(queue) == ["1.parquet", "10.parquet"]
    settings = ServiceSettings(
        records=folders / "records", feedback=folders / "feedback", audit_log=folders / "audit",
        retention_days=5, retention_feedback_days=5,
    )  # fmt: skip
    assert retention.apply(state.kept(settings), NOW.timestamp()) == {"records": 0, "feedback": 1, "queue": 1}
    assert names(queue) == ["1.parquet"]


def test_old_entries_of_the_audit_log_go_and_the_chain_holds(folders):
    for number in range(3):
        audit_log.append("signature", str(number))
    place = Kept(audit_log=Place(folders / "audit", 1))
    later = datetime.now(UTC).timestamp() + 2 * DAY_S
    assert retention.apply(place, later, dry_run=True) == {"audit_log": 2}
    assert retention.apply(place, later) == {"audit_log": 2}
    assert audit_verification.verify(folders / "audit").damage is None
