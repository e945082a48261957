"""An alias that was moved by hand is entered into the audit log, once."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from fatescope import alias_moves, audit_log, audit_verification
from fatescope.alias_moves import AliasWatch, Version

CHAMPION, CHALLENGER = ("fatescope-binary", "champion"), ("fatescope-binary", "challenger")
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(alias_moves, "SETTLING", timedelta(0))


@pytest.fixture
def watch(tmp_path):
    """A watch whose log says that a person gave the alias to version 1."""
    subject = {"model": CHAMPION[0], "alias": CHAMPION[1], "version": "1"}
    audit_log.append("promotion", subject, who="ann", folder=tmp_path)
    return AliasWatch(tmp_path)


def looked(watch, current, versions=None):
    entries = watch.look(current, lambda _, version: (versions or {}).get(version))
    return [(entry.what, entry.who, entry.subject["version"], entry.evidence["by"]) for entry in entries]


def test_a_move_by_hand_is_entered_once_whoever_looks(watch, tmp_path):
    assert looked(watch, {CHAMPION: "1"}) == []
    assert looked(watch, {CHAMPION: "2"}) == [("alias moved", "unknown", "2", "hand")]
    assert looked(watch, {CHAMPION: "2"}) == []
    assert looked(AliasWatch(tmp_path), {CHAMPION: "2"}) == []
    assert looked(watch, {}) == [("alias moved", "unknown", "", "hand")], "an alias that was taken away"
    assert looked(watch, {}) == []
    assert [entry.evidence["replaced"] for entry in audit_log.read(tmp_path) if entry.what == "alias moved"] == [
        "1",
        "2",
    ]
    assert audit_verification.verify(tmp_path).damage is None


def test_another_process_that_was_faster_is_not_repeated(watch, tmp_path, monkeypatch):
    watch.look({CHAMPION: "1"}, lambda *_: None)
    other = AliasWatch(tmp_path)
    # As if both had read the log before either wrote.
    monkeypatch.setattr(watch, "_read", lambda: None)
    assert looked(other, {CHAMPION: "2"}) == [("alias moved", "unknown", "2", "hand")]
    assert looked(watch, {CHAMPION: "2"}) == []


def test_what_a_log_does_not_know_yet_is_no_move(tmp_path):
    assert looked(AliasWatch(tmp_path), {CHAMPION: "3"}) == [("alias first seen", "unknown", "3", "before this log")]
    assert looked(AliasWatch(tmp_path), {CHAMPION: "3", CHALLENGER: "4"}) == [("alias moved", "unknown", "4", "hand")]


def test_what_fatescope_did_on_another_machine_is_told_by_the_tags(watch):
    record = {"who": "bob", "when": LATER.isoformat(timespec="seconds"), "why": "because"}
    promoted = Version({"promoted": json.dumps(record)}, LATER)
    assert looked(watch, {CHAMPION: "2"}, {"2": promoted}) == [("alias moved", "bob", "2", "person")]
    gated = Version({"gate": json.dumps({"champion": True})}, LATER)
    assert looked(watch, {CHAMPION: "3"}, {"2": promoted, "3": gated}) == [("alias moved", "gate", "3", "gate")]
    back = Version({"gate": json.dumps({"champion": True}), "rolled_back": json.dumps(record | {"to": "2"})}, LATER)
    assert looked(watch, {CHAMPION: "2"}, {"2": promoted, "3": back}) == [("alias moved", "bob", "2", "person")]


def test_tags_of_an_older_act_do_not_explain_a_move_by_hand(watch):
    early = datetime(2026, 1, 1, tzinfo=UTC)
    record = {"who": "bob", "when": early.isoformat(), "why": "because"}
    tags = {"promoted": json.dumps(record), "gate": json.dumps({"champion": True})}
    assert looked(watch, {CHAMPION: "2"}, {"2": Version(tags, early)}) == [("alias moved", "unknown", "2", "hand")]


def test_the_log_may_be_ahead_of_the_registry_for_a_moment(watch, monkeypatch):
    monkeypatch.setattr(alias_moves, "SETTLING", timedelta(hours=1))
    assert looked(watch, {CHAMPION: "0"}) == []


@pytest.mark.parametrize(
    "tag", ["[" * 50_000, "{", json.dumps({"when": LATER.isoformat()}),
            json.dumps({"when": LATER.isoformat(), "who": {}, "why": ""})],
    ids=["too deep", "no JSON", "nobody", "who is no text"],
)  # fmt: skip
def test_tags_of_anybodys_making_explain_nothing_and_end_nothing(watch, tag):
    made = Version({"promoted": tag, "gate": tag}, LATER)
    assert looked(watch, {CHAMPION: "2"}, {"2": made}) == [("alias moved", "unknown", "2", "hand")]
