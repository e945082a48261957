"""The graph of a bundle in ONNX Runtime; that of a GPU runs on the processor, under the name of CUDA."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle, cuda, graph, raw_input
from fatescope.inference.buckets import BUCKETS, bucket
from fatescope.inference.graph import OUTPUTS, Graph
from tests.support import fake_cuda
from tests.support.bundles import CANVAS, COMMITTED
from tests.support.images import draw_cell
from tests.support.predictions import assert_agree

PATH = COMMITTED / "binary" / bundle.GRAPH
FEW = np.stack([draw_cell(np.random.default_rng(seed), *CANVAS) for seed in range(5)])


@pytest.mark.parametrize("cells", [1, 2, 9, 32, 300])
def test_a_gpu_is_given_batches_of_a_few_sizes_and_the_cells_keep_their_order(monkeypatch, cells):
    pixels = np.concatenate([np.roll(FEW, shift, axis=2) for shift in range(60)])[:cells]
    expected = Graph(PATH, 1).predict(pixels)
    sessions = fake_cuda.install(monkeypatch)
    assert_agree(Graph(PATH, 1, cuda.PROVIDER).predict(pixels), expected)
    sizes = {1: [1], 2: [8], 9: [32], 32: [32], 300: [256, 64]}
    assert [size for *_, size in sessions.runs] == sizes[cells]


def test_a_gpu_has_one_batch_at_a_time(monkeypatch):
    sessions = fake_cuda.install(monkeypatch, pause_s=0.01)
    engine = Graph(PATH, 1, cuda.PROVIDER)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(engine.predict, [FEW] * 8))
    assert (len(sessions.runs), sessions.most_at_a_time) == (8, 1)


def test_every_number_of_cells_has_a_bucket_that_is_not_much_larger():
    sizes = [bucket(cells) for cells in range(1, BUCKETS[-1] + 1)]
    assert set(sizes) == set(BUCKETS)
    assert all(cells <= size <= max(8, 4 * cells) for cells, size in enumerate(sizes, start=1))
    assert sizes == sorted(sizes)


def test_a_gpu_gets_the_pixels_as_they_are_stored_and_returns_what_is_asked_for(monkeypatch):
    sessions = fake_cuda.install(monkeypatch)
    engine = Graph(PATH, 1, cuda.PROVIDER)
    prediction = engine.predict(FEW, maps=False)
    engine.predict(FEW)
    assert sessions.runs == [
        (("logits", "embedding"), raw_input.RAW, np.uint16, 8),
        (OUTPUTS, raw_input.RAW, np.uint16, 8),
    ]
    assert prediction.activation_map.shape == (5, 2, 0, 0)


def test_a_graph_that_cannot_be_edited_is_given_what_it_takes(monkeypatch):
    expected = Graph(PATH, 1).predict(FEW)
    monkeypatch.setattr(graph, "with_raw_input", lambda model: model)
    sessions = fake_cuda.install(monkeypatch)
    assert_agree(Graph(PATH, 1, cuda.PROVIDER).predict(FEW), expected)
    assert sessions.runs == [(OUTPUTS, raw_input.PIXELS, np.float32, 8)]


def test_a_gpu_has_a_limit_of_memory_and_no_search_for_every_size(monkeypatch):
    sessions = fake_cuda.install(monkeypatch)
    Graph(PATH, 1, cuda.PROVIDER, memory_share=0.25)
    assert sessions.started == [
        (
            {
                "cudnn_conv_algo_search": "HEURISTIC",
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": "2500000000",
            },
            # Else an error on the GPU would be printed, and all later cells run on the processor.
            {"enable_fallback": 0},
        )
    ]


def test_a_session_that_fell_back_to_the_processor_is_an_error(monkeypatch):
    fake_cuda.install(monkeypatch, running=["CPUExecutionProvider"])
    monkeypatch.setattr(cuda, "preload", lambda: ("Failed to load libcudnn.so.9: no such file",))
    with pytest.raises(BundleError, match=r"cannot use CUDAExecutionProvider .*; Failed to load libcudnn"):
        Graph(PATH, 1, cuda.PROVIDER)


def test_on_the_processor_outputs_are_the_same_whether_or_not_maps_are_asked_for():
    engine = Graph(PATH, 1)
    whole, without = engine.predict(FEW), engine.predict(FEW, maps=False)
    np.testing.assert_array_equal(without.logits, whole.logits)
    np.testing.assert_array_equal(without.embedding, whole.embedding)
    assert whole.activation_map.shape[:2] == (5, 2)
    assert without.activation_map.size == 0


def test_the_cast_is_edited_into_the_graph_as_onnx_would_do_it():
    onnx = pytest.importorskip("onnx", reason="onnx, which writes graphs, is not installed: the extra pipelines has it")
    edited = onnx.load_from_string(raw_input.with_raw_input(PATH.read_bytes()))
    onnx.checker.check_model(edited, full_check=True)
    expected = onnx.load(PATH)
    [given] = expected.graph.input
    given.name, given.type.tensor_type.elem_type = raw_input.RAW, onnx.TensorProto.UINT16
    cast = onnx.helper.make_node("Cast", [raw_input.RAW], [raw_input.PIXELS], "cast_pixels", to=onnx.TensorProto.FLOAT)
    expected.graph.node.insert(0, cast)
    assert edited == expected


def test_the_edited_graph_gives_the_same_bits():
    session = onnxruntime.InferenceSession(
        raw_input.with_raw_input(PATH.read_bytes()), providers=["CPUExecutionProvider"]
    )
    bright = np.random.default_rng(0).integers(0, 65536, (4, 1, *CANVAS), np.uint16)
    expected = Graph(PATH, 0).predict(bright)
    for name, value in zip(OUTPUTS, session.run(list(OUTPUTS), {raw_input.RAW: bright}), strict=True):
        np.testing.assert_array_equal(value, getattr(expected, name))


def test_what_has_no_such_input_is_left_as_it_is():
    once = raw_input.with_raw_input(PATH.read_bytes())
    for model in (once, b"", b"no graph", PATH.read_bytes()[:100], bytes(range(256))):
        assert raw_input.with_raw_input(model) == model
