"""Read ahead in a thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(source: Iterable[T], size: int) -> Iterator[T]:
    """Yield the items of `source`, which a thread reads up to `size` items ahead; raises what `source` raises."""
    items, end, stopped = queue.Queue[Any](size), object(), threading.Event()

    def read() -> None:
        try:
            for item in source:
                items.put((item, None))
                if stopped.is_set():
                    return
            items.put((end, None))
        except BaseException as error:  # noqa: BLE001  raised where the item is taken
            items.put((end, error))

    threading.Thread(target=read, name="prefetch", daemon=True).start()
    try:
        while True:
            item, error = items.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        # The thread may wait for a free place.
        while not items.empty():
            items.get_nowait()
