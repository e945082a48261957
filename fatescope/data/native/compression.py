"""The two compressions of native files, decoded with NumPy: 30817 of images, 30818 of masks.

30817 is a stream of nibbles, the low one of a byte first. A nibble has three bits of a number, the least significant
ones first; its bit 3 says that more follow, and bit 2 of the last one is the sign. The numbers are second differences:
a pixel is the sum of all numbers above and to the left of it, with its own. 30818 is pairs of a value and its run.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from fatescope.data.native.source import DamageError

MAX_NIBBLES = 10
"""Most nibbles of a number: second differences of 16-bit pixels need 7."""
_BYTES = np.arange(256, dtype=np.uint16)
_NIBBLES = ((_BYTES & 15) | (_BYTES >> 4 << 8)).astype("<u2")
"""Byte → its two nibbles, the low one first."""
_SIGNED = np.array([0, 1, 2, 3, -4, -3, -2, -1], np.int8)
"""Three bits → the number with their sign."""
_AT_ONCE = 1 << 18
"""Nibbles that are decoded at a time: those of a cell, and no more memory for a stream that is no cell."""
_MORE = 8


def decode_image(stream: bytes, height: int, width: int, spans: Sequence[slice]) -> npt.NDArray[np.uint16]:
    """Return some columns of an image of (height, width) pixels that is compressed as 30817.

    `spans` are slices of one width, which come as (len(spans), height, that width). Raises DamageError for a stream
    that ends too early, or gives pixels that are no 16-bit counts.
    """
    numbers = _read_numbers(stream, height * width).reshape(height, width)
    blocks = np.stack([numbers[:, span] for span in spans])
    for block, span in zip(blocks, spans, strict=True):
        block[:, 0] += numbers[:, : span.start].sum(axis=1, dtype=np.int32)
        # One after the other, because of three axes it takes three times as long.
        np.cumsum(block, axis=1, out=block)
        np.cumsum(block, axis=0, out=block)
    low, high = int(blocks.min()), int(blocks.max())
    if low < 0 or high > 0xFFFF:
        raise DamageError(f"its pixels are from {low:,} to {high:,}, which are no 16-bit counts")
    return blocks.astype(np.uint16)


def _read_numbers(stream: bytes, count: int) -> npt.NDArray[np.int32]:
    """Return the first `count` numbers of a stream."""
    nibbles = np.take(_NIBBLES, np.frombuffer(stream, np.uint8)).view(np.uint8)
    if len(nibbles) <= _AT_ONCE:
        numbers = _join_nibbles(nibbles, count)
        return numbers if len(numbers) == count else _too_few(len(numbers), count)
    numbers, at, found = np.empty(count, np.int32), 0, 0
    while found < count and at < len(nibbles):
        # A piece ends with the last nibble of a number.
        stop = min(at + _AT_ONCE, len(nibbles))
        ends = np.flatnonzero(nibbles[max(at, stop - MAX_NIBBLES) : stop] < _MORE)
        if not len(ends) and stop - at < MAX_NIBBLES:
            break  # the file ends within a number
        if not len(ends):
            raise DamageError(f"its compressed data have a number of more than {MAX_NIBBLES} nibbles")
        stop = max(at, stop - MAX_NIBBLES) + int(ends[-1]) + 1
        piece = _join_nibbles(nibbles[at:stop], count - found)
        numbers[found : found + len(piece)] = piece
        at, found = stop, found + len(piece)
    return numbers if found == count else _too_few(found, count)


def _too_few(found: int, count: int) -> NoReturn:
    raise DamageError(f"its compressed data hold {found:,} of {count:,} pixels")


def _join_nibbles(nibbles: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int32]:
    """Return the numbers in a stretch of nibbles that ends with the last one of a number, at most `count`."""
    more = nibbles >= _MORE
    ends = nibbles[~more]
    numbers = np.take(_SIGNED, ends[:count]).astype(np.int32)
    # Few numbers are longer than one nibble; the nibbles before the last one of number i lie i ends into the stream.
    places = np.flatnonzero(more)
    owners = places - np.arange(len(places))
    within = owners < len(numbers)
    places, owners = places[within], owners[within]
    if len(owners):
        begins = np.ones(len(owners), bool)
        np.not_equal(owners[1:], owners[:-1], out=begins[1:])
        starts = np.flatnonzero(begins)
        lengths = np.full(len(starts), len(owners))
        lengths[:-1] = starts[1:]
        lengths -= starts
        if (longest := int(lengths.max())) >= MAX_NIBBLES:
            raise DamageError(f"its compressed data have a number of {longest + 1} nibbles")
        shifts = 3 * (np.arange(len(owners)) - np.repeat(starts, lengths))
        low = np.add.reduceat((np.take(nibbles, places) & 7).astype(np.int32) << shifts.astype(np.int32), starts)
        longer = owners[starts]
        numbers[longer] = (numbers[longer] << (3 * lengths).astype(np.int32)) + low
    return numbers


def decode_mask(stream: bytes, height: int, width: int, spans: Sequence[slice]) -> npt.NDArray[np.uint8]:
    """Return some columns, as `decode_image`, of a mask of (height, width) px that is compressed as 30818.

    0 is background, 1 the object, 2 an object clipped in height, 3 one clipped in width. Raises DamageError for runs
    that do not fill the mask.
    """
    pairs = np.frombuffer(stream[: len(stream) // 2 * 2], np.uint8).reshape(-1, 2)
    runs = pairs[:, 1].astype(np.int64) + 1
    total = int(runs.sum())
    if total != height * width:
        raise DamageError(f"the runs of its mask hold {total:,} of {height * width:,} pixels")
    mask = np.repeat(pairs[:, 0], runs).reshape(height, width)
    return np.stack([mask[:, span] for span in spans])
