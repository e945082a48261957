"""The audit log is kept by several processes, and shows each kind of tampering."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from fatescope import audit_log, audit_verification
from fatescope.audit_log import AuditLogError, Entry, Head, writing
from fatescope.audit_log import entries as entry_format
from fatescope.errors import DataError

MOVED = {"model": "fatescope-binary", "alias": "champion"}


@pytest.fixture
def folder(tmp_path):
    """A log of five entries."""
    for number in range(1, 6):
        audit_log.append("promotion", MOVED | {"version": str(number)}, evidence={"why": "better"}, who="ann",
                         folder=tmp_path)  # fmt: skip
    return tmp_path


def damage(folder, kept=None):
    found = audit_verification.verify(folder, kept).damage
    return found and (found.line, found.reason)


def rewrite(folder, change):
    """Change the list of lines of the log."""
    path = folder / audit_log.FILE
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def forge(line, **changes):
    """Return a line with changes, and the hash that goes with them."""
    content = json.loads(line) | changes
    del content["hash"]
    return Entry(**content, hash=entry_format.digest(content)).line()


def test_an_entry_says_who_did_what_when_and_on_what_evidence(folder):
    entries = list(audit_log.read(folder))
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert (entries[0].who, entries[0].what, entries[0].subject["version"]) == ("ann", "promotion", "1")
    assert entries[0].evidence == {"why": "better"}
    assert datetime.fromisoformat(entries[0].time).tzinfo == UTC
    assert audit_log.read_head(folder) == entries[-1].head
    assert damage(folder) is None


def test_an_edited_line_is_named(folder):
    rewrite(folder, lambda lines: [*lines[:2], lines[2].replace(b"ann", b"bob"), *lines[3:]])
    assert damage(folder) == (3, "it was edited: it does not have the hash that it says")


def test_a_line_that_no_parser_takes_is_named_too(folder):
    rewrite(folder, lambda lines: [*lines[:2], b"[" * 50_000 + b"\n", *lines[3:]])
    assert damage(folder) == (3, "it was edited: it does not have the hash that it says")


def test_a_second_value_for_a_key_is_an_edit_too(folder):
    rewrite(folder, lambda lines: [lines[0].replace(b'"who"', b'"who":"bob","who"'), *lines[1:]])
    assert damage(folder)[0] == 1


def test_an_edited_line_with_a_new_hash_is_named(folder):
    rewrite(folder, lambda lines: [*lines[:2], forge(lines[2], who="bob"), *lines[3:]])
    line, reason = damage(folder)
    assert line == 3
    assert "line 4 does not go on from it" in reason


def test_a_removed_line_is_named(folder):
    rewrite(folder, lambda lines: [*lines[:2], *lines[3:]])
    assert damage(folder) == (3, "entry 3 is missing before it")


def test_a_removed_beginning_is_named(folder):
    rewrite(folder, lambda lines: lines[2:])
    assert damage(folder) == (1, "entries 1 to 2 are missing, and no entry says that they were deleted")


def test_a_removed_first_line_is_named(folder):
    rewrite(folder, lambda lines: lines[1:])
    assert damage(folder) == (1, "entry 1 is missing, and no entry says that it was deleted")


def test_reordered_lines_are_named(folder):
    rewrite(folder, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    assert damage(folder) == (2, "entry 2 is missing before it")


def test_a_repeated_line_is_named(folder):
    rewrite(folder, lambda lines: [*lines[:2], lines[1], *lines[2:]])
    assert damage(folder) == (3, "it is entry 2, behind entry 2: lines were reordered or added")


def test_a_missing_end_is_named_and_stays_so_after_the_next_entry(folder):
    rewrite(folder, lambda lines: lines[:3])
    assert damage(folder) == (4, "the end is missing: the log ends with entry 3, and head.json is of 5")
    audit_log.append("promotion", MOVED | {"version": "6"}, who="ann", folder=folder)
    assert damage(folder) == (4, "entries 4 to 5 are missing before it")


def test_a_rewritten_end_is_named(folder):
    rewrite(folder, lambda lines: [*lines[:4], forge(lines[4], who="bob")])
    assert damage(folder) == (5, "it was rewritten or added: head.json is of another entry 5")


def test_a_log_that_is_gone_is_named(folder):
    (folder / audit_log.FILE).unlink()
    assert damage(folder)[0] == 1
    with pytest.raises(DataError, match="there is no audit log"):
        audit_verification.verify(folder / "another")


def test_a_missing_head_is_named(folder):
    (folder / audit_log.HEAD).unlink()
    assert damage(folder)[0] == 5
    audit_log.append("promotion", MOVED | {"version": "6"}, folder=folder)
    assert list(audit_log.read(folder))[-2].evidence == {"missing": "head.json"}, "it cannot be removed unnoticed"


def test_a_log_forged_with_its_head_passes_but_for_a_kept_head(folder):
    kept = audit_verification.parse_head("5:{1}".format(*audit_log.read_head(folder)).upper())
    assert damage(folder, kept) is None
    lines = (folder / audit_log.FILE).read_bytes().splitlines(keepends=True)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / audit_log.FILE).write_bytes(b"".join(lines[:3]))
    last = Entry.parse(lines[2])
    (folder / audit_log.HEAD).write_bytes(entry_format.canonical(last.head._asdict()))
    assert damage(folder) is None, "what the documentation says cannot be detected without a kept head"
    assert damage(folder, kept) == (4, "the end is missing: the kept head is of entry 5, the log ends with 3")
    for who in ("bob", "eve"):
        audit_log.append("promotion", MOVED | {"version": "9"}, who=who, folder=folder)
    assert damage(folder) is None
    assert damage(folder, kept)[0] == 5
    assert damage(folder, Head(4, kept.hash))[0] == 4
    with pytest.raises(DataError, match="SEQ:HASH"):
        audit_verification.parse_head("5:abc")


def test_what_a_killed_process_left_is_cut_off_and_noted(folder):
    with (folder / audit_log.FILE).open("ab") as log:
        log.write(b'{"seq": 6, "who')
    assert damage(folder)[0] == 6
    audit_log.append("promotion", MOVED | {"version": "6"}, folder=folder)
    recovery = list(audit_log.read(folder))[-2]
    assert (recovery.what, recovery.evidence["bytes"]) == (audit_log.RECOVERY, 15)
    assert damage(folder) is None


def test_a_process_that_was_killed_before_it_noted_the_head_damages_nothing(folder):
    head = (folder / audit_log.HEAD).read_bytes()
    audit_log.append("promotion", MOVED | {"version": "6"}, folder=folder)
    (folder / audit_log.HEAD).write_bytes(head)
    assert damage(folder) is None
    audit_log.append("promotion", MOVED | {"version": "7"}, folder=folder)
    assert damage(folder) is None
    assert audit_log.read_head(folder).seq == 7


WRITER = """
import sys
from pathlib import Path
from fatescope import audit_log

