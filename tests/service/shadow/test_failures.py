"""Challengers that hang, crash and lie, as fakes: what becomes of requests, and of the challenger."""

import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
from prometheus_client.mmap_dict import MmapedDict

from fatescope.inference import label_queue
from fatescope.inference.shadow_records import read_taken_back
from service.inference.decoding import CellDecoder
from service.inference.errors import NO_DECODER, RequestError
from service.registry import challengers
from service.shadow import cell_queue, metrics, versions
from service.shadow import process as process_module
from service.shadow.process import ChallengerGoneError, ChallengerProcess, Job
from service.shadow.shadow import Shadow
from service.shadow.versions import Standing, Versions
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.waiting import until

FAKE = """
import sys, time, os
from multiprocessing.connection import Connection
import numpy as np
from service.shadow import frames
connection = Connection(int(sys.argv[1]))
frames.send(connection, {"kind": "ready"})
while True:
    job, arrays = frames.receive(connection)
    reply, kind = {"id": job["id"], "kind": job["kind"], "error": None}, job["kind"]
    if kind == "prepare":
        frames.send(connection, {**reply, "engine": "fake"})
        continue
    HOW
"""
"""A process that loads every version, and does HOW with cells."""
HANG = "time.sleep(3600)"
CRASH = "os._exit(3)"
FAIL = 'frames.send(connection, {**reply, "error": "no engine"})'
ANSWER = 'frames.send(connection, {**reply, "unlike": [0.0] * len(set(job["requests"]))})'
UNLIKE = 'frames.send(connection, {**reply, "unlike": [1.0] * len(set(job["requests"]))})'
PREDICT = f"""
    if kind == "predict":
        frames.send(connection, reply, [np.zeros((len(arrays[0]), 11), np.float32)])
    else:
        {ANSWER}
""".strip()
WORSE = f"""
    verdict = {{"verdict": "worse", "detail": "as labels say"}}
    frames.send(connection, {{"kind": "verdict", "task": job["task"], "version": job["version"], **verdict}})
    {ANSWER}
""".strip()


