"""What the tests of the service share: bundles of untrained networks, and a service that serves them."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_model

from pipelines.core import backbones, bundle, features, images, network
from pipelines.core.outliers import Outliers
from tests.conftest import ROOT, draw_cell
from tests.serving import serving

CANVAS = (60, 80)
EXACT = {"FATESCOPE_ENGINE": "onnxruntime"}
"""What gives the numbers of the bundle to the last digit."""
CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"]


def write_bundle(folder, task, classes, seed=0):
    """Write the bundle of an untrained network: what it says means nothing, but it always says the same."""
    torch.manual_seed(len(classes) + seed)
    folder.mkdir(parents=True)
    backbone = backbones.build("compact", "none", (45, 60))
    model = network.Network(backbone, len(classes), (45, 60), resize="pad", normalisation="contrast", dropout=0.0)
    save_model(model, str(folder / bundle.WEIGHTS))
    network.export(model, CANVAS, folder / bundle.GRAPH)
    pixels = np.stack([draw_cell(np.random.default_rng(0), *CANVAS)])
    found = bundle.Graph(folder / bundle.GRAPH, 1).predict(pixels)
    save_file({"pixels": pixels, "logits": found.logits}, folder / bundle.TEST)
    cloud = np.random.default_rng(0).normal(found.embedding, 1, (50, found.embedding.shape[1])).astype(np.float32)
    outliers = Outliers.fit(cloud, np.arange(50) % len(classes), 8)
    outliers.save(folder / bundle.OUTLIERS)
    spec = {
        "format": bundle.FORMAT,
        "opset": bundle.OPSET,
        "task": task,
        "classes": classes,
        "canvas": CANVAS,
        "bit_depths": [16],
        "height_px": (36, 56),
        "width_px": (48, 76),
        "channel": "1",
        "backbone": "compact",
        "join": None,
        "seed": 0,
        "temperature": 1.0,
        "coverage": 0.9,
        "conformal": [0.2] * len(classes),
        "false_alarm": 0.01,
        "outlier_threshold": 3.0,
        "prior": [1 / len(classes)] * len(classes),
        "composition_error": np.zeros((len(classes), len(classes))).tolist(),
        "cost": {"parameters": 1.0, "multiply_adds": 1.0, "fit_seconds": 1.0},
        "split": "grouped",
        "confounded": {},
        "simulated": True,
        "data_hash": "",
        "git_commit": "",
        "params": {
            "train": [
                {
                    "backbone": "compact",
                    "input_size": [45, 60],
                    "resize": "pad",
                    "normalisation": "contrast",
                    "dropout": 0.0,
                }
            ],
            "dataset": {
                "label": "medium",
                "classes": {"a": "astrocyte", "o": "oligodendrocyte", "n": "RA/SHH", "nt3": "NT3"},
                "pattern": r"(?P<medium>[a-z0-9]+)_(?P<day>\d+)d(?P<run>\d*)_(?P<object>\d+)_Ch(?P<channel>\d+)",
            },
        },
        "hashes": {},
    }
    known = np.stack([draw_cell(np.random.default_rng(seed)) for seed in range(120)])
    placed = np.stack([images.center(each, CANVAS, "x") for each in known])
    manifest = pd.DataFrame(features.acquisition(known, 16), columns=list(features.ACQUISITION)).assign(
        label=classes[0], group=[f"g{i % 3}" for i in range(len(known))], height=45, width=60
    )
    told = bundle.Spec.model_validate(spec)
    found = [bundle.Graph(folder / bundle.GRAPH, 1).predict(placed)]
    bundle.describe_reference(manifest, found, told, outliers).to_parquet(folder / bundle.REFERENCE)
    bundle.seal(folder, told)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "binary", "binary", ["astrocyte", "oligodendrocyte"])
    write_bundle(folder / "multiclass", "multiclass", CLASSES)
    return folder


@pytest.fixture(scope="module")
def client(bundles, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served"), ROOT, {"FATESCOPE_BUNDLES": str(bundles), **EXACT}) as client:
        yield client


@pytest.fixture
def cell(rng):
    return draw_cell(rng)
