"""A compact network that three large ones taught, against its teacher and against one that had the labels alone.

The default cells (`multiclass`, by run) and a tenth of the labels of malaria (by patient). The teacher is the mean of
three ResNet18; all networks take the epoch that is best on validation cells, and nothing is chosen on test cells.
Speed is that of the exported graphs in ONNX Runtime on one thread, timed in turn.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from scipy.special import softmax

from benchmarks.accuracy import MALARIA, SEED
from benchmarks.few_labels.sets import Divided, Sets
from benchmarks.tables import Row
from fatescope.config import Train
from fatescope.inference.graph import Graph
from fatescope.networks.network import Ensemble, Network, export
from pipelines.registry.difference import measure_difference
from pipelines.registry.paired import PairedPredictions
from pipelines.training.distillation import student_settings
from pipelines.training.ensemble import join_networks, model_cost
from pipelines.training.prediction import predict
from pipelines.training.trainer import fit

MEMBERS = 3
"""Networks of the teacher."""
LARGE = {"backbone": "resnet18", "batch_size": 64}
DEFAULT = LARGE | {"epochs": 12, "patience": 12, "learning_rate": 2e-3}
OF_MALARIA = MALARIA | LARGE | {"epochs": 6, "patience": 6, "learning_rate": 1e-3, "input_size": [48, 48], "threads": 1}
MALARIA_LABELS = 0.1
"""Share of the labels of malaria: the teacher takes minutes on these."""
TIMED_CELLS, ROUNDS = 64, 5
SHARE, TENTH = ">= 0.98", ">= 10"
NUMBERS = {"times fewer multiply-adds": "{:.1f}", "times the cells a second": "{:.1f}"}


def measure(sets: Sets) -> list[Row]:
    """Return the rows of both sets."""
    return measure_default(sets) + measure_malaria(sets)


def measure_default(sets: Sets) -> list[Row]:
    """Return the rows of the default cells."""
    return compare("default cells", sets.default("multiclass"), sets.common.changed(DEFAULT), sets.small)


def measure_malaria(sets: Sets) -> list[Row]:
    """Return the rows of malaria."""
    divided = sets.malaria.with_labels(MALARIA_LABELS)
    return compare("malaria, a tenth of the labels", divided, sets.common.changed(OF_MALARIA), sets.small)


def compare(name: str, divided: Divided, settings: Train, small: bool) -> list[Row]:
    """Train teacher, student and the same network without a teacher; return a row of each."""
    if small:
        settings = settings.changed({"backbone": "mobilenet_v3_large", "epochs": 1})
    examples, classes = divided.examples, len(divided.classes)

    def train(settings: Train, seed: int, teacher: Network | Ensemble | None = None) -> Network:
        return fit(examples, classes, settings, seed, lambda *_: None, teacher=teacher).network

    teacher = join_networks(
        [train(settings, SEED + number) for number in range(MEMBERS)], examples, classes, "probabilities"
    )
    student = student_settings([settings] * MEMBERS, _canvas(divided))
    assert student is not None, "large networks have a student"
    taught = train(student, SEED, teacher)
    labels_alone = train(student.changed({"distil": False}), SEED)
    costs, speeds = _costs([teacher, taught], divided)
    rows = [Row(f"{name}: teacher, three ResNet18", {"balanced accuracy": _balanced(teacher, divided, divided.test)})]
    for role, network in (("taught by it", taught), ("labels alone", labels_alone)):
        values = _paired(teacher, network, divided)
        bars = {"of the teacher's": SHARE} if network is taught else {}
        if network is taught:
            values |= {
                "times fewer multiply-adds": costs[0] / costs[1],
                "times the cells a second": speeds[1] / speeds[0],
            }
            bars |= dict.fromkeys(NUMBERS, TENTH)
        rows.append(Row(f"{name}: compact, {role}", values, bars, NUMBERS))
    return rows


def _balanced(network: Network | Ensemble, divided: Divided, rows: np.ndarray) -> float:
    called = predict(network, divided.examples.pixels, rows).logits.argmax(1)
    targets = divided.examples.targets[rows]
    return float(np.mean([(called == k)[targets == k].mean() for k in np.unique(targets)]))


def _paired(teacher: Network | Ensemble, network: Network, divided: Divided) -> dict[str, float]:
    """Return the balanced accuracy of `network`, its share of the teacher's, and the 95 % interval of the difference.

    By a jackknife over acquisition groups on the same test cells, as at the gate.
    """
    test = divided.test
    before, after = (
        softmax(predict(model, divided.examples.pixels, test).logits, axis=1) for model in (teacher, network)
    )
    paired = PairedPredictions(
        rows=test,
        classes=list(divided.classes),
        targets=divided.examples.targets[test],
        groups=divided.groups[test].astype(str),
        before=before,
        after=after,
        cost_before=1.0,
        cost_after=1.0,
    )
    difference = measure_difference(paired)
    low, high = difference.ends(0.025)
    return {
        "balanced accuracy": difference.after,
        "of the teacher's": difference.after / difference.before,
        "less the teacher's": difference.gain,
        "from": low,
        "to": high,
    }


def _costs(models: list[Network | Ensemble], divided: Divided) -> tuple[list[float], list[float]]:
    """Return the multiply-adds for a cell, and the cells a second on one thread, of each of `models`."""
    pixels = divided.examples.pixels
    costs = [model_cost(model, pixels.shape[1:]).multiply_adds for model in models]
    cells = np.asarray(pixels[divided.test[:TIMED_CELLS]])
    with tempfile.TemporaryDirectory() as folder:
        graphs = []
        for number, model in enumerate(models):
            export(model, _canvas(divided), Path(folder) / f"{number}.onnx")
            graphs.append(Graph(Path(folder) / f"{number}.onnx", 1))
        times: list[list[float]] = [[] for _ in graphs]
        for _ in range(ROUNDS):
            # In turn, so that a busy minute slows all of them.
            for graph, taken in zip(graphs, times, strict=True):
                start_s = time.perf_counter()
                graph.predict(cells)
                taken.append(time.perf_counter() - start_s)
    return costs, [len(cells) / median(taken) for taken in times]


def _canvas(divided: Divided) -> tuple[int, int]:
    height, width = divided.examples.pixels.shape[-2:]
    return height, width
