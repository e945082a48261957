"""What a rebuild of a version shows: `VERSION.json`."""

from typing import Literal

import numpy as np
from scipy.stats import t

from fatescope import plural
from pipelines.evaluation.report import Report

LEVEL = 0.95
"""Share of faithful rebuilds whose metric is within the limits that the reseeded ones give."""


class Difference(Report):
    """Something that was otherwise in the rebuild than when the version was made."""

    name: str
    """A package, or a fact of the machine."""
    recorded: str | None
    used: str | None


class MetricSpread(Report):
    """A metric on the test cells: of the version, of its rebuild, and of rebuilds with other seeds."""

    registered: float
    rebuilt: float
    reseeded: list[float]
    low: float
    """Limits within which one more rebuild with another seed is expected, with a probability of 95 %."""
    high: float
    within: bool
    """Whether the version is between them."""


class Agreement(Report):
    """How the logits of two models agree on the test cells."""

    max_difference: float
    mean_difference: float
    same_calls: float
    """Share of cells for which both have the same class."""


class Verification(Report):
    """The outcome of building a version again."""

    task: str
    model: str
    version: str
    reproduced: bool
    outcome: Literal["same", "within", "outside"]
    """The rebuild gives the `same` logits within the tolerance of test tensors; or all metrics of the version are
    `within` the spread over seeds; or one is `outside`."""
    commit: str
    changed: bool
    """Whether the code differed from the commit by a recorded patch."""
    repository: str
    """Where the code came from."""
    data_hash: str
    data_version: str | None
    """The hash by which DVC knows the data."""
    seed: int
    seeds: list[int]
    """Of the other rebuilds."""
    epochs: list[int]
    """Of each network: those recorded, which were repeated."""
    shortened: bool
    """Whether the training of the version was cut short by its minutes, which no rebuild repeats."""
    environment: Literal["made", "here"]
    """Whether an environment was made by the constraints, or the one of the command was used."""
    differences: list[Difference]
    scheme: str
    cells: int
    """Test cells."""
    recorded_balanced_accuracy: float | None
    """What the registry says of the version."""
    metrics: dict[str, MetricSpread]
    logits: Agreement
    """Of the version and its rebuild."""
    reseeded_logits: list[Agreement]
    """Of the version and each rebuild with another seed: what agreement is worth here."""
    remarks: list[str]
    """What else a reader should know."""

    def describe(self) -> str:
        """Return the outcome as plain text."""
        outcomes = {
            "same": "reproduced: the rebuild gives the same logits",
            "within": "reproduced: all metrics are within the spread over seeds",
            "outside": "NOT reproduced: "
            + ", ".join(name for name, metric in self.metrics.items() if not metric.within)
            + " outside the spread over seeds",
        }
        lines = [
            f"{self.model} version {self.version}: {outcomes[self.outcome]}",
            f"  code {self.commit[:12]}{' and a recorded patch' if self.changed else ''} from {self.repository}",
            f"  data {self.data_hash[:12]}, seed {self.seed}, epochs {', '.join(map(str, self.epochs))}",
            f"  on {plural.count(self.cells, 'test cell')} of the {self.scheme} split:",
        ]
        lines += [
            f"  {name:<18} version {metric.registered:.4f}  rebuilt {metric.rebuilt:.4f}  other seeds "
            f"{min(metric.reseeded):.4f} to {max(metric.reseeded):.4f}  expected {metric.low:.4f} to {metric.high:.4f}"
            f"{'' if metric.within else '  OUTSIDE'}"
            for name, metric in self.metrics.items()
        ]
        others, logits = [agreement.same_calls for agreement in self.reseeded_logits], self.logits
        lines.append(
            f"  logits differ by {logits.max_difference:.2g} at most and by {logits.mean_difference:.2g} on average; "
            f"the call is the same for {logits.same_calls:.2%} of cells (other seeds: {min(others):.2%} to "
            f"{max(others):.2%})"
        )
        lines += [
            f"  {difference.name}: {difference.recorded or 'none'} then, {difference.used or 'none'} now"
            for difference in self.differences
        ]
        return "\n".join([*lines, *(f"  note: {remark}" for remark in self.remarks)])


def spread(registered: float, rebuilt: float, reseeded: list[float], resolution: float) -> MetricSpread:
    """Return a metric of the version beside the values of rebuilds with other seeds, of which there are two at least.

    The limits are those of a prediction interval for one more value of a normal distribution (Student's t), and no
    closer to the mean than `resolution`, the step in which the metric changes with one cell.
    """
    values = np.array(reseeded)
    reach = t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    reach = max(float(reach), resolution)
    low, high = float(values.mean() - reach), float(values.mean() + reach)
    return MetricSpread(
        registered=registered,
        rebuilt=rebuilt,
        reseeded=reseeded,
        low=low,
        high=high,
        # Sums of floats are not exact at the ends.
        within=bool(low - 1e-9 <= registered <= high + 1e-9),
    )