def command(how):
    return lambda descriptor: [sys.executable, "-c", FAKE.replace("HOW", how), str(descriptor)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    copy_bundle(folder / "binary", "binary")
    copy_bundle(challengers.folder(folder) / "binary", "binary", seed=7)
    return folder


@pytest.fixture
def served(store, tmp_path):
    """`served(how)` is a client and the state of a service whose challenger does HOW, and answers every request."""
    stack = ExitStack()

    def serve(how, limit_s=1.0, share=1.0, longest_wait_s=0.01):
        app = stack.enter_context(application(tmp_path, store, shadow=True, canary=share, canary_limit_s=limit_s))
        state = app.state.service
        # With a fake in place of the worker.
        shadow = Shadow(store, command(how), longest_wait_s=longest_wait_s)
        state.canary.__init__(shadow, tmp_path / "records", share, "request", limit_s)
        object.__setattr__(state, "shadow", shadow)
        state.prediction_log._mirror = shadow.offer
        shadow.start()
        stack.callback(shadow.close)
        until(lambda: shadow.challenger("binary"))
        return stack.enter_context(connected(app)), state

    yield serve
    stack.close()


def classify(client):
    return client.post("/classify", params={"task": "binary"}, content=tiff(typical(1)))


@pytest.mark.parametrize(("how", "reason"), [(HANG, "time"), (CRASH, "error"), (FAIL, "error")])
def test_no_request_fails_with_its_challenger_which_loses_its_share(served, tmp_path, how, reason):
    client, state = served(how, limit_s=0.2 if how == HANG else 60.0)
    champion, version = (
        state.models.get("binary").champion.version,
        state.shadow.challengers()["binary"].champion.version,
    )
    for _ in range(8):
        answer = classify(client)
        assert answer.status_code == 200
        assert answer.json()["model"]["version"] == champion
    until(lambda: classify(client).status_code == 200 and version in read_taken_back(tmp_path / "records", "binary"))
    assert read_taken_back(tmp_path / "records", "binary")[version]["reason"] == reason
    assert state.canary.choose(state.models.get("binary"), {"headers": []}, "any") is None


def test_the_time_for_a_decoder_is_none_of_the_challenger(served, monkeypatch):
    client, state = served(PREDICT, limit_s=3.0)
    own = state.shadow.challengers()["binary"].champion.version
    decode_one = CellDecoder.decode_one

    def wait(decoder, *uploads):
        """Take longer than the limit, as where other files wait for a decoder."""
        time.sleep(3.5)
        return decode_one(decoder, *uploads)

    monkeypatch.setattr(CellDecoder, "decode_at_once", lambda *_: None)
    monkeypatch.setattr(CellDecoder, "decode_one", wait)
    assert classify(client).json()["model"]["version"] == own
    assert not state.canary._failures


def test_a_file_that_nothing_could_decode_for_a_moment_is_no_failure_of_the_challenger(served, monkeypatch):
    client, state = served(PREDICT, limit_s=60.0)
    at_once = CellDecoder.decode_at_once
    busy = [True, False] * 3

    def decode(decoder, *uploads):
        if busy.pop():
            raise RequestError(503, NO_DECODER, "no process could be started")
        return at_once(decoder, *uploads)

    busy.reverse()
    monkeypatch.setattr(CellDecoder, "decode_at_once", decode)
    champion = state.models.get("binary").champion.version
    for _ in range(3):
        assert classify(client).json()["model"]["version"] == champion
    assert not state.canary._failures


@pytest.mark.parametrize(("how", "reason"), [(UNLIKE, "unlike"), (WORSE, "labels")])
def test_the_share_is_taken_back_on_what_is_seen_in_the_shadow(served, tmp_path, how, reason):
    client, state = served(how, share=1e-9)
    version = state.shadow.challengers()["binary"].champion.version
    until(lambda: classify(client).status_code == 200 and version in read_taken_back(tmp_path / "records", "binary"))
    assert read_taken_back(tmp_path / "records", "binary")[version]["reason"] == reason


def test_what_does_not_fit_in_the_queue_is_dropped_and_counted(served, monkeypatch):
    client, state = served(HANG, share=1e-9)
    monkeypatch.setattr(cell_queue, "MAX_CELLS", 3)
    for _ in range(6):
        assert classify(client).status_code == 200
    version = state.shadow.challengers()["binary"].champion.version
    assert state.shadow._queue._dropped["binary", version] == 3


def test_large_images_do_not_fill_the_memory_while_they_wait(served, monkeypatch):
    client, state = served(HANG, share=1e-9)
    cell = typical(1)
    # One is with the challenger, and two wait for it.
    monkeypatch.setattr(cell_queue, "MAX_PIXELS", 2 * cell.size)
    classify(client)
    until(lambda: not state.shadow._queue._entries)
    for _ in range(5):
        assert classify(client).status_code == 200
    assert len(state.shadow._queue._entries) == 2
    version = state.shadow.challengers()["binary"].champion.version
    assert state.shadow._queue._dropped["binary", version] == 3


def test_nothing_waits_for_a_challenger_that_is_gone(served, monkeypatch):
    client, state = served(HANG, share=1e-9)
    classify(client)
    until(lambda: state.shadow._queue._cells == 1 and not state.shadow._queue._entries)
    classify(client)
    assert len(state.shadow._queue._entries) == 1
    monkeypatch.setattr(challengers, "read_challengers", lambda _: {})
    state.shadow._versions._checked = float("-inf")
    until(lambda: state.shadow.idle)
    assert not state.shadow._queue._entries


def test_a_label_that_cannot_be_compared_is_stored(served, tmp_path, monkeypatch, caplog):
    client, _ = served(ANSWER)

    def fail(*_):
        raise ValueError("a damaged queue")

    monkeypatch.setattr(label_queue, "is_drawn", fail)
    files = {"image": ("cell.tif", tiff(typical(1)))}
    data = {"label": "astrocyte", "cell": "0123456789abcdef"}
    response = client.post("/feedback", params={"task": "binary"}, files=files, data=data)
    assert response.status_code == 200
    assert len((tmp_path / "feedback" / "corrections.jsonl").read_text().splitlines()) == 1
    assert "a label could not be compared: a damaged queue" in caplog.text


def test_a_part_that_cannot_be_closed_keeps_no_other_from_it(served, tmp_path, monkeypatch):
    client, state = served(ANSWER)
    classify(client)

    def fail():
        raise RuntimeError("it does not end")

    with monkeypatch.context() as patch:
        patch.setattr(state.shadow, "close", fail)
        with pytest.raises(RuntimeError, match="it does not end"):
            state.close()
    assert list((tmp_path / "records" / "binary").glob("*.parquet"))


@pytest.fixture
def loading(tmp_path, monkeypatch):
    """A shadow whose process crashes while it loads version BAD of the task binary; what it was started for."""
    monkeypatch.setattr(versions, "CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(versions, "LOADING_WAITS_S", (0.01, 0.02))
    store, starts = tmp_path / "store", []
    for task in ("binary", "multiclass"):
        copy_bundle(challengers.folder(store) / task, task, seed=7)
    bad = challengers.read_challengers(store)["binary"].version
    crashing = FAKE.replace("    if kind ==", f"    if job.get('version') == '{bad}': os._exit(3)\n    if kind ==")

    def start(descriptor):
        starts.append(descriptor)
        return [sys.executable, "-c", crashing.replace("HOW", ANSWER), str(descriptor)]

    shadow = Shadow(store, start, longest_wait_s=0.01)
    yield shadow, store, starts
    shadow.close()


def test_a_version_that_crashes_while_it_loads_is_given_up_until_it_changes(loading, tmp_path, caplog):
    shadow, store, starts = loading
    blamed = []
    shadow.on_failure = blamed.append
    shadow.start()
    until(lambda: shadow.standings().get("binary", Standing("", "absent")).state == "given_up")
    # The other one challenges, and no end is put down to it.
    until(lambda: shadow.challenger("multiclass"))
    assert set(blamed) == {"binary"}
    assert len(blamed) == 3
    tries = len(starts)
    assert "crashed 3 times while it was loaded" in shadow.standings()["binary"].reason
    assert "does not challenge: its process crashed 3 times while it was loaded" in caplog.text
    assert metrics.STATE.labels("binary", "given_up")._value.get() == 1
    shadow._versions._checked = float("-inf")
    until(lambda: shadow._versions._checked > 0)
    assert shadow.standings()["binary"].state == "given_up"
    assert (len(starts), shadow.challengers().keys()) == (tries, {"multiclass"})
    copy_bundle(tmp_path / "other", "binary", seed=8)
    place = challengers.folder(store) / "binary"
    place.rename(tmp_path / "aside")
    (tmp_path / "other").rename(place)
    until(lambda: shadow.challenger("binary"))
    assert metrics.STATE.labels("binary", "given_up")._value.get() == 0


def test_the_process_has_done_with_what_challenges_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "CHECK_INTERVAL_S", -1.0)
    place, jobs = challengers.folder(tmp_path) / "binary", []

    def submit(job):
        jobs.append((job.header["kind"], job.header["version"]))
        job.reply.set_result(({"error": None, "engine": "fake"}, []))
        return job.reply

    def put(seed):
        copy_bundle(place, "binary", seed=seed)
        return challengers.read_challengers(tmp_path)["binary"].version

    one = Versions(tmp_path, submit)
    first = put(7)
    one.check()
    place.rename(tmp_path / "aside")
    second = put(8)
    one.check()
    place.rename(tmp_path / "gone")
    one.check()
    assert jobs == [("prepare", first), ("forget", first), ("prepare", second), ("forget", second)]


def test_a_version_that_was_given_up_is_tried_again_once_it_has_the_alias_anew(loading, tmp_path):
    shadow, store, starts = loading
    shadow.start()
    until(lambda: shadow.standings().get("binary", Standing("", "absent")).state == "given_up")
    tries, place = len(starts), challengers.folder(store) / "binary"
    place.rename(tmp_path / "aside")
    until(lambda: "binary" not in shadow.standings())
    (tmp_path / "aside").rename(place)
    until(lambda: len(starts) > tries)


def test_what_challenges_and_why_not_is_in_the_list_of_models(served):
    client, state = served(ANSWER)
    version = state.shadow.challengers()["binary"].champion.version
    [model] = client.get("/models").json()
    assert model["challenger"] == {"version": version, "state": "running", "reason": None}
    state.shadow._versions.refuse(state.shadow.challengers()["binary"].champion, "it is too large")
    [model] = client.get("/models").json()
    assert model["challenger"] == {"version": version, "state": "refused", "reason": "it is too large"}


def test_a_process_that_ended_leaves_no_files_of_metrics(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counting = f"""
    from prometheus_client.mmap_dict import MmapedDict
    MmapedDict({str(tmp_path)!r} + f"/counter_{{os.getpid()}}.db").write_value("a", 1, 0)
    {CRASH}
    """.strip()
    process, ends = alone(counting, [Job({"kind": "compare"}) for _ in range(3)])
    until(lambda: ends.count("crashed") == 3)
    process.close()
    assert [path.name for path in tmp_path.glob("*.db")] == ["counter_ended.db"]
    assert next(MmapedDict.read_all_values_from_file(tmp_path / "counter_ended.db"))[:2] == ("a", 3)


def alone(how, jobs=()):
    """Return a process that does HOW with `jobs`, and what it was told of its ends."""
    ends, left = [], list(jobs)
    process = ChallengerProcess(
        command(how),
        is_wanted=lambda: True,
        on_start=lambda: ends.append("start"),
        next_job=lambda: left.pop() if left else None,
        on_event=lambda _: None,
        on_end=lambda reason, _: ends.append(reason),
        longest_wait_s=0.01,
    )
    process.start()
    return process, ends


def test_a_process_that_crashes_is_started_again_and_its_work_fails():
    job = Job({"kind": "compare"})
    process, ends = alone(CRASH, [job])
    with pytest.raises(ChallengerGoneError):
        job.reply.result(120)
    until(lambda: ends[:3] == ["start", "crashed", "start"])
    process.close()


def test_a_process_that_hangs_is_ended_and_started_again():
    job = Job({"kind": "compare"}, limit_s=0.01)
    process, ends = alone(HANG, [job])
    with pytest.raises(ChallengerGoneError):
        job.reply.result(120)
    until(lambda: ends[:3] == ["start", "hung", "start"])
    process.close()


def test_a_process_that_takes_nothing_is_ended_too():
    # More than the buffer of the connection holds, so that the sender waits.
    jobs = [Job({"kind": "compare"}, [np.zeros(10_000_000)], limit_s=0.01), Job({"kind": "compare"}, limit_s=0.01)]
    process, ends = alone(HANG, [])
    until(lambda: "start" in ends)
    replies = [process.submit(job) for job in reversed(jobs)]
    for reply in replies:
        with pytest.raises(ChallengerGoneError):
            reply.result(120)
    process.close()


def test_a_process_that_never_gets_ready_is_ended_and_started_again(monkeypatch):
    monkeypatch.setattr(process_module, "LOADING_S", 0.01)
    ends = []
    process = ChallengerProcess(
        lambda _: [sys.executable, "-c", "import time; time.sleep(3600)"],
        is_wanted=lambda: True,
        on_start=lambda: ends.append("start"),
        next_job=lambda: None,
        on_event=lambda _: None,
        on_end=lambda reason, _: ends.append(reason),
        longest_wait_s=0.01,
    )
    process.start()
    until(lambda: ends[:2] == ["hung", "hung"])
    process.close()


def test_a_process_that_was_not_wanted_is_started_without_delay(monkeypatch):
    """Its end was no failure, of which each makes the next wait longer."""
    waits, wanted, starts = [], [True], []
    monkeypatch.setattr(process_module.Backoff, "wait_s", lambda _: waits.append(1) or 0.01)
    process = ChallengerProcess(
        command(ANSWER),
        is_wanted=lambda: wanted[0],
        on_start=lambda: starts.append("start"),
        next_job=lambda: None,
        on_event=lambda _: None,
        on_end=lambda *_: None,
    )
    process.start()
    until(lambda: len(starts) == 1)
    wanted[0] = False
    until(lambda: process._process is None)
    wanted[0] = True
    until(lambda: len(starts) == 2)
    assert waits == []
    process.close()
