"""The audit log and the keys, as operators use them."""

import json

import pytest

from fatescope import audit_log


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATESCOPE_AUDIT_LOG", str(tmp_path / "log"))
    for number in (1, 2):
        audit_log.append("promotion", {"model": "m", "alias": "champion", "version": str(number)}, who="ann")
    return tmp_path / "log"


def test_the_log_is_shown_and_verified_against_a_head_that_was_kept(folder, fatescope):
    lines = fatescope("audit-log", "show").output.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert lines[0].endswith("alias champion, model m, version 1")
    assert [entry["seq"] for entry in json.loads(fatescope("audit-log", "show", "--last", 1, "--json").output)] == [2]
    kept = fatescope("audit-log", "head").output.strip()
    assert fatescope("audit-log", "verify", "--head", kept).output == "2 entries, each as it was written\n"
    path = folder / audit_log.FILE
    path.write_bytes(path.read_bytes().replace(b"ann", b"bob", 1))
    result = fatescope("audit-log", "verify")
    assert (result.code, result.errors) == (
        1,
        f"error: {path}: line 1: it was edited: it does not have the hash that it says\n",
    )
    machine = fatescope("audit-log", "verify", "--json")
    assert (machine.code, json.loads(machine.output)["damage"]["line"]) == (1, 1)


def test_keys_are_made_listed_and_revoked(folder, fatescope):
    made = json.loads(
        fatescope("keys", "new", "reader", "--scope", "classify", "--cells", 1000, "--days", 3, "--json").output
    )
    assert made["key"] not in (folder.parent / "keys.json").read_text()
    assert (made["scopes"], made["cells"], made["per"]) == (["classify"], 1000, "day")
    assert fatescope("keys", "new", "reader").code == 1
    assert "input should be" in fatescope("keys", "new", "other", "--per", "year").errors.lower()
    [listed] = json.loads(fatescope("keys", "list", "--json").output)
    assert listed["name"] == "reader"
    assert "sha256" not in listed
    assert "1,000 cells a day" in fatescope("keys", "list").output
    assert fatescope("keys", "revoke", "reader").code == 0
    assert fatescope("keys", "list").output == ""
    assert "no key 'reader'; it has: none" in fatescope("keys", "revoke", "reader").errors
    assert "needs a name" in fatescope("keys", "new", "--scope", "admin").errors
