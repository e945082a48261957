"""Bundles of untrained networks."""

import json

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_model

from fatescope import config
from fatescope.data import features
from fatescope.data.crops import center, stacked
from fatescope.inference import bundle
from fatescope.inference.ood import MahalanobisDetector
from fatescope.networks import backbones, network
from tests.support.bundles import CANVAS
from tests.support.images import typical
from tests.support.project import ROOT


def scatter(seed):
    """Return (45, 60) pixels of the darkfield of `typical(seed)`: bright where that is dark."""
    return (1000 - typical(seed)).astype(np.uint16)


def write_bundle(folder, task, classes, seed=0, backbone="compact", input_size=(45, 60), *, channels=None):
    """Write the bundle of an untrained network: what it says means nothing, but it always says the same.

    `channels` are those of a model that sees `typical` cells and their `scatter`.
    """
    torch.manual_seed(len(classes) + seed)
    folder.mkdir(parents=True)
    kinds = tuple((channels or {"1": "brightfield"}).values())
    built = backbones.build(backbone, "none", input_size, len(kinds))
    how = {"resize": "pad", "normalisation": "contrast", "dropout": 0.0, "kinds": kinds}
    model = network.Network(built, len(classes), input_size, **how).eval()
    native = [typical(seed) if len(kinds) == 1 else np.stack([typical(seed), scatter(seed)]) for seed in range(120)]
    known = np.stack([center(each, CANVAS, "x") for each in native])
    with torch.no_grad():
        if model.unit is not None:
            model.unit.fill_(100)
        embedding = model(torch.from_numpy(stacked(known).astype(np.float32))).embedding
        # An untrained network hardly tells cells apart; this one is sure of some, and of each class.
        model.linear.weight.div_((embedding @ model.linear.weight.T).std() / 5)
        model.linear.bias.copy_(-(embedding @ model.linear.weight.T).mean(0))
    save_model(model, str(folder / bundle.WEIGHTS))
    network.export(model, CANVAS, folder / bundle.GRAPH, len(kinds))
    graph = bundle.Graph(folder / bundle.GRAPH, 1)
    save_file({"pixels": known[:4], "logits": graph.predict(known[:4]).logits}, folder / bundle.TEST)
    found = graph.predict(known)
    outliers = MahalanobisDetector.fit(found.embedding, found.logits.argmax(1), 8)
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
        "backbone": backbone,
        "join": None,
        "seed": 0,
        "temperature": 1.0,
        "coverage": 0.9,
        "conformal": [0.2] * len(classes),
        "false_alarm": 0.01,
        "outlier_threshold": 1.2 * float(outliers.score(found.embedding).max()),
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
                    "backbone": backbone,
                    "input_size": list(input_size),
                    "resize": "pad",
                    "normalisation": "contrast",
                    "dropout": 0.0,
                }
            ],
            "dataset": json.loads(config.load(ROOT / "params.yaml").dataset.model_dump_json()),
        },
        "hashes": {},
    }
    if channels:
        spec |= {"channel": next(iter(channels)), "channels": channels}
        spec["params"]["dataset"] |= {"channels": channels, "marker_channels": []}
    names = features.acquisition_names(list(channels or "1"))
    figures = pd.DataFrame(features.acquisition(np.stack(native), 16), columns=list(names))
    manifest = figures.assign(label=classes[0], group=[f"g{i % 3}" for i in range(120)], height=45, width=60)
    told = bundle.Spec.model_validate(spec)
    bundle.build_reference(manifest, [found], told, outliers).to_parquet(folder / bundle.REFERENCE)
    bundle.finalize(folder, told)
