"""What a gateway and the process of its challengers send each other: JSON with arrays behind it, never pickles."""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Array = npt.NDArray[Any]
_LENGTH_BYTES = 4


def send(connection: Connection, header: dict[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Send a header and arrays; raises OSError where the other end is gone."""
    listed = [(array.dtype.str, array.shape) for array in arrays]
    head = orjson.dumps({**header, "arrays": listed})
    # A list of bytes is joined without the interpreter's lock being needed in between for long.
    parts = [len(head).to_bytes(_LENGTH_BYTES, "little"), head, *(np.ascontiguousarray(a).tobytes() for a in arrays)]
    connection.send_bytes(b"".join(parts))


def receive(connection: Connection) -> tuple[dict[str, Any], list[Array]]:
    """Return the next header and its arrays; raises EOFError or OSError where the other end is gone."""
    content = connection.recv_bytes()
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = orjson.loads(content[_LENGTH_BYTES:start])
    arrays = []
    for kind, shape in header.pop("arrays"):
        dtype = np.dtype(kind)
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(content, dtype, count, start).reshape(shape))
        start += count * dtype.itemsize
    return header, arrays
