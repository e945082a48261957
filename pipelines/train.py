"""Fit the network of one task on each split that its classes allow, and write each as a bundle.

`bundle/` is fitted on the training part of the split to rely on: grouped, or random where the classes are confounded
with their groups. `compared/random/` is fitted on the random split, only to show the gap between the two.
"""

import logging
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from safetensors.torch import save_model

from pipelines import fitting, tracking
from pipelines.core import bundle, cells, splits
from pipelines.core.cells import Cells
from pipelines.core.command import run
from pipelines.core.errors import DataError
from pipelines.core.network import Network, export
from pipelines.core.params import Params, load
from pipelines.core.splits import Splits

log = logging.getLogger(__name__)

TEST_CELLS = 8
"""Cells whose logits a bundle must reproduce wherever it is loaded."""


def train(
    source: Cells, divided: Splits, task: str, split: str, params: Params, report: fitting.Report
) -> tuple[Network, fitting.Examples]:
    """Fit the network of `task` on `split`; return it with the cells it was given."""
    classes = params.classes(task)
    targets = np.array([classes.index(x) if x in classes else -1 for x in source.manifest["label"]], np.int64)
    rows = {part: divided.indices(split, part, classes) for part in ("train", "validation")}
    examples = fitting.Examples(source.pixels, targets, rows["train"], rows["validation"])
    return fitting.fit(examples, len(classes), params.train, report), examples


def write_bundle(network: Network, pixels: npt.NDArray[np.uint16], spec: bundle.Spec, target: Path) -> None:
    """Write `network` as a bundle; `pixels` (B, H, W) become its test tensors.

    The logits to reproduce are those of the exported graph, which is what every runtime runs.
    """
    with cells.fresh_folder(target) as folder:
        save_model(network.cpu(), str(folder / bundle.WEIGHTS))
        export(network, spec.canvas, folder / bundle.GRAPH)
        logits = bundle.Graph(folder / bundle.GRAPH, threads=1).predict(pixels).logits
        save_file({"pixels": pixels, "logits": logits}, folder / bundle.TEST)
        bundle.seal(folder, spec)


def describe(
    source: Cells,
    rows: npt.NDArray[np.int64],
    divided: Splits,
    task: str,
    split: str,
    params: Params,
    about: dict[str, Any],
) -> bundle.Spec:
    """Return the spec of a network of `task` that was fitted on `rows` of `source`."""
    known = source.manifest.iloc[rows]
    classes = params.classes(task)
    return bundle.Spec(
        format=bundle.FORMAT,
        task=task,
        classes=classes,
        canvas=source.canvas,
        bit_depths=sorted(known["bit_depth"].unique().tolist()),
        height_px=(int(known["height"].min()), int(known["height"].max())),
        width_px=(int(known["width"].min()), int(known["width"].max())),
        channel=params.dataset.input_channel,
        backbone=params.train.backbone,
        temperature=1.0,
        split=split,
        confounded=divided.confounded_in(classes),
        simulated=about["origin"].get("origin") == "simulated",
        data_hash=about["data_hash"],
        git_commit=tracking.git_commit(),
        params={
            name: getattr(params, name).model_dump(mode="json") for name in ("dataset", "ingest", "split", "train")
        },
        hashes={},
    )


def _log_epoch(epoch: int, figures: dict[str, float]) -> None:
    mlflow.log_metrics(figures, step=epoch)


def main(params: Path, task: str, source: Path, parts: Path, target: Path) -> None:
    """Train TASK on the cells in SOURCE, divided by the file PARTS, into the folder TARGET."""
    settings, known, divided = load(params), cells.load(source), splits.load(parts)
    classes, about = settings.classes(task), cells.load_summary(source)
    missing = sorted(set(classes) - set(known.manifest["label"]))
    if missing:
        raise DataError(f"task '{task}' needs cells of {missing}, but {source} has {about['labels']}")
    for name, reason in divided.confounded_in(classes).items():
        log.warning("%s is confounded (%s): no grouped result for task %s", name, reason, task)
    target.mkdir(parents=True, exist_ok=True)
    (target / "compared").mkdir(exist_ok=True)
    run_ids = {}
    for i, split in enumerate(divided.available(classes)):
        with tracking.resumed(task, split) as active:
            mlflow.log_params(tracking.flatten(settings.train.model_dump(mode="json")))
            mlflow.set_tags({"split": split, "data_hash": about["data_hash"]})
            network, examples = train(known, divided, task, split, settings, _log_epoch)
            run_ids[split] = active.info.run_id
        spec = describe(known, examples.train, divided, task, split, settings, about)
        chosen = examples.validation[np.linspace(0, len(examples.validation) - 1, TEST_CELLS).astype(int)]
        write_bundle(network, known.pixels[chosen], spec, target / "bundle" if i == 0 else target / "compared" / split)
    tracking.save_run_ids(run_ids, target / "runs.json")


if __name__ == "__main__":
    run(main)
