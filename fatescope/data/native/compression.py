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
_MORE = 8
"""Bit of a nibble after which the number goes on."""
_BEFORE_LAST = bytes(range(_MORE, 16))
"""Nibbles that do not end a number."""
_SIGNED = bytes((nibble & 3) - (nibble & 4) & 0xFF for nibble in range(256))
"""The three bits of a nibble → the number with their sign, as a byte."""
_AT_ONCE = 1 << 18
"""Nibbles that are decoded at a time: those of a cell, and no more memory for a stream that is no cell."""


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
    nibbles = _split_nibbles(stream)
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


def _split_nibbles(stream: bytes) -> npt.NDArray[np.uint8]:
    """Return the two nibbles of each byte, the low one first."""
    bytes_ = np.frombuffer(stream, np.uint8).astype("<u2")
    both = bytes_ << 4
    both |= bytes_
    both &= 0x0F0F
    return both.astype("<u2", copy=False).view(np.uint8)


def _too_few(found: int, count: int) -> NoReturn:
    raise DamageError(f"its compressed data hold {found:,} of {count:,} pixels")


def _join_nibbles(nibbles: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int32]:
    """Return the numbers in a stretch of nibbles that ends with the last one of a number, at most `count`."""
    ends = np.frombuffer(nibbles.tobytes().translate(_SIGNED, _BEFORE_LAST), np.int8)
    numbers = ends[:count].astype(np.int32)
    # Few numbers are longer than one nibble; the nibbles before the last one of number i lie i ends into the stream.
    places = np.flatnonzero(nibbles >= _MORE)
    owners = places - np.arange(len(places))
    known = int(owners.searchsorted(len(numbers)))
    places, owners = places[:known], owners[:known]
    bits, first = nibbles[places] & 7, np.ones(known, bool)
    np.not_equal(owners[1:], owners[:-1], out=first[1:])
    # From the last of them to the first, which most numbers have reached after one.
    left = np.flatnonzero(np.append(first[1:], True))[:known]
    for _ in range(MAX_NIBBLES - 1):
        if not len(left):
            return numbers
        number = owners[left]
        numbers[number] = (numbers[number] << 3) | bits[left]
        left = left[~first[left]] - 1
    if len(left):
        longest = int(np.bincount(owners - owners[0]).max()) + 1
        raise DamageError(f"its compressed data have a number of {longest} nibbles")
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
