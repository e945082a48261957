"""`language.json`: a vision-language model on the test cells of a task, beside the CNN."""

import logging
from pathlib import Path
from typing import Self

from fatescope import plural
from pipelines.evaluation.metrics_report import LowerBound, Score
from pipelines.evaluation.report import Report
from pipelines.evaluation.trust_report import Calibration

log = logging.getLogger(__name__)

LANGUAGE = "language.json"


class Judged(Report):
    """How well the classes of one model are right, by the metrics of all models."""

    score: Score
    intervals: dict[str, list[float] | None]
    """Metric, or `auc.CLASS`, → the 95 % interval `[low, high]` over acquisition groups; null where there is none."""
    no_interval: dict[str, str]
    """Metric → why it has no interval."""
    lower_bound: LowerBound
    """What the balanced accuracy is at least."""
    calibration: Calibration
    gain: dict[str, float]
    """`chance`, and `acquisition` and `cell_figures` where the audit has them → balanced accuracy less theirs."""

    def describe_interval(self) -> str:
        """Return the interval of the balanced accuracy as text, or why it has none."""
        ends = self.intervals["balanced_accuracy"]
        return (
            f"(no interval: {self.no_interval['balanced_accuracy']})"
            if ends is None
            else f"({ends[0]:.3f} to {ends[1]:.3f})"
        )


class Answered(Report):
    """The answers to one question."""

    parsed: float
    """Share of answers that say what was asked."""
    contradicted: float
    """Share of answers that say other than what is measured."""
    right: float | None
    """Share of answers whose word is that of the measured value, or whose class is that of the cell; None for
    descriptions, which have several."""
    size_error: float | None
    """Mean error of stated sizes, as a share of the measured ones; None where none was stated."""


class Effort(Report):
    """What a cell takes: one set of class probabilities, and one answer to each question."""

    tokens_in: float
    """Those that stand for pictures included."""
    tokens_out: float
    seconds: float
    cost: float | None
    """In the currency of the price of an hour (FATESCOPE_PRICE_PER_HOUR); None without one."""
    questions: int


class Difference(Report):
    """Balanced accuracy of the language model less that of the CNN, on the same cells."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval over `units`."""
    units: str


class LanguageReport(Report):
    """The content of `language.json`."""

    task: str
    scheme: str
    classes: list[str]
    simulated: bool
    cells: int
    groups: int
    language: Judged
    cnn: Judged
    difference: Difference
    answers: dict[str, Answered]
    """Topic → its answers."""
    effort: Effort

    @classmethod
    def read_beside(cls, path: Path, scheme: str, cnn: Score) -> Self | None:
        """Return the report in the file `path` where it is beside the CNN that reached `cnn` under a scheme.

        None where there is no report, or it is beside another CNN, of which a warning tells.
        """
        if not path.exists():
            return None
        report = cls.read(path)
        if report.scheme == scheme and report.cnn.score.confusion == cnn.confusion:
            return report
        log.warning("%s: beside another model, and so not shown; run `fatescope language evaluate`", path)
        return None

    def table(self) -> str:
        """Return both models as a Markdown table."""
        lines = ["| | balanced accuracy | MCC | Brier score | calibration error |", "|---|---|---|---|---|"]
        for name, model in (("CNN", self.cnn), ("vision-language model", self.language)):
            lines.append(
                f"| {name} | {model.score.balanced_accuracy:.3f} {model.describe_interval()} | {model.score.mcc:.3f} "
                f"| {model.calibration.brier:.3f} | {model.calibration.ece:.3f} |"
            )
        return "\n".join(lines)

    def sentences(self) -> str:
        """Return what the table does not say: the difference, the answers, and what they take."""
        by, effort = self.difference, self.effort
        cells = f"{plural.count(self.cells, 'test cell')} of {plural.count(self.groups, 'acquisition group')}"
        first = (
            f"The vision-language model's balanced accuracy is {by.value:+.3f} from that of the CNN ({by.low:+.3f} to "
            f"{by.high:+.3f}) on {cells}. No gate promotes it."
        )
        lines = []
        for topic, answered in self.answers.items():
            right = "" if answered.right is None else f", {answered.right:.0%} are right"
            shares = f"{answered.parsed:.0%} can be read, {answered.contradicted:.0%} contradict what is measured"
            lines.append(f"- answers on {topic}: {shares}{right}")
        cost = "" if effort.cost is None else f", at a cost of {effort.cost:.2g}"
        questions = plural.count(effort.questions, "question")
        lines.append(
            f"- a cell with {questions}: {effort.tokens_in:.0f} tokens read, {effort.tokens_out:.0f} "
            f"written, {effort.seconds:.3f} s{cost}"
        )
        return "\n".join([first, "", *lines])
