"""Have an ONNX graph of a bundle take pixels as they are stored, uint16, instead of float32.

A GPU is then sent half of the bytes, and casts them itself. The graph is edited in memory, because the file is as it
was exported, with a hash in the bundle, and every reader of bundles feeds it float32. `onnx` would do it in three
lines, but serving does without that package.
"""

from collections.abc import Iterator
from typing import NamedTuple

PIXELS = "pixels"
"""The input of the graph of a bundle."""
RAW = "pixels_uint16"
"""The input that takes its place."""

# Numbers of the fields and constants of onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INPUT = 7, 1, 11
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT = 1, 2, 1, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATION, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TYPE, _INTEGER = 1, 3, 20, 2
_FLOAT, _UINT16 = 1, 4
# Wire types of protobuf.
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class _Field(NamedTuple):
    """A field of a message of protobuf."""

    number: int
    value: bytes | int
    raw: bytes
    """The field with its tag."""


def with_raw_input(model: bytes) -> bytes:
    """Return a serialised ONNX `model` whose float32 input PIXELS has become the uint16 input RAW.

    A model without such an input, or of another format, is returned as it is.
    """
    try:
        fields = list(_fields(model))
        edited = [_edit_graph(field) if field.number == _MODEL_GRAPH else field.raw for field in fields]
    except (ValueError, IndexError, TypeError):  # not what this module reads; ONNX Runtime will say what it is
        return model
    return model if None in edited else b"".join(part for part in edited if part is not None)


def _edit_graph(graph: _Field) -> bytes | None:
    """Return the field with the edited graph, None if there is nothing to edit."""
    fields = list(_fields(graph.value))
    inputs = {index: edited for index, field in enumerate(fields) if (edited := _edit_input(field)) is not None}
    if len(inputs) != 1:
        return None
    parts = [inputs.get(index, field.raw) for index, field in enumerate(fields)]
    # The cast first: nodes must follow those whose outputs they read.
    return _encode(_MODEL_GRAPH, _cast() + b"".join(parts))


def _edit_input(field: _Field) -> bytes | None:
    """Return the input RAW in place of the float32 input PIXELS, None for any other field of a graph."""
    if field.number != _GRAPH_INPUT:
        return None
    parts, found = list[bytes](), set[object]()
    for part in _fields(field.value):
        if part.number == _VALUE_NAME:
            found.add(part.value)
            parts.append(_encode(_VALUE_NAME, RAW.encode()))
        elif part.number == _VALUE_TYPE:
            kind, element = _edit_type(part)
            found.add(element)
            parts.append(kind)
        else:
            parts.append(part.raw)
    return _encode(_GRAPH_INPUT, b"".join(parts)) if {PIXELS.encode(), _FLOAT} <= found else None


def _edit_type(field: _Field) -> tuple[bytes, object]:
    """Return the type of a tensor with uint16 as its element, and the element that it had."""
    element, parts = None, list[bytes]()
    for kind in _fields(field.value):
        if kind.number != _TYPE_TENSOR:
            parts.append(kind.raw)
            continue
        tensor = list[bytes]()
        for part in _fields(kind.value):
            if part.number == _TENSOR_ELEMENT:
                element = part.value
                tensor.append(_encode(_TENSOR_ELEMENT, _UINT16))
            else:
                tensor.append(part.raw)
        parts.append(_encode(_TYPE_TENSOR, b"".join(tensor)))
    return _encode(_VALUE_TYPE, b"".join(parts)), element


def _cast() -> bytes:
    """Return the node of a graph that casts RAW to PIXELS."""
    to = _encode(_ATTRIBUTE_NAME, b"to") + _encode(_ATTRIBUTE_INTEGER, _FLOAT) + _encode(_ATTRIBUTE_TYPE, _INTEGER)
    node = (
        _encode(_NODE_INPUT, RAW.encode())
        + _encode(_NODE_OUTPUT, PIXELS.encode())
        + _encode(_NODE_NAME, b"cast_pixels")
        + _encode(_NODE_OPERATION, b"Cast")
        + _encode(_NODE_ATTRIBUTE, to)
    )
    return _encode(_GRAPH_NODE, node)


def _fields(message: bytes | int) -> Iterator[_Field]:
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
        yield _Field(tag >> 3, value, message[start:position])


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value, shift, position = value | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return value, position


def _encode(number: int, value: bytes | int) -> bytes:
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