for number in range(20):
    audit_log.append("signature", str(number), who=sys.argv[2], folder=Path(sys.argv[1]))
"""


def test_several_processes_write_one_chain(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert damage(tmp_path) is None
    written = [(entry.who, entry.subject) for entry in audit_log.read(tmp_path)]
    assert sorted(written) == sorted((who, str(number)) for who in "abc" for number in range(20))


def test_entries_that_are_too_old_go_and_an_entry_vouches_for_them(folder):
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert audit_log.prune(folder, soon - timedelta(days=2)) == 0
    assert audit_log.prune(folder, soon) == 4
    assert [entry.seq for entry in audit_log.read(folder)] == [5, 6]
    assert damage(folder) is None
    audit_log.append("rollback", MOVED | {"version": "4"}, folder=folder)
    assert audit_log.aliases(audit_log.read(folder)) == {("fatescope-binary", "champion"): "4"}
    rewrite(folder, lambda lines: lines[1:])
    assert damage(folder)[0] == 1, "the voucher is for others"


def test_an_act_that_fails_is_taken_back(folder):
    with (
        pytest.raises(RuntimeError),
        audit_log.recording("promotion", MOVED | {"version": "6"}, who="ann", folder=folder),
    ):
        raise RuntimeError
    entries = list(audit_log.read(folder))
    assert [entry.what for entry in entries[-2:]] == ["promotion", "promotion failed"]
    assert audit_log.aliases(entries) == {("fatescope-binary", "champion"): "5"}


def test_a_log_that_is_off_keeps_nothing_and_one_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("FATESCOPE_AUDIT_LOG", "off")
    assert audit_log.append("signature", "x") is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("FATESCOPE_AUDIT_LOG", str(tmp_path / "file"))
    with pytest.raises(audit_log.AuditLogError, match="set FATESCOPE_AUDIT_LOG to a folder"):
        audit_log.append("signature", "x")


def test_evidence_may_hold_whatever_a_caller_has(tmp_path):
    entry = audit_log.append("signature", "x", evidence={"p": float("nan"), "path": tmp_path, "é": (1, {"a"})},
                             folder=tmp_path)  # fmt: skip
    assert entry.evidence == {"p": "nan", "path": str(tmp_path), "é": [1, ["a"]]}
    assert damage(tmp_path) is None


def test_a_long_log_is_verified_in_the_memory_of_a_line(tmp_path):
    for number in range(400):
        audit_log.append("correction", {"correction": number}, evidence={"label": "a" * 1000}, folder=tmp_path)
    tracemalloc.start()
    found = audit_verification.verify(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.entries, found.damage) == (400, None)
    assert peak < (tmp_path / audit_log.FILE).stat().st_size / 4


def test_what_nobody_asks_for_is_not_parsed(folder, monkeypatch):
    for seq in (1, 99):
        nested = {"previous": "0" * 64, "seq": seq, "subject": "of another log"}
        audit_log.append("note", "evidence", evidence=nested, folder=folder)
    entries = list(audit_log.read(folder))
    parsed, parse = [], audit_log.Entry.parse
    monkeypatch.setattr(audit_log.Entry, "parse", lambda line: parsed.append(line) or parse(line))
    assert list(audit_log.read_alias_moves(folder)) == [entry for entry in entries if entry.alias]
    assert len(parsed) < len(entries)
    parsed.clear()
    assert list(audit_log.read(folder, after=3)) == entries[3:]
    assert len(parsed) == len(entries) - 3
    assert list(audit_log.read(folder, after=7)) == []
    parsed.clear()
    assert audit_log.prune(folder, datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert len(parsed) == 1, "while others wait to write"


def test_a_log_that_cannot_be_read_says_so(folder):
    (folder / audit_log.FILE).unlink()
    (folder / audit_log.FILE).mkdir()
    for read in (audit_verification.verify, lambda folder: list(audit_log.read(folder))):
        with pytest.raises(AuditLogError, match=r"log.jsonl: the audit log cannot be read \(Is a directory\)"):
            read(folder)


def test_a_user_without_a_name_is_entered_by_number(tmp_path, monkeypatch):
    """As in a container that runs under a bare number, whose service deletes what is too old."""

    def refuse():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(writing.getpass, "getuser", refuse)
    monkeypatch.setattr(writing.os, "getuid", lambda: 12345)
    assert audit_log.append("retention", "feedback", folder=tmp_path).who == "12345"
    audit_log.append("retention", "feedback", folder=tmp_path)
    assert audit_log.prune(tmp_path, datetime(2100, 1, 1, tzinfo=UTC)) == 1
    assert [entry.who for entry in audit_log.read(tmp_path)] == ["12345", "12345"]
