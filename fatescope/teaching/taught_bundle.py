"""Write a bundle with a head that was taught: the network of a champion, the head, and what the labels can calibrate.

Temperature, conformal sets, distance and reference are of cells that were left out in cross-validation. Where there are
too few labels for a threshold, it is one that rules no class out. The bundle has no signature: it is served only once
somebody who may has signed it, and as champion only by the gate.
"""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.numpy import load_file, save_file

from fatescope import plural
from fatescope.data.features import ACQUISITION, acquisition_names
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError
from fatescope.inference import bundle, composition
from fatescope.inference.ood import MahalanobisDetector
from fatescope.inference.spec import Spec, Taught
from fatescope.inference.thresholds import conformal, upper_quantile
from fatescope.inference.uncertainty import Prediction
from fatescope.teaching.graph_edit import replace_head
from fatescope.teaching.lesson import Cells, Lesson
from fatescope.teaching.shortcuts import Shortcut

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]

DIRECTIONS = 32
"""Most principal directions of the embedding whose variance the few cells estimate."""
MAX_TASK = 60


@dataclass(frozen=True)
class Teacher:
    """Who teaches what."""

    task: str
    """The name of the task that the bundle is of."""
    by: str
    """Who gave the labels; empty where they do not say."""
    model: str
    version: str
    """The model whose network it takes."""


@dataclass(frozen=True)
class Facts:
    """What is known of the labelled cells besides `Cells`, in their order."""

    sizes: npt.NDArray[np.int64]
    """(N, 2) native height and width."""
    pixel_hashes: npt.NDArray[np.int64]
    """(N,) `crops.pixel_hash`."""
    bit_depths: Sequence[int]
    """Those that occur."""


def write(
    source: Path, target: Path, lesson: Lesson, cells: Cells, facts: Facts, teacher: Teacher, shortcuts: list[Shortcut]
) -> Spec:
    """Write the bundle into the folder `target`, which is emptied first, and return its spec.

    `source` is the bundle that `cells` were described with. Raises BundleError for one whose graph cannot take another
    head, and DataError for a task that is no name.
    """
    check_task(teacher.task)
    known = bundle.open_spec(source)
    spec, outliers = _calibrate(known, lesson, cells, facts, teacher, shortcuts)
    with fresh_folder(target) as folder:
        (folder / bundle.GRAPH).write_bytes(replace_head((source / bundle.GRAPH).read_bytes(), lesson.head, known))
        _write_weights(source, folder, lesson, known)
        outliers.save(folder / bundle.OUTLIERS)
        pixels = load_file(source / bundle.TEST)["pixels"]
        answered = bundle.Graph(folder / bundle.GRAPH, 1).predict(pixels, maps=False)
        save_file({"pixels": pixels, "logits": answered.logits}, folder / bundle.TEST)
        seen = np.union1d(load_file(source / bundle.SEEN)["cells"], facts.pixel_hashes) if (
            source / bundle.SEEN
        ).is_file() else np.unique(facts.pixel_hashes)  # fmt: skip
        save_file({"cells": seen}, folder / bundle.SEEN)
        reference = _reference(spec, lesson, cells, facts, outliers)
        reference.to_parquet(folder / bundle.REFERENCE, index=False)
        card = describe(spec, lesson)
        (folder / "card.md").write_text(card, encoding="utf-8")
        (folder / "card.html").write_text(_page(card), encoding="utf-8")
        bundle.finalize(folder, spec)
    return bundle.read_spec(target)


def check_task(task: str) -> None:
    """Raise DataError where a name cannot be that of a task: it is part of paths and of names in the registry."""
    if not (0 < len(task) <= MAX_TASK and task.isascii() and task.replace("-", "").replace("_", "").isalnum()):
        raise DataError(f"'{task}' is no name of a task; use letters, digits, - and _, such as my-cells")


def _calibrate(
    known: Spec, lesson: Lesson, cells: Cells, facts: Facts, teacher: Teacher, shortcuts: list[Shortcut]
) -> tuple[Spec, MahalanobisDetector]:
    probabilities = np.exp(lesson.left_out)
    outliers, threshold = _distance(lesson, cells, known.false_alarm)
    counts = np.bincount(lesson.targets, minlength=len(lesson.classes))
    accuracy, size = lesson.accuracy, len(lesson.classes)
    interval = None if accuracy.low is None or accuracy.high is None else (accuracy.low, accuracy.high)
    digest = hashlib.sha256(np.stack([facts.pixel_hashes, lesson.targets]).tobytes() + known.data_hash.encode())
    taught = Taught(
        by=teacher.by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=teacher.model,
        version=teacher.version,
        labels=dict(zip(lesson.classes, counts.tolist(), strict=True)),
        samples=len(np.unique(cells.samples)),
        reads=lesson.head.design,
        balanced_accuracy=accuracy.value,
        interval=interval,
        left_out=lesson.folds.kind,
        caveats=caveats(lesson, shortcuts),
    )
    equal = np.full(size, 1 / size)
    heights, widths = facts.sizes[:, 0], facts.sizes[:, 1]
    changed = {
        "task": teacher.task,
        "classes": lesson.classes,
        # They join classes of the other model.
        "hierarchy": {},
        "coarse_thresholds": {},
        "bit_depths": sorted({*known.bit_depths, *facts.bit_depths}),
        "height_px": (int(heights.min()), int(heights.max())),
        "width_px": (int(widths.min()), int(widths.max())),
        # The layers of an ensemble that are joined by probabilities cannot be taught: it has one head now.
        "join": "embeddings" if known.join else None,
        "temperature": lesson.temperature,
        "conformal": conformal(probabilities, lesson.targets, known.coverage),
        "outlier_threshold": threshold,
        "prior": equal.tolist(),
        # How far its errors go together in images of one cell is not known.
        "tracks": None,
        "composition_error": composition.learn_error(
            np.maximum(probabilities, 1e-9), lesson.targets, cells.samples, equal, seed=0
        ).tolist(),
        "confounded": {} if lesson.folds.why is None else dict.fromkeys(lesson.classes, lesson.folds.why),
        "data_hash": digest.hexdigest(),
        "made": taught.at,
        "taught": taught,
        "hashes": {},
    }
    return known.model_copy(update=changed), outliers


