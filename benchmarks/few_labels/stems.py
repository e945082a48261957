"""`train.stem: small` beside `standard`: accuracy, cost, and whether activation maps point at what decides.

Pairs of fits with the same cells, settings and seed. Malaria with labels for a tenth of the training cells; the first
of the five Jurkat folds; four classes of the default cells. Every fit takes all its epochs, so that nothing is chosen,
and each cell is seen in one view.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from benchmarks.accuracy import JURKAT_FIT, MALARIA, SEED
from benchmarks.few_labels import kept_fits
from benchmarks.few_labels.kept_fits import Fitted
from benchmarks.few_labels.sets import Divided, Sets
from benchmarks.tables import Row
from fatescope.data import dataset
from fatescope.data.crops import stacked
from fatescope.networks.network import Network
from pipelines.evaluation import map_metrics
from pipelines.evaluation.intervals import Floats, Interval, Units, interval
from pipelines.evaluation.map_metrics import Areas
from pipelines.training.prediction import predict

STEMS = ("standard", "small")
FOLDS = 1
"""Jurkat folds."""
LABELS = 0.1
"""Share of the malaria cells that have labels."""
MAPS = 100
"""Test cells of each set whose maps are tried."""
DEFAULT = {
    "backbone": "resnet18", "input_size": [45, 60], "resize": "pad", "epochs": 15, "batch_size": 64,
    "learning_rate": 3e-3,
}  # fmt: skip
SIGNED = {"value": "{:+.1%}", "from": "{:+.1%}", "to": "{:+.1%}"}
COSTS = {"M multiply-adds": "{:,.0f}", "seconds a fit": "{:.0f}", "cells a second": "{:.0f}"}


@dataclass(frozen=True)
class Case:
    """A set of cells with what a pair of fits takes."""

    name: str
    folder: str
    """Where its cells were ingested, below the folder of the sets."""
    folds: list[Divided]
    changes: dict[str, object]
    units: str
    """What the intervals leave out in turn: `groups`, or `cells`."""


@dataclass(frozen=True)
class Trained:
    """The fits of one stem by fold."""

    fits: list[Fitted]
    values: list[Floats]
    """Their probabilities for the test cells of the fold."""


def cases(sets: Sets) -> list[Case]:
    """Return the sets with their settings."""
    few = {"epochs": 1, "batch_size": 16} if sets.small else {}
    malaria, jurkat = MALARIA | {"epochs": 20, "batch_size": 64} | few, JURKAT_FIT | {"epochs": 20} | few
    one = {"views": "one"}
    return [
        Case("malaria", "malaria", [sets.malaria.with_labels(LABELS)], malaria | one, "groups"),
        Case("Jurkat", "jurkat_ifc", sets.jurkat[:FOLDS], jurkat | one, "cells"),
        Case("default", "default", [sets.default("multiclass")], DEFAULT | one | few, "groups"),
    ]


def measure(sets: Sets) -> list[Row]:
    """Return the rows of all sets."""
    return [row for case in cases(sets) for row in compare(sets, case)]


def compare(sets: Sets, case: Case) -> Iterable[Row]:
    """Yield the rows of one set: each stem, their difference, and what the maps of each are worth."""
    trained = {stem: train(sets, case, stem) for stem in STEMS}
    units = [kept_fits.units_of(fold, fold.test, case.units) for fold in case.folds]
    accuracy = {stem: _accuracy(case, trained[stem], units) for stem in STEMS}
    fits, cells = {stem: trained[stem].fits[0] for stem in STEMS}, case.folds[0]
    rates, seconds = dict.fromkeys(STEMS, 0.0), dict.fromkeys(STEMS, np.inf)
    # In turn, so that other programs slow both down.
    for _ in range(1 if sets.small else 2):
        for stem in STEMS:
            rates[stem] = max(rates[stem], kept_fits.rate(fits[stem].network, cells, 64 if sets.small else 512))
            seconds[stem] = min(seconds[stem], kept_fits.fit_seconds(fits[stem], cells))
    cost = {stem: kept_fits.multiply_adds(fits[stem].network, cells) for stem in STEMS}
    for stem in STEMS:
        ends = _joined([interval(values, one) for values, one in zip(accuracy[stem], units, strict=True)])
        costs = {"M multiply-adds": cost[stem], "seconds a fit": seconds[stem], "cells a second": rates[stem]}
        yield Row(f"{case.name}, {stem}", limits(ends) | costs, forms=COSTS)
    pairs = zip(accuracy["small"], accuracy["standard"], units, strict=True)
    gain = _joined([kept_fits.difference(*pair) for pair in pairs])
    both = {"M multiply-adds": cost, "seconds a fit": seconds, "cells a second": rates}
    ratio = {column: values["small"] / values["standard"] for column, values in both.items()}
    times = dict.fromkeys(both, "{:.2f} times")
    bars = {"M multiply-adds": "<= 4"}
    yield Row(f"{case.name}, small minus standard", limits(gain) | ratio, bars, SIGNED | times)
    for stem in STEMS:
        yield from _maps(sets, case, fits[stem], stem)


def train(sets: Sets, case: Case, stem: str) -> Trained:
    """Return the fits of one stem, and what they predict."""
    settings = sets.common.changed(case.changes | {"stem": stem, "weights": "none"})
    fits, values = [], []
    for fold in case.folds:
        fits.append(kept_fits.fit_once(sets.work / "fits", fold, settings, SEED))
        values.append(kept_fits.probabilities(fits[-1].network, fold, fold.test))
        print(f"stems: {case.name}, {stem}, a fold", flush=True)
    return Trained(fits, values)


def _accuracy(case: Case, trained: Trained, units: list[Units]) -> list[Floats]:
    folds = zip(case.folds, trained.values, units, strict=True)
    return [kept_fits.accuracy_without(fold, fold.test, values, one) for fold, values, one in folds]


def _joined(folds: list[Interval]) -> Interval:
    """Return the mean over folds, whose test cells are different ones: their errors are independent."""
    value = float(np.mean([fold.value for fold in folds]))
    reach = [np.sqrt(np.square([getattr(fold, end) - fold.value for fold in folds]).sum()) for end in ("low", "high")]
    return Interval(value, value - float(reach[0]) / len(folds), value + float(reach[1]) / len(folds))


def limits(ends: Interval) -> dict[str, float]:
    """Return a value and its interval as columns."""
    return {"value": ends.value, "from": ends.low, "to": ends.high}


def _maps(sets: Sets, case: Case, fitted: Fitted, stem: str) -> Iterable[Row]:
    """Yield by how much the maps of a network beat the same in random order, by deletion and by insertion."""
    fold, network, settings = case.folds[0], fitted.network, fitted.settings
    places = np.unique(np.linspace(0, len(fold.test) - 1, 8 if sets.small else MAPS).astype(int))
    rows = fold.test[places]
    pixels = fold.examples.pixels[rows]
    sizes = dataset.load(sets.work / case.folder / "cells").manifest[["height", "width"]].to_numpy(np.int64)[rows]
    predicted, maps = _predict_maps(network, pixels)

    def classify(part: map_metrics.Pixels) -> Floats:
        probabilities: Floats = softmax(predict(network, part, np.arange(len(part))).logits, axis=1)
        return probabilities

    measured: Areas = map_metrics.areas(
        classify, pixels, sizes, maps, predicted, [settings.model_dump(mode="json")], SEED
    )
    units = kept_fits.units_of(fold, rows, case.units)
    summary = map_metrics.summarise(measured, maps.shape[1:], fold.examples.targets[rows], units)
    positions = "x".join(map(str, summary.positions))
    for test, gain in summary.gain.items():
        known = summary.intervals[test]
        ends = {} if known is None else {"from": known[0], "to": known[1]}
        bars = {"from": ">= 0"} if stem == "small" and ends else {}
        yield Row(f"{case.name}, {stem}: {test} with {positions} maps", {"value": gain} | ends, bars, SIGNED)


def _predict_maps(
    network: Network, pixels: map_metrics.Pixels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the (n,) classes that are predicted, and (n, h, w) their maps."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 64):
            images = torch.from_numpy(stacked(pixels[start : start + 64]).astype(np.float32))
            outputs = network(images)
            predicted = outputs.logits.argmax(1)
            parts.append((predicted, outputs.activation_map[torch.arange(len(predicted)), predicted]))
    classes, maps = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
    return classes, maps
