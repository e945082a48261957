"""A progress bar, where tqdm is installed: training and inference need nothing that a bare machine lacks."""

import importlib.util
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], description: str, unit: str) -> Iterable[T]:
    """Return `items`, and show how many have passed after a second."""
    if importlib.util.find_spec("tqdm") is None:
        return items
    from tqdm import tqdm  # noqa: PLC0415  see above

    bar: Iterable[T] = tqdm(items, desc=description, unit=unit, delay=1)
    return bar
