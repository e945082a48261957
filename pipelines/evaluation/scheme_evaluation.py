"""All that is reported of the model to serve under one scheme."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fatescope.config import Params
from fatescope.data import table_parts
from fatescope.data.dataset import CellDataset
from fatescope.data.tracks import read as read_tracks
from pipelines.evaluation import curves
from pipelines.evaluation.audit_report import AuditReport
from pipelines.evaluation.curves import Tables
from pipelines.evaluation.evaluated_model import EvaluatedModel, compose, measure
from pipelines.evaluation.map_metrics import measure_maps
from pipelines.evaluation.metrics_report import SchemeMetrics
from pipelines.evaluation.robustness import measure_robustness


@dataclass(frozen=True)
class SchemeEvaluation:
    """A model on its test cells, with its metrics, and the tables behind its plots."""

    evaluated: EvaluatedModel
    manifest: pd.DataFrame
    """The test cells: class, group, and the facts of the group."""
    metrics: SchemeMetrics
    tables: Tables
    cultures: pd.DataFrame
    """The table of `simulate_cultures`."""

    @property
    def scheme(self) -> str:
        """Return the scheme under which the model was trained."""
        return self.evaluated.model.spec.split

    def tabulate_predictions(self, source: CellDataset) -> Iterator[pd.DataFrame]:
        """Yield the rows of `predictions.parquet` of this scheme, a part of the cells of `source` at a time."""
        assessment, classes = self.evaluated.assessment, self.evaluated.model.spec.classes
        start = 0
        for part in table_parts.take_in_order(source.table, self.evaluated.rows, ["cell_id", "label", "group"]):
            cells = slice(start, start + len(part))
            start += len(part)
            table = part.reset_index(drop=True)
            table.insert(0, "split", self.scheme)
            if len(table):
                yield table.assign(
                    predicted=np.array(classes)[self.evaluated.predicted[cells]],
                    verdict=assessment.verdicts[cells],
                    distance=assessment.distance[cells],
                    **{f"p_{name}": self.evaluated.probabilities[cells, i] for i, name in enumerate(classes)},
                )

    def describe(self) -> str:
        """Return the balanced accuracy as text."""
        interval = self.metrics.describe_interval("balanced_accuracy", "(95 % interval {low:.3f} to {high:.3f})")
        return f"balanced accuracy {self.metrics.balanced_accuracy:.3f} {interval}"


def evaluate_scheme(
    evaluated: EvaluatedModel, source: CellDataset, audit: AuditReport, params: Params
) -> SchemeEvaluation:
    """Evaluate the model to serve under one scheme on its rows of `source`."""
    spec = evaluated.model.spec
    columns = dict.fromkeys(("label", "group", *params.dataset.group, params.dataset.label))
    cells = source.take(evaluated.rows, list(columns))
    baselines = audit.tasks.get(spec.task, {}).get(spec.split)
    composition, cultures = compose(evaluated, cells, params)
    tracks = read_tracks(source, params.dataset)
    of_cells = tracks and tracks.take(evaluated.rows)
    found = {
        "robustness": measure_robustness(evaluated.model, source, evaluated.rows, params.evaluate.seed),
        "maps": measure_maps(evaluated, source, params.evaluate.seed),
    }
    metrics = measure(evaluated, cells, baselines, composition, params, of_cells).model_copy(update=found)
    tables = curves.tabulate(evaluated, params.evaluate.bins)
    return SchemeEvaluation(evaluated, cells, metrics, tables, cultures)
