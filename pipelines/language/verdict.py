"""The verdict on a vision-language model: the cells, metrics, intervals and baselines of the CNN, and its answers.

It is read beside the CNN and never promoted: the gate takes bundles alone.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.data.dataset import CellDataset, class_indices
from pipelines.evaluation import calibration_metrics, intervals, metrics
from pipelines.evaluation.audit_report import TaskBaselines
from pipelines.evaluation.evaluated_model import why_none
from pipelines.evaluation.language_report import Answered, Difference, Effort, Judged, LanguageReport
from pipelines.evaluation.metrics_report import LowerBound
from pipelines.language import answers, pictures, prompt
from pipelines.language.answers import Read
from pipelines.language.endpoint import Endpoint
from pipelines.language.facts import WORDS, word_for_sure
from pipelines.language.instructions import Instructions
from pipelines.language.llava import Llava, Use
from pipelines.progress import progress
from pipelines.registry.difference import measure_difference
from pipelines.registry.paired import PairedPredictions
from pipelines.reporting.running_cost import price
from pipelines.settings import PipelineSettings

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Answers = dict[str, list[str]]
"""Topic → the answer about each cell."""
BATCH = 64
"""Cells that a model gets at a time."""
BINS = 10


def ask(llava: Llava | Endpoint, source: CellDataset, rows: Rows, classes: list[str]) -> tuple[Floats, Answers]:
    """Return the (n, K) probabilities of the classes of the cells in `rows`, and the answers to all questions."""
    probabilities: list[Floats] = []
    texts: Answers = {topic: [] for topic in prompt.TOPICS}
    for drawn in _draw(source, rows):
        probabilities.append(llava.probabilities(drawn, classes))
        for topic in texts:
            texts[topic] += llava.answer(drawn, prompt.question(topic, classes))
    return np.concatenate(probabilities), texts


def classify(llava: Llava | Endpoint, source: CellDataset, rows: Rows, classes: list[str]) -> Floats:
    """Return the (n, K) probabilities of the classes of the cells in `rows`."""
    return np.concatenate([llava.probabilities(drawn, classes) for drawn in _draw(source, rows)])


def _draw(source: CellDataset, rows: Rows) -> Iterator[list[Image.Image]]:
    """Yield the pictures of the cells in `rows`, BATCH at a time."""
    for start in progress(range(0, len(rows), BATCH), "ask", "batch"):
        yield [pictures.draw(source.pixels[row]) for row in rows[start : start + BATCH]]


def judge(
    llava: Llava | Endpoint,
    cnn: Callable[[Rows], Floats],
    source: CellDataset,
    data: Instructions,
    baselines: TaskBaselines | None,
    part: str = "test",
) -> tuple[LanguageReport, Answers]:
    """Return the report on the cells of a part of `data`, and the answers about them.

    `cnn` returns the (n, K) probabilities of the CNN for rows of `source`, the classes in the order of `data.classes`.
    """
    rows = np.array(data.rows[part], np.int64)
    llava.use = Use()
    probabilities, texts = ask(llava, source, rows, data.classes)
    manifest = source.take(rows, ["label", "group"])
    groups, targets = manifest["group"].to_numpy(str), class_indices(manifest["label"], data.classes)
    images = None if data.tracks is None else np.array(data.tracks[part], np.int64)
    of_cnn = cnn(rows)
    judged = [score(targets, p, groups, data.classes, baselines, images) for p in (probabilities, of_cnn)]
    use, settings = llava.use, PipelineSettings()
    report = LanguageReport(
        task=data.task,
        scheme=data.scheme,
        classes=data.classes,
        simulated=data.simulated,
        cells=len(rows),
        groups=len(np.unique(groups)),
        language=judged[0],
        cnn=judged[1],
        difference=compare(rows, targets, groups, data.classes, of_cnn, probabilities, images),
        answers={topic: judge_answers(topic, of_topic, data, part) for topic, of_topic in texts.items()},
        effort=Effort(
            tokens_in=use.tokens_in / len(rows),
            tokens_out=use.tokens_out / len(rows),
            seconds=use.seconds / len(rows),
            cost=price(use.seconds / len(rows), None, settings) if use.cost is None else use.cost / len(rows),
            questions=1 + len(texts),
        ),
    )
    return report, texts


def score(
    targets: Rows,
    probabilities: Floats,
    groups: npt.NDArray[np.str_],
    classes: list[str],
    baselines: TaskBaselines | None,
    cells: Rows | None = None,
) -> Judged:
    """Return the metrics of (n, K) probabilities, with the intervals of `pipelines.evaluation.metrics`.

    Images of one cell are equal in `cells`; None where each is of another.
    """
    units = intervals.choose_units(groups, np.array(classes)[targets], cells)
    # The classes count alike, as in the balanced accuracy.
    shares = calibration_metrics.class_weights(targets, np.full(len(classes), 1 / len(classes)))
    limits = metrics.intervals(targets, probabilities, units, classes, shares)
    missing, scored = why_none(limits, units), metrics.score(targets, probabilities, classes)
    reached = {"chance": 1 / len(classes)} | ({} if baselines is None else {name: b.value for name, b in baselines})
    return Judged(
        score=scored,
        intervals={name: None if name in missing else [ends.low, ends.high] for name, ends in limits.items()},
        no_interval=missing,
        lower_bound=LowerBound(
            value=metrics.lower_bound(targets, probabilities.argmax(1), units, len(classes)), units=units.kind
        ),
        calibration=calibration_metrics.calibration(targets, probabilities, BINS, shares),
        gain={name: scored.balanced_accuracy - value for name, value in reached.items()},
    )


def compare(
    rows: Rows,
    targets: Rows,
    groups: npt.NDArray[np.str_],
    classes: list[str],
    before: Floats,
    after: Floats,
    cells: Rows | None = None,
) -> Difference:
    """Return the difference in balanced accuracy of `after` and `before` on the same cells.

    Images of one cell are equal in `cells`; None where each is of another.
    """
    paired = PairedPredictions(rows, classes, targets, groups, before, after, 0.0, 0.0, cells)
    measured = measure_difference(paired)
    low, high = measured.ends((1 - intervals.LEVEL) / 2)
    return Difference(value=measured.gain, low=low, high=high, units=measured.units.kind)


def judge_answers(topic: str, texts: Sequence[str], data: Instructions, part: str) -> Answered:
    """Return how many of the answers to a question can be read, contradict what is measured, and are right."""
    known, scale = data.facts[part], data.scale
    found = [answers.read(text, topic, data.classes) for text in texts]
    pairs = list(zip(found, known, strict=True))
    sizes = [abs(read.size - fact.size) / fact.size for read, fact in pairs if read.size is not None]

    def is_right(read: Read, i: int) -> bool:
        if topic == prompt.MEDIUM:
            return read.medium == known[i].label
        if topic == prompt.SURE:
            return read.sure == word_for_sure(known[i].sure)
        return read.words.get(topic) == scale.word(topic, known[i].value(topic))

    simple = topic in WORDS or topic in (prompt.MEDIUM, prompt.SURE)
    return Answered(
        parsed=float(np.mean([answers.parsed(read, topic) for read in found])),
        contradicted=float(np.mean([bool(answers.contradictions(read, fact, scale)) for read, fact in pairs])),
        right=float(np.mean([is_right(read, i) for i, read in enumerate(found)])) if simple else None,
        size_error=float(np.mean(sizes)) if sizes else None,
    )
