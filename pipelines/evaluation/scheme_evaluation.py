"""All that is reported of the model to serve under one scheme."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fatescope.config import Params
from pipelines.evaluation import curves
from pipelines.evaluation.audit_report import AuditReport
from pipelines.evaluation.curves import Tables
from pipelines.evaluation.evaluated_model import EvaluatedModel, compose, measure
from pipelines.evaluation.metrics_report import SchemeMetrics


@dataclass(frozen=True)
class SchemeEvaluation:
    """A model on its test cells, with its metrics, and the tables behind its plots."""

    evaluated: EvaluatedModel
    manifest: pd.DataFrame
    """The test cells."""
    metrics: SchemeMetrics
    tables: Tables
    cultures: pd.DataFrame
    """The table of `simulate_cultures`."""

    @property
    def scheme(self) -> str:
        """Return the scheme under which the model was trained."""
        return self.evaluated.model.spec.split

    def tabulate_predictions(self) -> pd.DataFrame:
        """Return the rows of `predictions.parquet` of this scheme."""
        assessment, classes = self.evaluated.assessment, self.evaluated.model.spec.classes
        table = self.manifest[["cell_id", "label", "group"]].reset_index(drop=True)
        table.insert(0, "split", self.scheme)
        return table.assign(
            predicted=np.array(classes)[self.evaluated.predicted],
            verdict=assessment.verdicts,
            distance=assessment.distance,
            **{f"p_{name}": self.evaluated.probabilities[:, i] for i, name in enumerate(classes)},
        )

    def describe(self) -> str:
        """Return the balanced accuracy as text."""
        interval = self.metrics.describe_interval("balanced_accuracy", "(95 % interval {low:.3f} to {high:.3f})")
        return f"balanced accuracy {self.metrics.balanced_accuracy:.3f} {interval}"


def evaluate_scheme(
    evaluated: EvaluatedModel, manifest: pd.DataFrame, audit: AuditReport, params: Params
) -> SchemeEvaluation:
    """Evaluate the model to serve under one scheme; `manifest` has all cells."""
    spec, cells = evaluated.model.spec, manifest.iloc[evaluated.rows]
    baselines = audit.tasks.get(spec.task, {}).get(spec.split)
    composition, cultures = compose(evaluated, cells, params)
    metrics = measure(evaluated, cells, baselines, composition, params)
    tables = curves.tabulate(evaluated, params.evaluate.bins)
    return SchemeEvaluation(evaluated, cells, metrics, tables, cultures)
