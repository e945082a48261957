"""Nodes and constants of an ONNX graph, written as messages of protobuf; serving does without `onnx`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fatescope.inference.protobuf import encode

# Numbers of the fields and constants of onnx.proto.
GRAPH_NODE, GRAPH_CONSTANT = 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATION, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
TENSOR_DIMENSION, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TEXT, _ATTRIBUTE_INTEGERS, _ATTRIBUTE_TYPE = 1, 3, 4, 8, 20
_INTEGER, _TEXT, _INTEGERS = 2, 3, 7
_FLOAT, _INT64 = 1, 7

Attribute = int | str | Sequence[int]


class Nodes:
    """Nodes in the order in which they run, with the constants that they read; names begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._count = prefix, 0
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def encoded(self) -> bytes:
        """Return them as fields of a graph."""
        return b"".join(encode(GRAPH_NODE, node) for node in self._nodes) + b"".join(
            encode(GRAPH_CONSTANT, constant) for constant in self._constants
        )

    def constant(self, value: npt.ArrayLike) -> str:
        """Add a constant, integers as int64 and others as float32, and return its name."""
        array = np.asarray(value)
        whole = np.issubdtype(array.dtype, np.integer)
        array = np.ascontiguousarray(array, "<i8" if whole else "<f4")
        name = self._name("constant")
        self._constants.append(
            b"".join(encode(TENSOR_DIMENSION, size) for size in array.shape)
            + encode(TENSOR_TYPE, _INT64 if whole else _FLOAT)
            + encode(TENSOR_NAME, name.encode())
            + encode(TENSOR_RAW, array.tobytes())
        )
        return name

    def add(
        self, operation: str, *inputs: str, output: str | None = None, attributes: dict[str, Attribute] | None = None
    ) -> str:
        """Add a node and return the name of its first output, by default a new one."""
        name = output or self._name(operation.lower())
        self._nodes.append(
            b"".join(encode(NODE_INPUT, read.encode()) for read in inputs)
            + b"".join(encode(NODE_OUTPUT, made.encode()) for made in (name, *_further(operation, name)))
            + encode(NODE_NAME, f"{self._prefix}_node_{self._count}_{operation}".encode())
            + encode(NODE_OPERATION, operation.encode())
            + b"".join(encode(NODE_ATTRIBUTE, _attribute(key, value)) for key, value in (attributes or {}).items())
        )
        self._count += 1
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}_{kind}_{self._count}"


def _further(operation: str, name: str) -> list[str]:
    """Return the names of the outputs after the first one that an operation must have."""
    return [f"{name}_places"] if operation == "TopK" else []


def _attribute(name: str, value: Attribute) -> bytes:
    begin = encode(_ATTRIBUTE_NAME, name.encode())
    if isinstance(value, int):
        return begin + encode(_ATTRIBUTE_INTEGER, value) + encode(_ATTRIBUTE_TYPE, _INTEGER)
    if isinstance(value, str):
        return begin + encode(_ATTRIBUTE_TEXT, value.encode()) + encode(_ATTRIBUTE_TYPE, _TEXT)
    return begin + b"".join(encode(_ATTRIBUTE_INTEGERS, item) for item in value) + encode(_ATTRIBUTE_TYPE, _INTEGERS)
