"""The results of a version in the format that the Hugging Face Hub reads today: `eval_results.yaml` of a bundle.

The Hub shows the files in the folder `.eval_results` of a model's repository, and lists them with the data set that
they name (https://huggingface.co/docs/hub/eval-results). The `model-index` in the card itself is the format before;
libraries read it still.
"""

import io
import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fatescope import plural
from pipelines.evaluation.metrics_report import Metrics, SchemeMetrics

FILE = "eval_results.yaml"
"""In a bundle, which has no folders."""
METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "mcc")
UNPUBLISHED = "fatescope-cells"
"""The owner of a data set that is not on the Hub, in place of a name there."""


def write(metrics: Metrics, task: str, data_hash: str, dataset: str | None, folder: Path) -> None:
    """Write the results into the folder of a bundle; `dataset` is the data set on the Hub, `OWNER/NAME`."""
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(entries(metrics, task, data_hash, dataset), text)
    (folder / FILE).write_text(text.getvalue(), encoding="utf-8")


def entries(metrics: Metrics, task: str, data_hash: str, dataset: str | None) -> list[dict[str, Any]]:
    """Return the entries of the file; a metric that is not defined for the test cells has none."""
    results = []
    for scheme, values in metrics.schemes.items():
        for name in METRICS:
            value = float(getattr(values, name))
            if not math.isfinite(value):
                continue
            about = {"id": dataset or f"{UNPUBLISHED}/{task}", "task_id": f"{scheme}_{name}"}
            # A revision is one of the Hub, which knows nothing of the version of the data here.
            results.append(
                {"dataset": about, "value": round(value, 4), "notes": _notes(scheme, name, values, data_hash)}
            )
    return results


def _notes(scheme: str, name: str, values: SchemeMetrics, data_hash: str) -> str:
    interval = values.describe_interval(name, "95 % interval {low:.3f} to {high:.3f}").strip("()")
    cells, groups = plural.count(values.cells, "test cell"), plural.count(values.groups, "acquisition group")
    return f"{scheme} split; {interval}; {cells} in {groups}; data {data_hash}"
