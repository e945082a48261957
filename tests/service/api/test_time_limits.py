"""How long a request may take, and what happens when its client goes."""

import asyncio
import json
import threading

import numpy as np
import pytest

from service.api import time_limits
from service.api.routes import page
from service.inference.batcher import MAX_BATCH, MAX_IN_FLIGHT
from tests.support.images import tiff, typical

IMAGE = tiff(typical(0))


class Connection:
    """The server's side of a request: parts of a body, each after a pause in seconds, of a client that `stays`."""

    def __init__(self, parts, stays=None):
        self.parts, self.sent, self.answered = list(parts), [], False
        self.stays = stays or (lambda: not self.answered)

    async def receive(self):
        if self.parts:
            pause_s, body = self.parts.pop(0)
            await asyncio.sleep(pause_s)
            return {"type": "http.request", "body": body, "more_body": bool(self.parts)}
        while self.stays():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        if not message.get("more_body") and message["type"] == "http.response.body":
            self.answered = True

    @property
    def response(self):
        body = b"".join(message.get("body", b"") for message in self.sent)
        return self.sent[0]["status"], json.loads(body)


def scope_of(path):
    """Return the scope of a POST."""
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "server": ("localhost", 3000), "client": ("127.0.0.1", 1),
    }  # fmt: skip


def post(app, path, parts, stays=None):
    """Return the connection of a POST that was answered."""

    async def main():
        connection = Connection(parts, stays)
        await app(scope_of(path), connection.receive, connection.send)
        return connection

    return asyncio.run(main())


def request(app, path, parts, stays=None):
    """Return status and JSON of the response to a POST."""
    return post(app, path, parts, stays).response


@pytest.fixture
def calls(app, monkeypatch):
    """The sizes of the calls to a runner that takes seconds for each."""
    sizes = []

    async def predict(_, **call):
        sizes.append(len(call["pixels"]))
        await asyncio.sleep(5)

    monkeypatch.setattr(type(app.state.service.models._runner), "predict", predict)
    return sizes


def test_an_upload_may_take_longer_than_computing(app, monkeypatch):
    monkeypatch.setattr(time_limits, "COMPUTE_S", 1.5)
    parts = [(0.5, IMAGE[start : start + 1500]) for start in range(0, len(IMAGE), 1500)]
    assert sum(pause_s for pause_s, _ in parts) > 1.9
    status, answer = request(app, "/classify_batch", parts)
    assert status == 200, answer


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("path", ["/classify", "/classify_batch"])
def test_computing_for_too_long_is_an_error_of_our_shape(app, monkeypatch, path):
    monkeypatch.setattr(time_limits, "COMPUTE_S", 0.2)
    status, answer = request(app, path, [(0, IMAGE)])
    message = "computing took more than 0.2 s; send the cells in several requests"
    assert (status, answer) == (504, {"error": {"code": "timeout", "message": message, "file": None}})


def test_an_endpoint_that_runs_in_a_thread_is_not_waited_for(client, monkeypatch):
    ended = threading.Event()

    def compose(*_):
        ended.wait(20)

    monkeypatch.setattr(page.summary, "compose", compose)
    monkeypatch.setattr(time_limits, "COMPUTE_S", 0.2)
    response = client.post("/summarise", json={"cells": []})
    assert not ended.is_set()
    ended.set()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")


def test_computing_before_the_body_was_asked_for_is_not_a_body_that_stalls(app, client, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(type(app.state.service.models), "__iter__", lambda _: iter([ended.wait(20)]))
    monkeypatch.setattr(time_limits, "COMPUTE_S", 0.2)
    response = client.get("/models")
    ended.set()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")


def test_a_body_of_which_nothing_more_arrives_is_given_up(app, monkeypatch):
    monkeypatch.setattr(time_limits, "STALL_S", 0.2)
    connection = post(app, "/classify_batch", [(0, IMAGE[:100]), (5, IMAGE[100:])])
    status, answer = connection.response
    assert (status, answer["error"]["code"]) == (408, "upload_stalled")
    # What would still arrive of the body is no next request.
    assert (b"connection", b"close") in connection.sent[0]["headers"]


def test_a_response_may_take_as_long_as_its_client_needs_to_receive_it(monkeypatch):
    monkeypatch.setattr(time_limits, "COMPUTE_S", 0.2)
    received = []

    async def answer(_, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in range(3):
            await send({"type": "http.response.body", "body": b"%d" % part, "more_body": part < 2})

    async def take_slowly(message):
        await asyncio.sleep(0.1)
        received.append(message.get("body", b""))

    receive = Connection([(0, b"")]).receive
    asyncio.run(time_limits.call(answer, {"type": "http"}, receive, take_slowly, long=True))
    assert received == [b"", b"0", b"1", b"2"]


def test_no_more_is_computed_for_a_client_that_has_gone(app, calls):
    batcher = app.state.service.models.get(None).batcher
    pages = tiff(np.stack([typical(0)] * 2000), photometric="minisblack")

    async def main():
        connection = Connection([(0, pages)], stays=lambda: not batcher._pending)
        await app(scope_of("/classify_batch"), connection.receive, connection.send)
        await asyncio.sleep(0.1)
        # Before the loop ends, which ends whatever still waits.
        return connection.response, len(batcher._pending)

    (status, answer), waiting = asyncio.run(main())
    assert (status, answer["error"]["code"]) == (400, "disconnected")
    # Of 2,000 cells, those in flight; chunks that the runner has not seen are dropped.
    assert 0 < sum(calls) <= MAX_IN_FLIGHT * MAX_BATCH
    assert waiting == 0


def test_a_client_that_stays_is_answered(app):
    status, answer = request(app, "/classify_batch", [(0, IMAGE)])
    assert (status, answer["sample"]["cells"]) == (200, 1)
