"""Cells to teach with: two classes, or more, that embeddings and features tell apart more or less well."""

import numpy as np

from fatescope.data import features
from fatescope.inference import bundle
from fatescope.teaching.lesson import Cells
from tests.support.bundles import COMMITTED
from tests.support.images import typical


def cells_of(
    targets, samples, *, seed=0, width=16, embedding_gap=0.0, features_gap=0.0, background_gap=0.0, between=0.0
):
    """Return N cells whose embeddings, features and backgrounds are normal, apart by class and by sample."""
    rng, targets = np.random.default_rng(seed), np.asarray(targets)
    names, place = np.unique(samples, return_inverse=True)
    parts = []
    for columns, gap in ((width, embedding_gap), (len(features.CELL), features_gap), (8, background_gap)):
        values = rng.normal(size=(len(targets), columns)).astype(np.float32)
        values += between * rng.normal(size=(len(names), columns))[place]
        values[:, 0] += gap * targets
        parts.append(values.astype(np.float32))
    return Cells(*parts, np.asarray(samples, np.str_))


def described(count=60, model="binary"):
    """Return cells of images as the bundle `model` sees them, with their pixels: every second one is darker inside."""
    pixels = np.stack([typical(seed) for seed in range(count)])
    pixels[1::2, 18:27, 24:36] //= 2
    source = bundle.load(COMMITTED / model, 1)
    from fatescope.inference.classification import place  # noqa: PLC0415  needs the spec

    placed = place(pixels, source.spec)
    prediction = source.predict(placed, maps=False)
    samples = np.array([f"run{i // 4 % 4}" for i in range(count)])
    cells = Cells(prediction.embedding, features.cell(placed), features.acquisition(pixels, 16), samples)
    labels = np.array(["plain", "dark"])[np.arange(count) % 2]
    return cells, labels, placed
