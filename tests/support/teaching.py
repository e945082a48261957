"""Cells to teach with: two classes, or more, that embeddings and features tell apart more or less well."""

import numpy as np

from fatescope.data import features
from fatescope.inference import bundle
from fatescope.inference.classification import place
from fatescope.teaching.lesson import Cells, teach
from fatescope.teaching.taught_bundle import Facts, Teacher, write
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
    placed = place(pixels, source.spec)
    prediction = source.predict(placed, maps=False)
    samples = np.array([f"run{i // 4 % 4}" for i in range(count)])
    cells = Cells(prediction.embedding, features.cell(placed), features.acquisition(pixels, 16), samples)
    labels = np.array(["plain", "dark"])[np.arange(count) % 2]
    return cells, labels, placed


def write_taught(folder, task="nuclei"):
    """Write a bundle that was taught to tell `described` cells apart."""
    cells, labels, _ = described()
    facts = Facts(np.tile([45, 60], (len(labels), 1)), np.arange(len(labels), dtype=np.int64), [12])
    return write(COMMITTED / "binary", folder, teach(cells, labels), cells, facts, Teacher(task, "ann", "m", "3"), [])
