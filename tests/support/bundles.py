"""The committed bundles, `tests/data/bundles`, and what they have in common; no PyTorch."""

import shutil

from fatescope.config.presets import get_preset
from fatescope.inference import bundle
from fatescope.inference.track_evidence import TrackEvidence
from tests.support.project import ROOT

COMMITTED = ROOT / "tests" / "data" / "bundles"
CANVAS = (60, 80)
CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"]
"""Those of the task `multiclass`; `binary` has the first two."""
EXACT = {"FATESCOPE_ENGINE": "onnxruntime"}
"""The engine that reproduces the bundle's own figures to the last digit."""


def copy_bundle(folder, task, seed=0):
    """Copy the committed bundle of `task`, `binary` or `multiclass`, to `folder`, and return it.

    Another `seed` makes another version of it.
    """
    shutil.copytree(COMMITTED / task, folder)
    if seed:
        bundle.finalize(folder, bundle.read_spec(folder).model_copy(update={"seed": seed}))
    return folder


EVIDENCE = TrackEvidence(correlation=0.4, scale=0.9, frames=8, tracks=100)


def copy_followed_bundle(folder, task):
    """Copy the committed bundle of `task` as one that was trained on cells with several images over time."""
    copy_bundle(folder, task)
    spec = bundle.read_spec(folder)
    dataset = get_preset("followed").values()["dataset"]
    bundle.finalize(folder, spec.model_copy(update={"tracks": EVIDENCE, "params": spec.params | {"dataset": dataset}}))
