"""Have an ONNX graph of a bundle take pixels as they are stored, uint16, instead of float32.

A GPU is then sent half of the bytes, and casts them itself. The graph is edited in memory, because the file is as it
was exported, with a hash in the bundle, and every reader of bundles feeds it float32. `onnx` would do it in three
lines, but serving does without that package.
"""

from fatescope.inference.protobuf import Field, encode, fields_of

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


def with_raw_input(model: bytes) -> bytes:
    """Return a serialised ONNX `model` whose float32 input PIXELS has become the uint16 input RAW.

    A model without such an input, or of another format, is returned as it is.
    """
    try:
        fields = list(fields_of(model))
        edited = [_edit_graph(field) if field.number == _MODEL_GRAPH else field.raw for field in fields]
    except (ValueError, IndexError, TypeError):  # not what this module reads; ONNX Runtime will say what it is
        return model
    return model if None in edited else b"".join(part for part in edited if part is not None)


def _edit_graph(graph: Field) -> bytes | None:
    """Return the field with the edited graph, None if there is nothing to edit."""
    fields = list(fields_of(graph.value))
    inputs = {index: edited for index, field in enumerate(fields) if (edited := _edit_input(field)) is not None}
    if len(inputs) != 1:
        return None
    parts = [inputs.get(index, field.raw) for index, field in enumerate(fields)]
    # The cast first: nodes must follow those whose outputs they read.
    return encode(_MODEL_GRAPH, _cast() + b"".join(parts))


def _edit_input(field: Field) -> bytes | None:
    """Return the input RAW in place of the float32 input PIXELS, None for any other field of a graph."""
    if field.number != _GRAPH_INPUT:
        return None
    parts, found = list[bytes](), set[object]()
    for part in fields_of(field.value):
        if part.number == _VALUE_NAME:
            found.add(part.value)
            parts.append(encode(_VALUE_NAME, RAW.encode()))
        elif part.number == _VALUE_TYPE:
            kind, element = _edit_type(part)
            found.add(element)
            parts.append(kind)
        else:
            parts.append(part.raw)
    return encode(_GRAPH_INPUT, b"".join(parts)) if {PIXELS.encode(), _FLOAT} <= found else None


def _edit_type(field: Field) -> tuple[bytes, object]:
    """Return the type of a tensor with uint16 as its element, and the element that it had."""
    element, parts = None, list[bytes]()
    for kind in fields_of(field.value):
        if kind.number != _TYPE_TENSOR:
            parts.append(kind.raw)
            continue
        tensor = list[bytes]()
        for part in fields_of(kind.value):
            if part.number == _TENSOR_ELEMENT:
                element = part.value
                tensor.append(encode(_TENSOR_ELEMENT, _UINT16))
            else:
                tensor.append(part.raw)
        parts.append(encode(_TYPE_TENSOR, b"".join(tensor)))
    return encode(_VALUE_TYPE, b"".join(parts)), element


def _cast() -> bytes:
    """Return the node of a graph that casts RAW to PIXELS."""
    to = encode(_ATTRIBUTE_NAME, b"to") + encode(_ATTRIBUTE_INTEGER, _FLOAT) + encode(_ATTRIBUTE_TYPE, _INTEGER)
    node = (
        encode(_NODE_INPUT, RAW.encode())
        + encode(_NODE_OUTPUT, PIXELS.encode())
        + encode(_NODE_NAME, b"cast_pixels")
        + encode(_NODE_OPERATION, b"Cast")
        + encode(_NODE_ATTRIBUTE, to)
    )
    return encode(_GRAPH_NODE, node)
