"""What `benchmarks.gpu` measures of inference: the engine beside a CUDA graph and TensorRT, and `score` beside both."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from benchmarks.report import Figure
from fatescope.data import images
from fatescope.data.crops import center, stacked
from fatescope.inference import bundle
from fatescope.networks import network
from fatescope.networks.preprocessing import widen
from pipelines.training.device import autocast

BATCHES = (64, 256)
Pixels = npt.NDArray[np.uint16]


def rate(run: Callable[[], object], cells: int, seconds: float) -> float:
    """Return the cells per second of `run`, which classifies `cells` and returns when their outputs are on the host."""
    for _ in range(3):
        run()
    start, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not count:
        run()
        count += 1
    return count * cells / spent


def graph_peer(folder: Path, device: torch.device, pixels: Pixels) -> Callable[[], object]:
    """Return the network in PyTorch on a batch in page-locked memory: copied, replayed as a CUDA graph, copied back.

    It computes in the precision of training, channels last. On a CPU it is run eagerly.
    """
    model = network.restore(bundle.read_spec(folder), folder / bundle.WEIGHTS).to(device)
    model = model.to(memory_format=torch.channels_last)
    host = torch.from_numpy(pixels.view(np.int16))

    @torch.inference_mode()
    def classify(stored: torch.Tensor) -> list[torch.Tensor]:
        with autocast(device):
            outputs = model(widen(stored))
        return [outputs.logits.float(), outputs.embedding.float()]

    if device.type != "cuda":
        return lambda: classify(host)
    host, stored = host.pin_memory(), host.to(device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            classify(stored)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = classify(stored)
    results = [torch.empty_like(output, device="cpu", pin_memory=True) for output in outputs]

    def run() -> None:
        stored.copy_(host, non_blocking=True)
        graph.replay()
        for result, output in zip(results, outputs, strict=True):
            result.copy_(output, non_blocking=True)
        torch.cuda.synchronize()

    return run


def tensorrt_peer(folder: Path, pixels: Pixels) -> Callable[[], object] | None:
    """Return the exported graph in TensorRT in fp16; None where ONNX Runtime has no TensorRT here."""
    name = "TensorrtExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        return None
    options = {"trt_fp16_enable": True, "trt_engine_cache_enable": False}
    try:
        session = onnxruntime.InferenceSession(folder / bundle.GRAPH, providers=[(name, options)])
    except Exception as error:  # noqa: BLE001  its libraries are missing in as many ways as there are versions
        print(f"TensorRT cannot be loaded: {error}")
        return None
    if session.get_providers()[0] != name:
        return None
    cells = stacked(pixels).astype(np.float32)
    return lambda: session.run(list(bundle.OUTPUTS[:2]), {"pixels": cells})


def measure_engine(folder: Path, device: torch.device, seconds: float) -> tuple[list[Figure], float]:
    """Return the figures of the engine that the service chooses for the bundle in `folder`, and its rate."""
    from service.inference import engines  # noqa: PLC0415  a bare machine may lack what the service is made of

    model, name = engines.start(folder)
    figures, best = [], {"engine": 0.0, "CUDA graph": 0.0, "TensorRT": 0.0}
    for batch in BATCHES:
        pixels = np.resize(model.example, (batch, *model.spec.shape))
        tensorrt = tensorrt_peer(folder, pixels)
        runs = {
            "engine": lambda pixels=pixels: model.predict(pixels, maps=False),
            "CUDA graph": graph_peer(folder, device, pixels),
        }
        runs |= {"TensorRT": tensorrt} if tensorrt else {}
        for kind, run in runs.items():
            measured = rate(run, batch, seconds)
            best[kind] = max(best[kind], measured)
            shown = f"engine {name}" if kind == "engine" else kind
            figures.append(Figure(f"cells a second, {model.spec.backbone}, {shown}, batch {batch}", measured))
    peer = max(best["CUDA graph"], best["TensorRT"])
    title = f"engine over the best of a CUDA graph and TensorRT ({model.spec.backbone})"
    return [Figure(title, best["engine"] / peer, ">= 0.7"), *figures], best["engine"]


def measure_score(folder: Path, paths: list[Path], out: Path, engine: float) -> list[Figure]:
    """Return the figures of `score` in one process on the files of `paths`, beside decoding and the `engine`'s rate."""
    from service.batch.plan import create_plan  # noqa: PLC0415  as above
    from service.batch.worker import Scorer  # noqa: PLC0415  as above
    from service.inference import engines  # noqa: PLC0415  as above
    from service.registry.model_store import Champion  # noqa: PLC0415  as above

    start = time.perf_counter()
    canvas = bundle.read_spec(folder).canvas
    for path in paths:
        [(_, pixels)] = images.decode(path.read_bytes(), "cell", 1_000_000)
        center(pixels, canvas, "cell")
    decoding = len(paths) / (time.perf_counter() - start)
    source = paths[0].parents[1]
    plan = create_plan(source, out, Champion(bundle.read_spec(folder).task, "1", folder))
    scorer = Scorer(out, None, engines.available_cores())
    scorer.score(0)
    start = time.perf_counter()
    cells = sum(scorer.score(part).cells for part in range(plan.parts))
    scored = cells / (time.perf_counter() - start)
    assert cells == len(paths), f"{cells} of {len(paths)} files were classified"
    return [
        Figure("score over the slower of decoding and engine", scored / min(decoding, engine), ">= 0.85"),
        Figure("cells a second, score in one process", scored),
        Figure("files a second, decoding on one core", decoding),
    ]
