"""The graph of a bundle in OpenVINO."""

import contextlib
import itertools
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fatescope.data.crops import stacked
from fatescope.inference import bundle
from fatescope.inference.uncertainty import Prediction

Pixels = npt.NDArray[np.uint16]
Images = npt.NDArray[np.float32]

_MIN_PART, _MAX_PART = 8, 32
"""Cells of a part of a batch: with fewer, its thread is not worth its while; with more, they leave the caches."""


class OpenVino:
    """The graph in OpenVINO; several threads may call it at once.

    Each of its `threads` works on cells of its own: threads that share the layers of a small network spend half of
    their time waiting for each other. They share a few cells that are alone, which are answered sooner that way. The
    results are the same to the last bit.
    The layers before the first convolutions are computed in f32 whatever the `precision` of the rest: bf16 has 8
    significant bits, too few for camera counts, and most of its error would arise there.
    """

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        import openvino  # noqa: PLC0415  not needed where a GPU runs the network

        halves = _split(openvino, folder / bundle.GRAPH)
        # On a processor with AMX, OpenVINO gives the thread that compiles a graph another stack for signals, and frees
        # it with the graph, which several graphs and several threads get wrong: the next signal to that thread, such as
        # Ctrl-C to the main one, would end the process by SIGSEGV. No signal is for a thread that has ended.
        with ThreadPoolExecutor(1) as elsewhere:
            together = elsewhere.submit(_Streams, openvino, halves, precision, threads, 1)
            apart = elsewhere.submit(_Streams, openvino, halves, precision, threads, threads) if threads > 1 else None
            self._together = together.result()
            self._apart = apart.result() if apart else self._together

    def predict(self, pixels: Pixels, *, maps: bool = True) -> Prediction:
        """Classify pixels as an Engine does."""
        images = stacked(pixels).astype(np.float32)
        alone = len(images) < _MIN_PART and self._apart.idle
        outputs = (self._together if alone else self._apart).infer(images)
        return Prediction.of(*(outputs if maps else outputs[:-1]))


class _Streams:
    """A graph that is compiled for a number of inferences at a time, which share out the threads."""

    def __init__(
        self,
        openvino: Any,  # noqa: ANN401  OpenVINO has no types
        halves: tuple[Any, Any],
        precision: str,
        threads: int,
        streams: int,
    ) -> None:
        core, self._streams = openvino.Core(), streams
        shared = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
        models = [
            core.compile_model(half, "CPU", {**shared, "INFERENCE_PRECISION_HINT": hint})
            for half, hint in zip(halves, ("f32", precision), strict=True)
        ]
        # Two threads must not use one infer request at the same time.
        self._free: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        for _ in range(streams):
            self._free.put([model.create_infer_request() for model in models])

    @property
    def idle(self) -> bool:
        """Return whether no inference is running."""
        return self._free.qsize() == self._streams

    def infer(self, images: Images) -> list[Images]:
        """Return the outputs of the graph for images, which are shared out among as many inferences as are free."""
        with self._take(max(1, len(images) // _MIN_PART)) as taken:
            count = -(-len(images) // (_MAX_PART * len(taken))) * len(taken)
            parts = np.array_split(images, max(1, count))
            outputs = []
            for start in range(0, len(parts), len(taken)):
                outputs += _infer(taken, parts[start : start + len(taken)])
        return outputs[0] if len(outputs) == 1 else [np.concatenate(output) for output in zip(*outputs, strict=True)]

    @contextlib.contextmanager
    def _take(self, most: int) -> Iterator[list[list[Any]]]:
        """Take infer requests for both halves that nobody uses, at least one pair and at `most` so many."""
        taken = [self._free.get()]
        with contextlib.suppress(queue.Empty):
            while len(taken) < most:
                taken.append(self._free.get_nowait())
        try:
            yield taken
        except BaseException:
            # Of several inferences the others may still be running.
            for request in itertools.chain.from_iterable(taken):
                with contextlib.suppress(Exception):
                    request.wait()
            raise
        finally:
            for pair in taken:
                self._free.put(pair)


def _infer(pairs: list[list[Any]], parts: list[Images]) -> list[list[Images]]:
    """Return the outputs for each of the `parts`, which run at the same time."""
    running = list(zip(pairs, parts, strict=True))
    if len(running) == 1:
        [((prepare, classify), part)] = running
        # In this thread, which saves waking another one.
        prepare.infer([part], share_inputs=True)
        classify.infer(_outputs(prepare), share_inputs=True)
        return [_copied(classify)]
    for (prepare, _), part in running:
        prepare.start_async([part], share_inputs=True)
    for (prepare, classify), _ in running:
        prepare.wait()
        classify.start_async(_outputs(prepare), share_inputs=True)
    outputs = []
    for (_, classify), _ in running:
        classify.wait()
        outputs.append(_copied(classify))
    return outputs


def _outputs(request: Any) -> list[Images]:  # noqa: ANN401  OpenVINO has no types
    return [tensor.data for tensor in request.output_tensors]


def _copied(request: Any) -> list[Images]:  # noqa: ANN401  as above
    """Return the outputs, copied, because the next inference writes to the same memory."""
    return [np.array(output) for output in _outputs(request)]


def _split(openvino: Any, path: Path) -> tuple[Any, Any]:  # noqa: ANN401  OpenVINO has no types
    """Read a graph as two models: up to the first convolutions, and from there to the outputs of a Prediction."""
    graph, downstream, cuts = openvino.Core().read_model(path), dict[str, bool](), dict[str, Any]()
    for node in graph.get_ordered_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        follows = any(downstream[source.get_node().get_friendly_name()] for source in sources)
        convolution = node.get_type_name() == "Convolution"
        downstream[node.get_friendly_name()] = follows or convolution
        if convolution and not follows:
            cuts[sources[0].get_any_name() if sources[0].get_names() else str(len(cuts))] = sources[0]
    first = openvino.Model(list(cuts.values()), graph.get_parameters(), "prepare")
    inputs = []
    for cut in cuts.values():
        inputs.append(openvino.opset13.parameter(cut.get_partial_shape(), np.float32))
        for target in cut.get_target_inputs():
            if target.get_node().get_type_name() == "Convolution":
                target.replace_source_output(inputs[-1].output(0))
    outputs = {name: output for output in graph.outputs for name in output.get_names()}
    results = [outputs[name].get_node().input(0).get_source_output() for name in bundle.OUTPUTS]
    return first, openvino.Model(results, inputs, "classify")