def caveats(lesson: Lesson, shortcuts: list[Shortcut]) -> list[str]:
    """Return what the accuracy of a lesson does not say, and what the audit found, as sentences."""
    found = [] if lesson.accuracy.why is None else [f"There is no interval: {lesson.accuracy.why}."]
    return found + [shortcut.words for shortcut in shortcuts if shortcut.suspicious]


def _distance(lesson: Lesson, cells: Cells, false_alarm: float) -> tuple[MahalanobisDetector, float]:
    """Return the distribution of the embeddings, and the distance that cells which it does not know stay below."""
    distances = np.zeros(len(lesson.targets))
    for fold in lesson.folds.names:
        held = lesson.folds.place == fold
        known = MahalanobisDetector.fit(cells.embedding[~held], lesson.targets[~held], DIRECTIONS)
        distances[held] = known.score(cells.embedding[held])
    detector = MahalanobisDetector.fit(cells.embedding, lesson.targets, DIRECTIONS)
    return detector, upper_quantile(distances, 1 - false_alarm)


def _write_weights(source: Path, folder: Path, lesson: Lesson, known: Spec) -> None:
    """Write the weights with the head in place of the last layer, from which training can continue.

    What the head reads of simple features has no place in a network; `networks.restore` refuses such a bundle.
    """
    weights, head = load_file(source / bundle.WEIGHTS), lesson.head
    size = len(lesson.classes)
    for name, value in weights.items():
        if name.endswith("linear.weight"):
            weights[name] = np.zeros((size, value.shape[1]), np.float32)
        elif name.endswith("linear.bias"):
            weights[name] = np.zeros(size, np.float32)
    weights["linear.weight"] = np.ascontiguousarray(head.embedding_weights, np.float32)
    weights["linear.bias"] = np.ascontiguousarray(head.offsets, np.float32)
    weights["temperature"] = np.ones((), np.float32)
    assert known.join or "linear.weight" in weights
    save_file(weights, folder / bundle.WEIGHTS)


def _reference(spec: Spec, lesson: Lesson, cells: Cells, facts: Facts, outliers: MahalanobisDetector) -> pd.DataFrame:
    names = acquisition_names(spec.inputs or ("",))
    assert cells.acquisition.shape[1] == len(names), f"{len(ACQUISITION)} features of each channel"
    manifest = pd.DataFrame(cells.acquisition, columns=list(names)).assign(
        label=np.array(lesson.classes)[lesson.targets],
        group=cells.samples,
        height=facts.sizes[:, 0],
        width=facts.sizes[:, 1],
    )
    # By heads that did not know the cell: the one in the bundle is surer of its own cells than of any culture's, and
    # compositions and drift are told from what is here.
    answered = Prediction.of(lesson.left_out.astype(np.float32), cells.embedding.astype(np.float32))
    return bundle.build_reference(manifest, [answered], spec, outliers, seen=len(manifest))


def describe(spec: Spec, lesson: Lesson) -> str:
    """Return the card of a bundle that was taught, as Markdown."""
    taught = spec.taught
    assert taught is not None
    ends = "" if taught.interval is None else f" ({taught.interval[0]:.1%} to {taught.interval[1]:.1%})"
    reads = {
        "embedding": "the embedding of that network",
        "features": "simple features of the cell; the network is not used",
        "both": "the embedding of that network and simple features of the cell",
    }[taught.reads]
    rows = [
        f"| {name} | {taught.labels[name]:,} | {recall:.1%} |"
        for name, recall in zip(lesson.classes, lesson.accuracy.recalls, strict=True)
    ]
    origin = (
        f"For research use only. The network is that of {taught.model} version {taught.version}; the head reads "
        f"{reads}. Taught by {taught.by or 'somebody without a name'} on {taught.at}, from "
        f"{plural.count(taught.samples, 'sample')}. Nobody had signed it when it was written, and no gate has compared "
        "it with another model."
    )
    accuracy = (
        f"Balanced accuracy {taught.balanced_accuracy:.1%}{ends}, by cross-validation over {taught.left_out}; of "
        f"simple features alone {lesson.simple.value:.1%}."
    )
    lines = [
        *(["> **Trained on simulated cells.**", ""] if spec.simulated else []),
        f"# {spec.task}: taught from {sum(taught.labels.values()):,} labels",
        *("", origin, "", accuracy, "", "| class | labels | recall |", "|---|---|---|"),
        *rows,
        "",
        *(f"- {caveat}" for caveat in taught.caveats),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _page(card: str) -> str:
    """Return the card as HTML: its text as it is, because names are chosen by whoever taught it."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Model card</title>'
        f'<body><pre style="white-space: pre-wrap">{html.escape(card)}</pre></body></html>\n'
    )
