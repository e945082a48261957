"""VGG19 joined with Inception v3, the paper's best model, beside the best single network that costs no more.

On the default cells, and on malaria with labels for a tenth of the training cells and a third of the test cells.
The single network is a ResNet18 or a compact one that sees each cell in eight or four views; which of them, and how the
two are joined, is chosen by the loss on validation cells. VGG19 and Inception are dear, so they get fewer epochs: it is
the cost that is alike, and the single network has the lower one.
"""

from collections.abc import Iterable

import numpy as np

from benchmarks.accuracy import MALARIA, SEED
from benchmarks.few_labels import kept_fits, stems
from benchmarks.few_labels.kept_fits import Fitted
from benchmarks.few_labels.sets import Divided, Sets
from benchmarks.tables import Row
from fatescope.networks.network import Ensemble, Network
from pipelines.evaluation.intervals import interval
from pipelines.training.ensemble import join_networks, sample_evenly

LABELS = {"default": 1.0, "malaria": 0.1}
"""Set → the share of its cells that have labels."""
JOINS = ("probabilities", "embeddings")
MEMBERS: dict[str, dict[str, object]] = {
    "vgg19_bn": {"epochs": 6, "learning_rate": 1e-3},
    "inception_v3": {"input_size": [75, 75], "epochs": 8, "learning_rate": 2e-3},
}
SINGLE: dict[str, dict[str, object]] = {
    "resnet18": {},
    "compact": {"epochs": 30, "learning_rate": 1e-2},
}
FORMS = {"validation loss": "{:.3f}", "M multiply-adds": "{:,.0f}", "seconds of fits": "{:.0f}"}


def measure(sets: Sets) -> list[Row]:
    """Return the rows of both sets."""
    malaria = MALARIA | {"epochs": 20, "batch_size": 64}
    default, few = (
        sets.default("multiclass").with_labels(LABELS["default"]),
        sets.malaria.with_labels(LABELS["malaria"]),
    )
    few = Divided(few.examples, few.test[::3], few.classes, few.groups)
    sources = {"default": (default, stems.DEFAULT), "malaria": (few, malaria)}
    return [row for name, (cells, common) in sources.items() for row in compare(sets, name, cells, common)]


def train(sets: Sets, cells: Divided, common: dict[str, object], backbone: str, views: str) -> Fitted:
    """Return the fit of a backbone, which differs from the `common` settings of the set as the tables here say."""
    own = {**MEMBERS, **SINGLE}[backbone]
    changes = {**common, "backbone": backbone, **own, "views": views, "weights": "none"}
    if sets.small:
        changes |= {"epochs": 1, "batch_size": 16}
    return kept_fits.fit_once(sets.work / "fits", cells, sets.common.changed(changes), SEED)


def compare(sets: Sets, name: str, cells: Divided, common: dict[str, object]) -> Iterable[Row]:
    """Yield the rows of one set: the members, both ensembles, the single networks, and the difference of the chosen."""
    members = {backbone: train(sets, cells, common, backbone, "one") for backbone in MEMBERS}
    networks = [member.network for member in members.values()]
    single = {
        f"{backbone}, averaged over views": train(sets, cells, common, backbone, "symmetries") for backbone in SINGLE
    }
    alone = {
        title: (fitted.network, kept_fits.fit_seconds(fitted, cells)) for title, fitted in {**members, **single}.items()
    }
    seconds = sum(alone[backbone][1] for backbone in members)
    joined = {
        f"VGG19 + Inception, {how} joined": (join_networks(networks, cells.examples, len(cells.classes), how), seconds)
        for how in JOINS
    }
    test = sample_evenly(cells.test, 60) if sets.small else cells.test
    units = kept_fits.units_of(cells, test, "groups")
    accuracy, losses = {}, {}
    for title, (network, cost) in {**alone, **joined}.items():
        losses[title] = _validation_loss(cells, network)
        values = kept_fits.probabilities(network, cells, test)
        accuracy[title] = kept_fits.accuracy_without(cells, test, values, units)
        costs = {"M multiply-adds": kept_fits.multiply_adds(network, cells), "seconds of fits": cost}
        limits = stems.limits(interval(accuracy[title], units))
        yield Row(f"{name}, {title}", limits | {"validation loss": losses[title]} | costs, forms=FORMS)
    best, best_joined = min(single, key=losses.__getitem__), min(joined, key=losses.__getitem__)
    gain = stems.limits(kept_fits.difference(accuracy[best_joined], accuracy[best], units))
    yield Row(f"{name}, difference: {best_joined}, minus {best}", gain, forms=stems.SIGNED)


def _validation_loss(cells: Divided, network: Network | Ensemble) -> float:
    rows = cells.examples.validation
    values = kept_fits.probabilities(network, cells, rows)
    return float(-np.log(values[np.arange(len(rows)), cells.examples.targets[rows]]).mean())
