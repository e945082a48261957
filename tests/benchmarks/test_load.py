"""The load on a server counts what came back, whatever the server does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.load import load

LARGE = 5_000_000
"""Bytes that do not fit the buffers of a socket."""


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    """Serve `answer`, which gets the body of a request, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def answer(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, *, close: bool = False) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    if close:
        handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return request(tmp_path / "small", b"cell")


def request(path: Path, body: bytes) -> Path:
    path.write_bytes(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return path


@pytest.mark.parametrize("close", [False, True])
def test_every_request_is_counted_by_its_status(small: Path, *, close: bool) -> None:
    numbers = iter(range(1000))

    def some_fail(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        answer(handler, body, 503 if next(numbers) % 4 == 0 else 200, close=close)

    with server(some_fail) as url:
        result = load(url, 3, 0, 40, [small])
    assert result["answers"] == {200: 30, 503: 10}
    assert 0 < result["median_s"] <= result["p99_s"] <= result["seconds"]


def test_a_connection_that_breaks_is_an_answer_that_failed(small: Path) -> None:
    numbers = iter(range(1000))

    def some_break(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if next(numbers) % 5 == 0:
            handler.close_connection = True
        else:
            answer(handler, body)

    with server(some_break) as url:
        result = load(url, 2, 0, 20, [small])
    assert result["answers"] == {200: 16, "ConnectionResetError": 4}


def test_what_is_larger_than_the_buffers_goes_and_comes_whole(tmp_path: Path) -> None:
    sizes = list[int]()

    def echo(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        sizes.append(len(body))
        answer(handler, body)

    with server(echo) as url:
        result = load(url, 2, 0, 4, [request(tmp_path / "large", bytes(LARGE))])
    assert result["answers"] == {200: 4}
    assert sizes == [LARGE] * 4


def test_a_rate_is_kept_and_time_counts_from_when_a_request_was_due(small: Path) -> None:
    held = iter([True])

    def first_waits(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if next(held, False):
            time.sleep(0.3)
        answer(handler, body)

    with server(first_waits) as url:
        result = load(url, 1, 0, 20, [small], rate=50)
    # Twenty requests at 50 a second are due within 0.38 s; those behind the first one have waited for it.
    assert result["answers"] == {200: 20}
    assert result["seconds"] >= 0.38
    assert result["p99_s"] >= 0.3
    assert result["median_s"] >= 0.05


def test_nobody_who_listens_is_counted_and_ends(small: Path) -> None:
    with server(answer) as url:
        pass
    result = load(url, 2, 0, 10, [small])
    assert result["answers"] == {"ConnectionRefusedError": 10}
