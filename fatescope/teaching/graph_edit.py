"""Put another head into the ONNX graph of a bundle; what is before the embedding stays as it is, byte by byte."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fatescope.errors import BundleError
from fatescope.inference.graph import OUTPUTS
from fatescope.inference.protobuf import Field, encode, fields_of
from fatescope.inference.raw_input import PIXELS
from fatescope.inference.spec import Spec
from fatescope.teaching.feature_nodes import add_cell_features
from fatescope.teaching.head import CLIP, Head
from fatescope.teaching.nodes import (
    GRAPH_CONSTANT,
    GRAPH_NODE,
    NODE_INPUT,
    NODE_OPERATION,
    NODE_OUTPUT,
    TENSOR_NAME,
    Nodes,
)

_MODEL_GRAPH, _GRAPH_OUTPUT, _GRAPH_VALUE = 7, 12, 13
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_SIZE = 1, 2, 1, 1, 2, 1
_SIZE_VALUE, _FLOAT = 1, 1
_LOGITS, _EMBEDDING, _MAPS = OUTPUTS


@dataclass(frozen=True)
class _Node:
    raw: bytes
    inputs: list[str]
    outputs: list[str]
    operation: str

    @classmethod
    def of(cls, field: Field) -> "_Node":
        parts = list(fields_of(field.value))
        inputs, outputs, operations = (
            [_text(part) for part in parts if part.number == number]
            for number in (NODE_INPUT, NODE_OUTPUT, NODE_OPERATION)
        )
        return cls(field.raw, inputs, outputs, operations[0])


def replace_head(model: bytes, head: Head, spec: Spec) -> bytes:
    """Return the graph of a bundle, whose `spec` is as before, with `head` in place of its own.

    Raises BundleError for a graph whose embedding is not the mean of a feature map, or of several.
    """
    try:
        fields = list(fields_of(model))
        graph = next(field for field in fields if field.number == _MODEL_GRAPH)
        edited = _edit(list(fields_of(graph.value)), head, spec)
    except (ValueError, IndexError, TypeError, KeyError, StopIteration) as error:
        raise BundleError(f"the graph of the bundle cannot take another head ({error}); train it again") from error
    return b"".join(encode(_MODEL_GRAPH, edited) if field is graph else field.raw for field in fields)


def _edit(fields: list[Field], head: Head, spec: Spec) -> bytes:
    nodes = [_Node.of(field) for field in fields if field.number == GRAPH_NODE]
    maker = {name: node for node in nodes for name in node.outputs}
    feature_maps = _feature_maps(maker)
    sizes = {_value_name(field): _sizes(field) for field in fields if field.number in (_GRAPH_OUTPUT, _GRAPH_VALUE)}
    needed = _needed(maker, [_EMBEDDING, *feature_maps])
    kept = [node for node in nodes if node.outputs[0] in needed]
    read = {name for node in kept for name in node.inputs}
    parts = [node.raw for node in kept]
    added = Nodes("taught")
    _add_head(added, head, spec, feature_maps, sizes)
    for field in fields:
        if field.number == GRAPH_CONSTANT:
            parts += [field.raw] if _tensor_name(field) in read else []
        elif field.number == _GRAPH_OUTPUT:
            name = _value_name(field)
            parts.append(field.raw if name == _EMBEDDING else _output(name, sizes[name], len(head.offsets)))
        # The types of what is in between are for readers, and some of it is gone.
        elif field.number not in (GRAPH_NODE, _GRAPH_VALUE):
            parts.append(field.raw)
    return b"".join(parts) + added.encoded()


def _feature_maps(maker: dict[str, _Node]) -> list[str]:
    """Return the names of the (B, C, h, w) whose means are the embedding, in its order."""
    last = maker[_EMBEDDING]
    means = [maker[name] for name in last.inputs] if last.operation == "Concat" else [last]
    for node in means:
        if node.operation != "ReduceMean":
            raise ValueError(f"its embedding is made by {node.operation}, not by the mean of a feature map")
    return [node.inputs[0] for node in means]


def _needed(maker: dict[str, _Node], names: Iterable[str]) -> set[str]:
    """Return the first outputs of the nodes that something among `names` is computed from."""
    found, waiting = set[str](), list(names)
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.outputs[0] not in found:
            found.add(node.outputs[0])
            waiting += node.inputs
    return found


def _add_head(nodes: Nodes, head: Head, spec: Spec, feature_maps: list[str], sizes: dict[str, list[bytes]]) -> None:
    weights = np.asarray(head.embedding_weights, np.float32)
    terms = []
    if head.design != "features":
        terms.append(nodes.add("MatMul", _EMBEDDING, nodes.constant(weights.T)))
    if head.design != "embedding":
        features = add_cell_features(nodes, PIXELS, spec.canvas, len(spec.kinds))
        centred = nodes.add("Sub", features, nodes.constant(np.asarray(head.middle, np.float32)))
        standard = nodes.add("Div", centred, nodes.constant(np.asarray(head.scale, np.float32)))
        clipped = nodes.add("Clip", standard, nodes.constant(-CLIP), nodes.constant(CLIP))
        terms.append(nodes.add("MatMul", clipped, nodes.constant(np.asarray(head.feature_weights.T, np.float32))))
    terms.append(nodes.constant(np.asarray(head.offsets, np.float32)))
    nodes.add("Sum", *terms, output=_LOGITS)
    _add_maps(nodes, weights, feature_maps, sizes)


def _add_maps(
    nodes: Nodes, weights: npt.NDArray[np.float32], feature_maps: list[str], sizes: dict[str, list[bytes]]
) -> None:
    """Add what each position contributes to each logit through the embedding, as `Network` and `Ensemble` do."""
    if len(feature_maps) == 1:
        nodes.add("Conv", feature_maps[0], nodes.constant(weights[:, :, None, None]), output=_MAPS)
        return
    # On the grid of the finest, which is that of the output, as PyTorch interpolates.
    grid = nodes.constant([_whole(size) for size in sizes[_MAPS][2:]])
    ends = np.cumsum([_whole(sizes[name][1]) for name in feature_maps])
    resized = []
    for name, part in zip(feature_maps, np.split(weights, ends[:-1], axis=1), strict=True):
        share = nodes.add("Conv", name, nodes.constant(part[:, :, None, None]))
        resized.append(nodes.add("Resize", share, "", "", grid, attributes={"axes": [2, 3], "mode": "linear"}))
    nodes.add("Sum", *resized, output=_MAPS)


def _output(name: str, sizes: list[bytes], classes: int) -> bytes:
    """Return an output whose second size is `classes`."""
    changed = [sizes[0], encode(_SIZE_VALUE, classes), *sizes[2:]]
    shape = b"".join(encode(_SHAPE_SIZE, size) for size in changed)
    tensor = encode(_TENSOR_ELEMENT, _FLOAT) + encode(_TENSOR_SHAPE, shape)
    value = encode(_VALUE_NAME, name.encode()) + encode(_VALUE_TYPE, encode(_TYPE_TENSOR, tensor))
    return encode(_GRAPH_OUTPUT, value)


def _sizes(field: Field) -> list[bytes]:
    """Return the sizes of an output, as messages."""
    message: bytes | int = field.value
    for number in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        message = _one(message, number).value
    return [size.value for size in fields_of(message) if size.number == _SHAPE_SIZE and isinstance(size.value, bytes)]


def _whole(size: bytes) -> int:
    value = _one(size, _SIZE_VALUE).value
    if not isinstance(value, int):
        raise TypeError("a size without a number")
    return value


def _one(message: bytes | int, number: int) -> Field:
    return next(field for field in fields_of(message) if field.number == number)


def _value_name(field: Field) -> str:
    return _text(_one(field.value, _VALUE_NAME))


def _tensor_name(field: Field) -> str:
    return _text(_one(field.value, TENSOR_NAME))


def _text(field: Field) -> str:
    if isinstance(field.value, int):
        raise TypeError("a number where a text should be")
    return field.value.decode()
