"""Named keys: scopes, quotas that gateways share, an end, and what is noted of their use."""

import asyncio
import errno
import hashlib
import hmac
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from prometheus_client import REGISTRY

from fatescope import audit_log, audit_verification
from fatescope.errors import ParamsError
from service.api import access, audit_trail, auth, key_file, usage, usage_file
from service.api.app import build_app
from service.api.key_file import Key
from service.api.middleware import PUBLIC
from service.api.usage import Usage
from service.inference.requester import Requester, count_cells, requester
from service.settings import ServiceSettings
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.project import ROOT

IMAGE = tiff(typical(0))
OLD = "old"
"""A key of FATESCOPE_API_KEYS."""


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(auth, "RENEW_S", -1.0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys.json"
    for name, scopes, quotas in (
        ("reader", ["classify"], {}),
        ("curator", ["feedback"], {}),
        ("operator", ["admin"], {}),
        ("few", ["classify"], {"requests": 2, "per": "hour"}),
        ("cells", ["classify"], {"cells": 3, "per": "day"}),
    ):
        key_file.add(path, key_file.make_entry(name, digest(name), scopes, **quotas))
    return path


@pytest.fixture
def client(bundles, tmp_path, file):
    with (
        application(tmp_path, bundles, keys=file, api_keys=(bytes.fromhex(digest(OLD)),)) as app,
        connected(app) as client,
    ):
        yield client


async def status_of(app, path, key):
    """Return the status of the response to OPTIONS with a path as it is."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"x-api-key", key.encode()), (b"host", b"127.0.0.1")]
    scope = {
        "type": "http", "method": "OPTIONS", "path": path, "raw_path": path.encode(), "root_path": "",
        "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    await app(scope, None, send)
    return sent[0]["status"]


def classify(client, key):
    return client.post("/classify", content=IMAGE, headers={"x-api-key": key})


def outcome(response):
    return response.status_code, None if response.status_code == 200 else response.json()["error"]["code"]


def correct(client, key):
    return client.post(
        "/feedback", params={"task": "binary"}, headers={"x-api-key": key},
        files={"image": ("cell.tif", IMAGE)}, data={"label": "astrocyte"},
    )  # fmt: skip


def test_each_endpoint_asks_for_its_scope(client):
    def get(path, key):
        return outcome(client.get(path, headers={"x-api-key": key}))

    refused, ok = (403, "scope"), (200, None)
    expected = {
        "reader": (ok, refused, ok, refused),
        "curator": (refused, ok, ok, refused),
        "operator": (refused, refused, ok, ok),
        OLD: (ok, ok, ok, refused),
    }
    for key, outcomes in expected.items():
        found = (
            outcome(classify(client, key)), outcome(correct(client, key)), get("/models", key), get("/audit_log", key),
        )  # fmt: skip
        assert found == outcomes, key
    message = classify(client, "curator").json()["error"]["message"]
    assert "the key 'curator' may not do this: it lacks the scope 'classify' and has feedback" in message
    assert get("/nothing", "reader") == refused, "what nobody has given a scope is for operators"


def test_every_route_is_public_or_has_a_scope():
    paths = build_app().openapi()["paths"].keys() - PUBLIC
    assert {path.split("/")[1] for path in paths} == set(access.SCOPES)


def test_a_path_without_a_slash_needs_the_highest_scope(client):
    """Of `OPTIONS *`, which is a valid request; test clients do not send it."""
    assert asyncio.run(status_of(client.app, "*", "reader")) == 403


def test_a_quota_of_requests_ends_with_429_and_when_it_begins_anew(client):
    assert [outcome(classify(client, "few")) for _ in range(3)] == [(200, None), (200, None), (429, "quota")]
    wait_s = int(classify(client, "few").headers["retry-after"])
    assert 1 <= wait_s <= 3600
    assert classify(client, "reader").status_code == 200, "of another key"
    labels = {"key": "few", "outcome": "quota"}
    assert REGISTRY.get_sample_value("fatescope_key_requests_total", labels) >= 2


def test_a_quota_of_cells_counts_what_was_classified(client):
    def batch(count):
        files = [("files", (f"{number}.tif", IMAGE)) for number in range(count)]
        return client.post("/classify_batch", files=files, headers={"x-api-key": "cells"})

    assert classify(client, "cells").status_code == 200
    assert batch(4).status_code == 200, "a request that began within the quota is answered whole"
    assert outcome(classify(client, "cells")) == outcome(batch(1)) == (429, "quota")
    answer = client.get("/key", headers={"x-api-key": "cells"})
    assert outcome(answer) == (429, "quota"), "this is a request too"


def test_a_key_says_what_is_left_of_its_quota(client):
    classify(client, "few")
    told = client.get("/key", headers={"x-api-key": "few"}).json()
    assert (told["name"], told["scopes"], told["requests"], told["requests_used"], told["cells_used"]) == (
        "few", ["classify"], 2, 2, 1,
    )  # fmt: skip


def test_gateways_share_quotas_also_when_they_are_started_again(tmp_path):
    key = Key("few", b"", frozenset(), requests=50)
    gateways, admitted = [Usage(tmp_path) for _ in range(3)], []

    def send(gateway):
        admitted.extend(gateway.admit(key) is None for _ in range(40))

    threads = [threading.Thread(target=send, args=(gateway,)) for gateway in gateways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), sum(admitted)) == (120, 50)
    assert Usage(tmp_path).used(key) == (50, 0)


def test_a_quota_begins_anew_with_its_period(tmp_path, monkeypatch):
    key, counts = Key("few", b"", frozenset(), requests=1, period_s=60), Usage(tmp_path)
    monkeypatch.setattr(usage.time, "time", lambda: 6_000_010.0)
    assert (counts.admit(key), counts.admit(key)) == (None, 50), "a minute began 10 s ago"
    monkeypatch.setattr(usage.time, "time", lambda: 6_000_061.0)
    assert counts.admit(key) is None


def test_a_folder_that_cannot_be_locked_gives_way_to_that_of_the_metrics(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    settings = ServiceSettings(audit_log=tmp_path / "log")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    (tmp_path / "file").touch()
    assert usage.open_usage(ServiceSettings(audit_log=tmp_path / "file")) is not None
    assert (tmp_path / "metrics" / usage.FILE).exists()
    monkeypatch.setattr(usage_file.fcntl, "flock", refuse)
    assert usage.open_usage(settings) is None
    assert "quotas of keys are not kept: set FATESCOPE_AUDIT_LOG to a folder" in caplog.text


def test_a_damaged_file_of_uses_is_counted_anew(tmp_path):
    key, other = (Key(name, b"", frozenset({"classify"}), requests=2) for name in ("a", "b"))
    counting = Usage(tmp_path)
    for each in (key, other):
        assert counting.admit(each) is None
    content = bytearray((tmp_path / usage.FILE).read_bytes())
    content[0] = 0xFF  # of a name, which is UTF-8 no more
    begin = usage_file._SIZE + usage_file._SLOT.size - 8
    content[begin - 24 : begin - 16] = b"\x7f" * 8  # an hour that no calendar has
    with (tmp_path / usage.FILE).open("r+b") as file:
        file.write(content)
    counting = Usage(tmp_path)
    assert [counting.admit(key) for _ in range(2)] == [None, None]
    assert counting.admit(key) > 0
    assert counting.admit(other) is None
    for use in counting.take_finished():
        datetime.fromtimestamp(use.hour, UTC)


CUT_OFF = """
import os, sys
from pathlib import Path
from service.api.key_file import Key
from service.api.usage import FILE, Usage
counting, key = Usage(Path(sys.argv[1])), Key("few", b"", frozenset(), requests=2)
counting.admit(key)
os.truncate(Path(sys.argv[1]) / FILE, 0)
print([counting.admit(key) is None for _ in range(3)], len(counting.take_finished()))
"""


def test_a_file_of_uses_that_is_cut_off_ends_no_gateway(tmp_path):
    """In a process of its own, because the system would end it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CUT_OFF, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[True, True, False] 0\n"), done.stderr


def test_gateways_go_on_with_one_file_where_it_is_deleted_or_replaced(tmp_path):
    key = Key("few", b"", frozenset(), requests=3)
    folder = tmp_path / "log"
    gateways = [Usage(folder) for _ in range(3)]
    assert [gateway.admit(key) is None for gateway in gateways] == [True] * 3
    (folder / usage.FILE).unlink()
    assert [gateway.admit(key) is None for gateway in gateways * 2] == [True] * 3 + [False] * 3
    copy = folder / "copy"
    copy.write_bytes(b"")
    copy.replace(folder / usage.FILE)
    assert [gateway.admit(key) is None for gateway in gateways * 2] == [True] * 3 + [False] * 3
    shutil.rmtree(folder)
    assert [gateway.admit(key) is None for gateway in gateways * 2] == [True] * 3 + [False] * 3
    assert Usage(folder).used(key) == (3, 0)


def test_a_disk_without_room_for_counts_refuses_no_request_and_is_told_once(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    key, counting = Key("few", b"", frozenset(), requests=1), Usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(usage_file.os, "pwrite", full)
        assert [counting.admit(key) for _ in range(3)] == [None] * 3
    assert caplog.text.count("quotas not kept: [Errno 28] No space left on device") == 1
    assert counting.admit(key) is None
    assert counting.admit(key) > 0


def test_more_keys_than_slots_take_those_that_are_unused_for_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(usage_file, "_SLOTS", 4)
    counts = Usage(tmp_path)
    for number in range(6):
        monkeypatch.setattr(usage.time, "time", lambda number=number: 3600.0 * (number + 1))
        counts.admit(Key(f"key{number}", b"", frozenset()))
    monkeypatch.setattr(usage.time, "time", lambda: 3600.0 * 9)
    uses = sorted(counts.take_finished(), key=lambda use: use.hour)
    assert [(use.key, use.hour, use.accepted) for use in uses] == [(f"key{n}", 3600 * (n + 1), 1) for n in range(6)]
    assert counts.take_finished() == []


def test_keys_come_and_go_while_the_service_runs(client, file):
    assert outcome(classify(client, "new")) == (401, "api_key")
    key_file.add(file, key_file.make_entry("another", digest("new"), ["classify"]))
    assert outcome(classify(client, "new")) == (200, None)
    key_file.revoke(file, "another")
    assert outcome(classify(client, "new")) == (401, "api_key")
    file.write_text("damaged")
    assert outcome(classify(client, "reader")) == (200, None), "what is known stays where the file cannot be read"
    file.write_text('{"keys": []}')
    assert outcome(classify(client, "reader")) == (401, "api_key")
    assert outcome(classify(client, OLD)) == (200, None)


def test_a_service_whose_named_keys_are_all_revoked_is_not_open(bundles, tmp_path, file):
    file.write_text('{"keys": []}')
    with application(tmp_path, bundles, keys=file) as app, connected(app) as client:
        assert outcome(client.post("/classify", content=IMAGE)) == (401, "api_key")


def forge(path, *keys):
    """Return a link that whoever knows all keys of a service can sign; without any, everybody does."""
    secret = hashlib.sha256(b"link" + b"".join(sorted(bytes.fromhex(digest(key)) for key in keys))).digest()
    end = int(time.time()) + 1000
    return f"{path}?link={end}-{hmac.digest(secret, f'{end} {path}'.encode(), 'sha256').hex()}"


def test_a_link_opens_nothing_that_needs_a_scope_and_nothing_where_there_is_no_key(bundles, tmp_path):
    file = tmp_path / "only.json"
    key_file.add(file, key_file.make_entry("reader", digest("reader"), ["classify"]))
    with application(tmp_path, bundles, keys=file) as app, connected(app) as client:
        assert outcome(client.get(forge("/models", "reader"))) == (200, None), "signed as a service signs"
        for path in ("/audit_log", "/queue", "/nothing"):
            assert outcome(client.get(forge(path, "reader"))) == (403, "scope"), path
        key_file.revoke(file, "reader")
        for path in ("/models", "/audit_log"):
            assert outcome(client.get(forge(path))) == (401, "api_key"), path


def test_a_file_of_keys_that_could_not_be_read_is_read_once_it_can_be(client, file, monkeypatch):
    """As one that is written by root and made readable after that: neither its size nor its time changes."""
    read = key_file.read

    def refuse(path):
        raise ParamsError(f"{path}: cannot be read")

    monkeypatch.setattr(key_file, "read", refuse)
    file.write_text('{"keys": []}')
    assert outcome(classify(client, "reader")) == (200, None), "what is known stays"
    monkeypatch.setattr(key_file, "read", read)
    file.chmod(0o644)
    assert outcome(classify(client, "reader")) == (401, "api_key")


def test_a_path_without_a_first_part_is_for_operators(client):
    """As that of `OPTIONS *`, which servers pass on as it is."""

    async def status(key):
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.request", "body": b""}

        headers = [(b"x-api-key", key.encode()), (b"host", b"localhost")]
        scope = {"type": "http", "method": "OPTIONS", "path": "*", "query_string": b"", "headers": headers}
        await client.app(scope, receive, send)
        return sent[0]["status"]

    assert [asyncio.run(status(key)) for key in ("reader", "operator", "")] == [403, 404, 401]


def test_a_key_ends(client, file, monkeypatch):
    later = key_file.datetime.now(key_file.UTC) + key_file.datetime.resolution
    key_file.add(file, key_file.make_entry("short", digest("short"), ["classify"], expires=later))
    response = classify(client, "short")
    assert outcome(response) == (401, "api_key")
    assert "the key 'short' ended on 2" in response.json()["error"]["message"]
    monkeypatch.setattr(auth.time, "time", lambda: later.timestamp() - 60)
    assert classify(client, "short").status_code == 200


def test_records_log_and_audit_log_name_the_key_and_never_have_it(client, tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="bentoml.access"):
        classify(client, "reader").raise_for_status()
        classify(client, "wrong")
        correct(client, "curator").raise_for_status()
    assert " ms key reader" in caplog.text
    now = time.time()
    monkeypatch.setattr(usage.time, "time", lambda: now + 3600)
    client.app.state.service.close()
    [record] = (tmp_path / "records").glob("*/*.parquet")
    assert pq.read_table(record)["key"].to_pylist() == ["reader"]

    entries = list(audit_log.read(tmp_path / "audit_log"))
    assert audit_verification.verify(tmp_path / "audit_log").damage is None
    correction = next(entry for entry in entries if entry.what == "correction")
    [line] = [json.loads(line) for line in (tmp_path / "feedback" / "corrections.jsonl").read_text().splitlines()]
    assert (correction.who, correction.subject["correction"]) == ("curator", line["correction"])
    assert line["sha256"][:12] not in str(correction), "nothing tells of which cell it is"
    uses = {entry.subject["key"]: entry.evidence for entry in entries if entry.what == "key use"}
    assert uses == {
        "reader": {"accepted": 1, "refused": 0, "cells": 1},
        "curator": {"accepted": 1, "refused": 0, "cells": 0},
        "unknown": {"accepted": 0, "refused": 1, "cells": 0},
    }
    everything = caplog.text + (tmp_path / "audit_log" / "log.jsonl").read_text()
    assert digest("reader") not in everything


def test_a_log_that_cannot_be_written_delays_an_entry_and_refuses_no_correction(client, tmp_path):
    trail, folder = client.app.state.service.audit, tmp_path / "audit_log"
    taken = tmp_path / "aside"
    folder.rename(taken)
    folder.touch()
    correct(client, OLD).raise_for_status()
    folder.unlink()
    taken.rename(folder)
    trail._tend()
    assert [entry.what for entry in audit_log.read(folder)] == ["correction"]


def test_what_goes_after_its_time_is_verified_first_and_tried_again_where_it_cannot_go(
    client, tmp_path, monkeypatch, caplog
):
    trail, applied = client.app.state.service.audit, []
    correct(client, OLD).raise_for_status()
    path = tmp_path / "audit_log" / "log.jsonl"
    path.write_bytes(path.read_bytes().replace(b"astrocyte", b"neuron", 1))

    def refuse(_):
        applied.append("line 1: it was edited" in caplog.text)
        raise OSError("a disk that is away")

    monkeypatch.setattr(audit_trail.retention, "apply", refuse)
    monkeypatch.setattr(trail, "_daily", 0.0)
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            trail._tend()
    assert len(applied) >= 2
    assert all(applied)


@pytest.mark.parametrize("path", ["/audit_log", "/audit_log/", "/audit_log?after=1"])
def test_a_service_without_keys_shows_its_audit_log_to_nobody(bundles, tmp_path, path):
    """Also not to this machine: what a proxy on it passes on comes from there too."""
    with application(tmp_path, bundles) as app, connected(app, client=("127.0.0.1", 50_000)) as client:
        client.post("/feedback", files={"image": ("a.tif", IMAGE)}, data={"label": "astrocyte"}).raise_for_status()
        response = client.get(path)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "scope")
        assert "fatescope audit-log show" in response.text
        assert client.get("/nothing").status_code == 404
        with connected(app, root_path="/cells") as behind:
            assert behind.get(f"/cells{path}").status_code == 403


def test_operators_read_the_audit_log(client):
    correct(client, "curator").raise_for_status()
    correct(client, "curator").raise_for_status()
    headers = {"x-api-key": "operator"}
    first, second = client.get("/audit_log", headers=headers).json()
    assert (first["seq"], first["what"], second["previous"]) == (1, "correction", first["hash"])
    assert client.get("/audit_log", params={"after": 1}, headers=headers).json() == [second]


def test_a_file_of_keys_is_checked(tmp_path, file):
    entries = json.loads(file.read_text())["keys"]
    assert all("key" not in entry for entry in entries)
    assert file.stat().st_mode & 0o077 == 0
    for change, message in (
        ({"scopes": ["everything"]}, "keys.0.scopes.0"),
        ({"sha256": "12"}, "keys.0.sha256"),
        ({"name": "link"}, "may not be called 'link'"),
        ({"name": "few"}, "two keys have one name"),
        ({"requests": 0}, "keys.0.requests"),
        ({"colour": "red"}, "keys.0.colour"),
    ):
        file.write_text(json.dumps({"keys": [entries[0] | change, *entries[1:]]}))
        with pytest.raises(ParamsError, match=message.replace("'", ".")) as refused:
            key_file.read(file)
        assert entries[0]["sha256"] not in str(refused.value)
    with pytest.raises(ParamsError, match="cannot be read"):
        key_file.read(tmp_path / "none.json")
    for name in ("", "Ann Smith", "unknown", "x" * 41):
        with pytest.raises(ParamsError, match="cannot be the name of a key"):
            key_file.make_entry(name, digest("x"), ["classify"])


def test_counting_in_a_request_reaches_the_tasks_that_answer_it():
    async def answer():
        await asyncio.gather(asyncio.to_thread(count_cells, 2), asyncio.create_task(count()))

    async def count():
        count_cells(1)

    current = Requester("reader")
    token = requester.set(current)
    asyncio.run(answer())
    requester.reset(token)
    assert current.cells == 3
