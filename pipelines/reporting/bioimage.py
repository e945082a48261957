"""The bundle as a BioImage.IO package: a zip that the tools of BioImage.IO, and programs built on them, run as it is.

The package follows the model description 0.5 (https://bioimage-io.github.io/spec-bioimage-io): the graph, an input with
the outputs that it must give, and the card as documentation.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from fatescope.data.crops import stacked
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec

FORMAT = "0.5.4"
GRAPH, CARD, INPUT = "model.onnx", "README.md", "test_input.npy"


def package(folder: Path, card: str, target: Path) -> None:
    """Write the bundle in `folder` with its `card` as the zip `target`."""
    model = bundle.load(folder, threads=1)
    pixels = model.example[:1]
    prediction = model.predict(pixels)
    outputs = {
        "logits": (prediction.logits, "calibrated logit of each class; softmax gives probabilities"),
        "embedding": (prediction.embedding, "feature map, averaged over positions"),
        "activation_map": (prediction.activation_map, "contribution of each position to each logit"),
    }
    assert tuple(outputs) == bundle.OUTPUTS
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(folder / bundle.GRAPH, GRAPH)
        file.writestr(CARD, card)
        file.writestr(INPUT, _npy(stacked(pixels).astype(np.float32)))
        for name, (values, _) in outputs.items():
            file.writestr(f"test_{name}.npy", _npy(values))
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(describe(model.spec, outputs), text)
        file.writestr("rdf.yaml", text.getvalue())


def describe(spec: Spec, outputs: dict[str, tuple[np.ndarray[Any, Any], str]]) -> dict[str, Any]:
    """Return the content of `rdf.yaml`."""
    height, width = spec.canvas
    batch, channel = {"type": "batch"}, {"type": "channel", "channel_names": _inputs(spec)}
    summary = (
        f"Classifies {' and '.join(dict.fromkeys(spec.kinds))} images of single cells as {', '.join(spec.classes)}."
    )
    layout = f"raw counts, one cell per image, in the middle of {height} by {width} px of its own background"
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"fatescope {spec.task}",
        "description": f"{summary} Trained on simulated cells." if spec.simulated else summary,
        "authors": [{"name": "the laboratory that trained it"}],
        "cite": [{"text": "arXiv 2312.06665", "url": "https://arxiv.org/abs/2312.06665"}],
        "license": "Apache-2.0",
        "documentation": CARD,
        "tags": [*dict.fromkeys(spec.kinds), "classification", "imaging-flow-cytometry", "stem-cells"],
        "inputs": [
            {
                "id": "pixels",
                "description": layout,
                "axes": [
                    batch,
                    channel,
                    {"type": "space", "id": "y", "size": height},
                    {"type": "space", "id": "x", "size": width},
                ],
                "test_tensor": {"source": INPUT},
                "data": {"type": "float32"},
            }
        ],
        "outputs": [
            {
                "id": name,
                "description": text,
                "axes": [batch, _channels(name, values.shape[1], spec), *_space(values.shape[2:])],
                "test_tensor": {"source": f"test_{name}.npy"},
                "data": {"type": "float32"},
            }
            for name, (values, text) in outputs.items()
        ],
        "weights": {"onnx": {"source": GRAPH, "opset_version": spec.opset}},
        "config": {"fatescope": {"data_hash": spec.data_hash, "git_commit": spec.git_commit}},
    }


def _inputs(spec: Spec) -> list[str]:
    """Return the name of each channel: its kind, with the number in the export where there are several."""
    if len(spec.kinds) == 1:
        return list(spec.kinds)
    return [f"{kind}_{name}" for name, kind in spec.channels.items()]


def _channels(name: str, count: int, spec: Spec) -> dict[str, Any]:
    # BioImage.IO allows letters, digits and underscores in identifiers.
    classes = ["".join(c if c.isalnum() else "_" for c in name) for name in spec.classes]
    return {"type": "channel", "channel_names": [f"e{i}" for i in range(count)] if name == "embedding" else classes}


def _space(shape: tuple[int, ...]) -> list[dict[str, Any]]:
    return [{"type": "space", "id": axis, "size": size} for axis, size in zip("yx", shape, strict=False)]


def _npy(values: np.ndarray[Any, Any]) -> bytes:
    raw = io.BytesIO()
    np.save(raw, values)
    return raw.getvalue()
