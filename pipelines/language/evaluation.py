"""Evaluate a folder's LLaVA beside the bundle of its task, and write what it said."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from fatescope.data import dataset
from fatescope.errors import BundleError
from fatescope.inference import bundle as bundles
from pipelines.evaluation import predict
from pipelines.evaluation.audit_report import AuditReport, TaskBaselines
from pipelines.evaluation.language_report import LANGUAGE, LanguageReport
from pipelines.language import conversations, endpoint, llava, verdict
from pipelines.language.instructions import FACTS, Instructions
from pipelines.language.llava import Example


def evaluate(
    model: Path | None,
    pairs: Path,
    cells: Path,
    audit: Path,
    bundle: Path | None,
    out: Path | None,
    *,
    examples: int = 0,
) -> tuple[LanguageReport, Path]:
    """Return the report on the test cells of `pairs`, and where it was written; `….jsonl` beside it has the answers.

    `model` is a folder, None for the endpoint of the environment, which pictures of the cells are then sent to.
    Raises BundleError where the bundle has other classes or was trained under another scheme than the pairs.
    """
    data = Instructions.read(pairs / FACTS)
    source, path = dataset.load(cells), out or Path("reports") / data.task / LANGUAGE
    cnn = bundles.load(bundle or Path("artifacts") / data.task / "bundle", 1)
    if sorted(cnn.spec.classes) != sorted(data.classes) or cnn.spec.split != data.scheme:
        raise BundleError(
            f"the CNN has the classes {cnn.spec.classes} and the scheme {cnn.spec.split}, the pairs {data.classes} and "
            f"{data.scheme}; write the pairs again with `fatescope language data`"
        )
    order = [cnn.spec.classes.index(name) for name in data.classes]
    shown = choose_examples(pairs, data, examples)
    with endpoint.connected(shown) if model is None else nullcontext(llava.load(model, shown)) as asked:
        report, texts = verdict.judge(
            asked,
            lambda rows: predict.assess(cnn, source, rows).probabilities[:, order],
            source,
            data,
            read_baselines(audit, data),
        )
    report.write(path)
    lines = [
        json.dumps({"row": row} | {topic: of_topic[i] for topic, of_topic in texts.items()}, ensure_ascii=False)
        for i, row in enumerate(data.rows["test"])
    ]
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report, path


def choose_examples(pairs: Path, data: Instructions, count: int, seed: int = 0) -> list[Example]:
    """Return `count` training cells of each class, the classes in turn, with their classes as answers."""
    if not count:
        return []
    training, rng = conversations.read(pairs, "train"), np.random.default_rng(seed)
    labels = np.array([known.label for known in data.facts["train"]])
    chosen = [rng.choice(np.flatnonzero(labels == name), count, replace=False) for name in data.classes]
    return [Example(training[i].picture, str(labels[i])) for i in np.array(chosen).T.ravel()]


def read_baselines(audit: Path, data: Instructions) -> TaskBaselines | None:
    """Return what the audit reached on the classes; None where there is no audit of them."""
    if not audit.exists():
        return None
    return AuditReport.read(audit).tasks.get(data.task, {}).get(data.scheme)
