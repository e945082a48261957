"""Messages of protobuf, read and written field by field: enough to edit an ONNX graph without `onnx`.

Serving does without that package, and what is not edited stays as it is, byte by byte.
"""

from collections.abc import Iterator
from typing import NamedTuple

# Wire types of protobuf.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message of protobuf."""

    number: int
    value: bytes | int
    raw: bytes
    """The field with its tag."""


def fields_of(message: bytes | int) -> Iterator[Field]:
    """Yield the fields of a message; raises ValueError, IndexError or TypeError for what is none."""
    if isinstance(message, int):
        raise TypeError("a number where a message should be")
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        wire = tag & 7
        value: bytes | int
        if wire == _VARINT:
            value, position = _read_varint(message, position)
        else:
            if wire == _LENGTH:
                size, position = _read_varint(message, position)
            elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
                size = 4 if wire == _FOUR_BYTES else 8
            else:
                raise ValueError(f"wire type {wire}")
            if position + size > len(message):
                raise ValueError("a field ends beyond its message")
            value, position = message[position : position + size], position + size
        yield Field(tag >> 3, value, message[start:position])


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value, shift, position = value | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return value, position


def encode(number: int, value: bytes | int) -> bytes:
    """Return a field of a message."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _LENGTH) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
