"""Load a server from a process of its own: `python -m benchmarks.load --url URL … FILE…`.

Each connection sends a request as soon as its last one is answered, for `--seconds` or, where that is 0, until
`--requests` are answered. With `--rate`, all together send so many a second, and the time of a request counts from
when it was due, so that a server that stalls does not hide the requests that wait for it. Each FILE is a whole HTTP
request as it goes over the wire; they are sent in turn. The result is one line of JSON: `{"answers": {status: count},
"seconds", "median_s", "p99_s"}`. Parsing is left out as far as can be, because the cores are those of the server.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer

from fatescope.command import run


async def connect(
    address: tuple[str, int],
    requests: Iterator[bytes],
    left: Callable[[], bool],
    answers: Counter[int | str],
    latencies: list[float],
    due: Iterator[float] | None = None,
) -> None:
    """Send requests over one connection while `left` is true; reconnect when the server closes it.

    `due` has the times of all connections at which one is to be sent; without it, each follows the last one.
    """
    reader = writer = None
    while left():
        start = time.perf_counter()
        if due is not None:
            start = next(due)
            await asyncio.sleep(start - time.perf_counter())
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(*address)
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.lower()
            at = fields.find(b"content-length:")
            await reader.readexactly(int(fields[at + 15 : fields.find(b"\r", at)]))
            answers[int(head[9:12])] += 1
            if b"connection: close" in fields:
                raise ConnectionResetError
        except (OSError, asyncio.IncompleteReadError) as error:
            answers[type(error).__name__] += not isinstance(error, ConnectionResetError)
            if writer is not None:
                writer.close()
            reader = writer = None
        latencies.append(time.perf_counter() - start)
    if writer is not None:
        writer.close()


async def load(
    url: str, connections: int, seconds: float, count: int, paths: list[Path], rate: float = 0
) -> dict[str, Any]:
    """Send requests to `url`, `rate` a second or as fast as they are answered; return responses and latencies."""
    answers, latencies = Counter[int | str](), list[float]()
    requests = itertools.cycle([path.read_bytes() for path in paths])
    deadline = time.monotonic() + (seconds or 1e9)
    budget = itertools.count(count or 10**12, -1)
    start = time.perf_counter()
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)

    def left() -> bool:
        return time.monotonic() < deadline and next(budget) > 0

    due = (start + number / rate for number in itertools.count()) if rate else None
    await asyncio.gather(*(connect(address, requests, left, answers, latencies, due) for _ in range(connections)))
    return {
        "answers": dict(answers),
        "seconds": time.perf_counter() - start,
        "median_s": float(np.median(latencies)),
        "p99_s": float(np.quantile(latencies, 0.99)),
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
    print(json.dumps(asyncio.run(load(url, connections, seconds, requests, files, rate))))


if __name__ == "__main__":
    run(main)
