"""The committed bundles, `tests/data/bundles`, and what they have in common; no PyTorch."""

import shutil

from fatescope.inference import bundle
from tests.support.project import ROOT

COMMITTED = ROOT / "tests" / "data" / "bundles"
CANVAS = (60, 80)
CLASSES = ["astrocyte", "oligodendrocyte", "RA/SHH", "NT3"]
"""Those of the task `multiclass`; `binary` has the first two."""
EXACT = {"FATESCOPE_ENGINE": "onnxruntime"}
"""The engine that reproduces the bundle's own figures to the last digit."""


def copy_bundle(folder, task, seed=0):
    """Copy the committed bundle of `task`, `binary` or `multiclass`; another `seed` makes another version of it."""
    shutil.copytree(COMMITTED / task, folder)
    if seed:
        bundle.finalize(folder, bundle.read_spec(folder).model_copy(update={"seed": seed}))
