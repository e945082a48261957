"""Bundles that know the gates around good single cells, and cells that are outside."""

import shutil

import numpy as np

from fatescope.data import cell_quality, quality_gate
from fatescope.inference import bundle
from tests.support.bundles import COMMITTED
from tests.support.images import typical

CELLS = [typical(seed) for seed in range(60)]
GATE = quality_gate.learn(cell_quality.measure(CELLS, [16] * 60), np.full(60, "run"), 0.02)
SATURATED = CELLS[0].copy()
SATURATED[:5, :5] = 2**16 - 1
EMPTY = np.random.default_rng(0).normal(700, 3, (45, 60)).astype(np.uint16)
JUNK = {"saturated": SATURATED, "debris": EMPTY}


def reasons(cell):
    """Return why a 16-bit cell is outside GATE."""
    return quality_gate.reasons(GATE.outside(cell_quality.measure([cell], [16])))[0]


def gated(folder, *, exclude=False):
    """Return the folder with bundles that know GATE, of models that were trained with or without cells outside."""
    shutil.copytree(COMMITTED, folder, ignore=shutil.ignore_patterns("README.md"))
    for path in (folder / "multiclass", folder / "binary"):
        spec = bundle.read_spec(path)
        params = spec.params | {"quality": {"exclude": exclude, "loss": 0.02}}
        bundle.finalize(path, spec.model_copy(update={"quality": GATE, "params": params}))
    return folder
