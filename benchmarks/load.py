"""Load a server from a process of its own: `python -m benchmarks.load --url URL … FILE…`.

Each connection sends a request as soon as its last one is answered, for `--seconds` or, where that is 0, until
`--requests` are answered. With `--rate`, all together send so many a second, and the time of a request counts from
when it was due, so that a server that stalls does not hide the requests that wait for it. Each FILE is a whole HTTP
request as it goes over the wire; they are sent in turn. The result is one line of JSON: `{"answers": {status: count},
"seconds", "median_s", "p99_s"}`.

The cores are those of the server, so that this takes as little of them as Python can: one thread waits for all sockets,
and of an answer it reads its status and its length.
"""

import itertools
import json
import selectors
import socket
import time
from collections import Counter, deque
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer

from fatescope.command import run

RECEIVED_BYTES = 1 << 18
"""What is received at a time: an answer to one image comes whole."""
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection:
    """A connection with one request at a time; it is opened again when the server has closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.socket: socket.socket | None = None
        self.began = 0.0
        """When the request was sent, or due."""
        self.closes = False
        """Whether the server closes the connection after the answer."""
        self._unsent, self._received, self._length = memoryview(b""), bytearray(), 0

    def open(self) -> socket.socket:
        """Connect; raises OSError where nobody listens."""
        self.socket = socket.create_connection(self._address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        return self.socket

    def close(self) -> None:
        """Close it, with whatever it is waiting for."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def start(self, request: bytes) -> bool:
        """Send a request, or its beginning; return whether all of it was sent."""
        self._unsent, self._length, self.closes = memoryview(request), 0, False
        self._received.clear()
        return self.send()

    def send(self) -> bool:
        """Send more of the request; return whether all of it was sent."""
        assert self.socket is not None
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True

    def receive(self) -> int:
        """Read what has come; return the status of the answer once it is whole, 0 before. Raises OSError."""
        assert self.socket is not None
        try:
            part = self.socket.recv(RECEIVED_BYTES)
        except BlockingIOError:
            return 0
        if not part:
            raise ConnectionResetError
        self._received += part
        if not self._length:
            end = self._received.find(_HEAD_END)
            if end < 0:
                return 0
            head = bytes(self._received[:end]).lower()
            at = head.find(_LENGTH)
            if at < 0:
                raise ConnectionAbortedError
            self._length = end + len(_HEAD_END) + int(head[at + len(_LENGTH) :].split(b"\r", 1)[0])
            self.closes = b"connection: close" in head
        return int(self._received[9:12]) if len(self._received) >= self._length else 0


class Load:
    """Requests to a server over several connections, and what came back."""

    def __init__(self, requests: list[bytes], seconds: float, count: int, rate: float) -> None:
        """Send for so many `seconds`, `count` requests at most, `rate` of them a second; 0 is no limit."""
        self._selector = selectors.DefaultSelector()
        self._requests, self._start = itertools.cycle(requests), time.perf_counter()
        self._left, self._deadline = count or 10**12, self._start + (seconds or 1e9)
        self._due = (self._start + number / rate for number in itertools.count()) if rate else None
        self._waiting: deque[Connection] = deque()
        """Connections that send next, in the order in which their requests are due."""
        self.answers, self.latencies = Counter[int | str](), list[float]()

    def run(self, connections: list[Connection]) -> float:
        """Send, and wait for all answers; return the seconds that it took."""
        for connection in connections:
            self._plan(connection)
        while self._begin_due() or self._selector.get_map():
            pause = max(0.0, self._waiting[0].began - time.perf_counter()) if self._waiting else None
            for key, events in self._selector.select(pause):
                self._go_on(key.data, events)
        return time.perf_counter() - self._start

    def _begin_due(self) -> bool:
        """Send the requests that are due; return whether others are waiting."""
        now = time.perf_counter()
        while self._waiting and self._waiting[0].began <= now:
            self._begin(self._waiting.popleft())
        return bool(self._waiting)

    def _plan(self, connection: Connection) -> None:
        """Plan the next request of a connection, if any is left."""
        now = time.perf_counter()
        if self._left <= 0 or now >= self._deadline:
            self._forget(connection)
            return
        self._left -= 1
        connection.began = next(self._due) if self._due else now
        self._waiting.append(connection)

    def _begin(self, connection: Connection) -> None:
        try:
            if connection.socket is None:
                self._selector.register(connection.open(), selectors.EVENT_READ, connection)
            if not connection.start(next(self._requests)):
                self._watch(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except OSError as error:
            self._end(connection, type(error).__name__)

    def _go_on(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE and connection.send():
                self._watch(connection, selectors.EVENT_READ)
            if events & selectors.EVENT_READ and (status := connection.receive()):
                self._end(connection, status)
        except OSError as error:
            self._end(connection, type(error).__name__)

    def _watch(self, connection: Connection, events: int) -> None:
        assert connection.socket is not None
        self._selector.modify(connection.socket, events, connection)

    def _end(self, connection: Connection, answer: int | str) -> None:
        """Count an answer, or an error in its place, and plan the next request."""
        self.answers[answer] += 1
        self.latencies.append(time.perf_counter() - connection.began)
        if connection.closes or isinstance(answer, str):
            self._forget(connection)
        self._plan(connection)

    def _forget(self, connection: Connection) -> None:
        if connection.socket is not None and connection.socket in self._selector.get_map():
            self._selector.unregister(connection.socket)
        connection.close()


def load(url: str, connections: int, seconds: float, count: int, paths: list[Path], rate: float = 0) -> dict[str, Any]:
    """Send requests to `url`, `rate` a second or as fast as they are answered; return responses and latencies."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    sent = Load([path.read_bytes() for path in paths], seconds, count, rate)
    took = sent.run([Connection(address) for _ in range(connections)])
    return {
        "answers": dict(sent.answers),
        "seconds": took,
        "median_s": float(np.median(sent.latencies)),
        "p99_s": float(np.quantile(sent.latencies, 0.99)),
    }


def main(
    files: Annotated[list[Path], typer.Argument(help="Whole HTTP requests, sent in turn.")],
    url: Annotated[str, typer.Option(help="Address of the server.")],
    connections: Annotated[int, typer.Option(help="Connections, each with one request at a time.")],
    seconds: Annotated[float, typer.Option(help="How long to send; 0 for no limit.")],
    requests: Annotated[int, typer.Option(help="How many to send; 0 for no limit.")] = 0,
    rate: Annotated[float, typer.Option(help="How many to send a second; 0 for no limit.")] = 0,
) -> None:
    """Load a server, and print what came back as one line of JSON."""
    print(json.dumps(load(url, connections, seconds, requests, files, rate)))


if __name__ == "__main__":
    run(main)
