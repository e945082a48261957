"""The models that a train stage made, compared on the test cells: seeds, candidates and schemes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fatescope.config import Params
from fatescope.data.dataset import CellDataset
from fatescope.data.splits import Splits
from fatescope.inference import bundle
from pipelines.evaluation.evaluated_model import EvaluatedModel, run_model
from pipelines.evaluation.metrics_report import CandidateMetrics, CandidateScore, SeedMetrics


@dataclass(frozen=True)
class TrainedModel:
    """A model of `models.json`, run on its test cells."""

    scheme: str
    candidate: str
    run_id: str
    evaluated: EvaluatedModel


def run_models(
    models: Path, trained: dict[str, Any], source: CellDataset, splits: Splits, params: Params, classes: list[str]
) -> list[TrainedModel]:
    """Run every bundle that `trained`, the content of `models.json`, lists on the test cells of its scheme."""
    return [
        TrainedModel(
            entry["split"],
            entry["candidate"],
            entry["run_id"],
            run_model(
                bundle.load(models / entry["folder"], params.train.threads),
                source,
                splits.indices(entry["split"], "test", classes),
            ),
        )
        for entry in trained["models"]
    ]


def compare_seeds(models: list[TrainedModel], chosen: str) -> tuple[SeedMetrics, float | None]:
    """Return how the balanced accuracy of the candidate `chosen` varies with the seed, and the gap between schemes.

    The gap is the balanced accuracy on the random split less that on the grouped one, None where there is only one.
    """
    first = models[0].scheme
    values = [m.evaluated.score().balanced_accuracy for m in models if (m.scheme, m.candidate) == (first, chosen)]
    other = [m.evaluated.score().balanced_accuracy for m in models if m.scheme != first]
    seeds = SeedMetrics(
        scheme=first,
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        values=values,
    )
    return seeds, other[0] - values[0] if other else None


def compare_candidates(
    models: list[TrainedModel], candidates: dict[str, dict[str, Any]]
) -> dict[str, CandidateMetrics]:
    """Return the metrics of all candidates under the first scheme; `candidates` are those of `models.json`."""
    compared: dict[str, CandidateMetrics] = {}
    for model in models:
        if model.scheme == models[0].scheme and model.candidate not in compared:
            score, trained = model.evaluated.score(), candidates[model.candidate]
            compared[model.candidate] = CandidateMetrics(
                backbones=[member["backbone"] for member in trained["members"]],
                **{name: value for name, value in trained.items() if name != "members"},
                test=CandidateScore(balanced_accuracy=score.balanced_accuracy, macro_f1=score.macro_f1, mcc=score.mcc),
            )
    return compared
