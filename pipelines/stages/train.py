"""Make the model of one task: choose between candidates, refit on all but the test cells, write bundles.

`bundle/` is the model to serve, made on the split to rely on: grouped, or random where the classes are confounded with
their groups. `compared/` holds what it is compared with: other seeds, the candidate that was not chosen, and the same
on the random split. `models.json`: `chosen`, `candidates` (name → figures on the validation cells, and cost), and
`models`, one entry a bundle: `folder`, `split`, `candidate`, `seed`, `run_id`.

Several GPUs fit one network together under `torchrun` (`pipelines.training.distributed`).
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_model

from fatescope.command import BestFile, CellsFolder, OutFolder, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, Train, load
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from fatescope.data.folders import fresh_folder
from fatescope.data.splits import Splits
from fatescope.errors import DataError, ParamsError
from fatescope.inference import bundle
from fatescope.networks.network import export
from pipelines.evaluation import predict
from pipelines.registry import tracking
from pipelines.registry.tracking import Tracked
from pipelines.training import cost, distributed, selection, trainer
from pipelines.training.selection import ENSEMBLE, SINGLE, Candidate, OpenRun, Refit

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]

TEST_CELLS = 8
"""Cells whose logits a bundle must reproduce wherever it is loaded."""
REFERENCE_CELLS = 5000
"""The most test cells, and the most others, of the reference that drift is told by."""
DIM = 1.0
"""A background below this many counts cannot be divided by."""


def settings_of(params: Params, best: dict[str, Any]) -> dict[str, list[Train]]:
    """Return candidate → the fits that it is made of, from what `tune` found."""
    found = {SINGLE: [params.train.changed(best["best"]["params"])]}
    if params.ensemble.members > 1:
        if len(best["members"]) > 1:
            found[ENSEMBLE] = [
                params.train.changed(trial["params"]) for trial in best["members"][: params.ensemble.members]
            ]
        else:
            log.warning("no ensemble: the search found one fit only; raise tune.trials or add to tune.space")
    return found


def write_bundle(made: Refit, source: CellDataset, seen: Rows, others: Rows, spec: bundle.Spec, target: Path) -> None:
    """Write what `refit` made from the cells `seen` as a bundle; some of them and of the `others` are its reference.

    The logits to reproduce are those of the exported graph, which is what every runtime runs.
    """
    pixels = source.pixels[seen[np.linspace(0, len(seen) - 1, TEST_CELLS).astype(int)]]
    fitted = selection.evenly(seen, REFERENCE_CELLS)
    shown = np.concatenate([selection.evenly(others, REFERENCE_CELLS), fitted])
    with fresh_folder(target) as folder:
        network = made.network.cpu()
        save_model(network, str(folder / bundle.WEIGHTS))
        export(network, spec.canvas, folder / bundle.GRAPH)
        made.outliers.save(folder / bundle.OUTLIERS)
        graph = bundle.Graph(folder / bundle.GRAPH, torch.get_num_threads())
        save_file({"pixels": pixels, "logits": graph.predict(pixels).logits}, folder / bundle.TEST)
        starts = range(0, len(shown), predict.BATCH)
        said = [graph.predict(source.pixels[shown[i : i + predict.BATCH]]) for i in starts]
        known = source.manifest.iloc[shown]
        reference = bundle.build_reference(known, said, spec, made.outliers, seen=len(fitted))
        reference.to_parquet(folder / bundle.REFERENCE, index=False)
        save_file({"cells": np.sort(source.manifest["pixel_hash"].to_numpy()[seen])}, folder / bundle.SEEN)
        bundle.finalize(folder, spec)


def describe(
    source: CellDataset,
    examples: trainer.Examples,
    candidate: Candidate,
    made: Refit,
    seed: int,
    params: Params,
    about: dict[str, Any],
) -> bundle.Spec:
    """Return the spec of `made`, which `candidate` became; `about` is what the caller knows of task, split and data."""
    known = source.manifest.iloc[np.concatenate([examples.train, examples.validation])]
    calibration = candidate.calibration
    sections = ("dataset", "ingest", "split", "ensemble", "calibrate")
    used = {name: getattr(params, name).model_dump(mode="json") for name in sections}
    return bundle.Spec(
        format=bundle.FORMAT,
        opset=bundle.OPSET,
        canvas=source.canvas,
        bit_depths=sorted(known["bit_depth"].unique().tolist()),
        height_px=(int(known["height"].min()), int(known["height"].max())),
        width_px=(int(known["width"].min()), int(known["width"].max())),
        channel=params.dataset.input_channel,
        backbone=" + ".join(each.backbone for each in candidate.members),
        join=params.ensemble.join if len(candidate.members) > 1 else None,
        seed=seed,
        temperature=calibration.temperature,
        coverage=params.calibrate.coverage,
        conformal=calibration.conformal,
        false_alarm=params.calibrate.false_alarm,
        outlier_threshold=calibration.outlier_threshold,
        prior=candidate.prior.tolist(),
        composition_error=calibration.composition_error.tolist(),
        cost={k: candidate.cost[k] for k in ("parameters", "multiply_adds")}
        | cost.add_costs(candidate.cost, made.cost),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=tracking.git_commit(),
        params=used | {"train": [each.model_dump(mode="json") for each in candidate.members]},
        hashes={},
        **about,
    )


def train_split(
    source: CellDataset,
    divided: Splits,
    split: str,
    settings: dict[str, list[Train]],
    params: Params,
    about: dict[str, Any],
    target: Path,
    tracked: Tracked | None,
) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Make the models of one split; return the candidate to serve, the candidates' figures, and the entries of models.

    The split that `target` is for comes first in `divided.available`; on any other one there is one candidate.
    """
    classes, opener = about["classes"], _opener(about["task"], tracked)
    examples = trainer.examples_of(source, divided, split, classes)
    _refuse_dark(source, examples, params.train)
    groups = source.manifest["group"].to_numpy(str)
    found = selection.scout(examples, groups, len(classes), list(settings.values()), params, opener)
    chosen = min(found, key=lambda each: each.calibration.loss)
    figures = {each.name: _figures(each) for each in found}
    seen = np.sort(np.concatenate([examples.train, examples.validation]))
    others = divided.indices(split, "test", classes)
    entries = []
    first = split == divided.available(classes)[0]
    for candidate in sorted(found, key=lambda each: each is not chosen):
        for seed in params.train.seeds if first and candidate is chosen else params.train.seeds[:1]:
            made = selection.refit(candidate, examples, len(classes), seed, params, opener)
            serves = first and candidate is chosen and seed == params.train.seeds[0]
            folder = "bundle" if serves else f"compared/{split}-{candidate.name}-{seed}"
            if distributed.leads():
                spec = describe(source, examples, candidate, made, seed, params, about | {"split": split})
                write_bundle(made, source, seen, others, spec, target / folder)
            run_id = tracked.run_id if tracked else ""
            entry = {"folder": folder, "split": split, "candidate": candidate.name, "seed": seed, "run_id": run_id}
            entries.append(entry)
    return chosen.name, figures, entries


def _figures(candidate: Candidate) -> dict[str, Any]:
    calibration = candidate.calibration
    return {
        "members": [each.model_dump(mode="json") for each in candidate.members],
        "validation_loss": calibration.loss,
        "validation_balanced_accuracy": calibration.balanced_accuracy,
        "temperature": calibration.temperature,
        **candidate.cost,
    }


def _refuse_dark(source: CellDataset, examples: trainer.Examples, params: Train) -> None:
    """Raise ParamsError where the background of the cells is too dark for the normalisation that is asked for."""
    level = float(source.manifest["background"].to_numpy()[examples.train].min())
    if params.normalisation != "contrast" and level < DIM:
        raise ParamsError(
            f"train.normalisation: {params.normalisation} divides by the background, but that is {level:.3g} counts in "
            "some cells; set contrast"
        )


def _opener(task: str, tracked: Tracked | None) -> OpenRun:
    """Return what opens a run below `tracked` for each fit; nothing is tracked by processes that do not lead."""

    @contextmanager
    def open_run(name: str, settings: Train) -> Iterator[trainer.Report]:
        if tracked is None:
            yield lambda *_: None
            return
        with tracking.nested(task, name, tracked.run_id, {}) as each:
            each.log_params(settings.model_dump(mode="json"))
            yield lambda epoch, figures: each.log_metrics(figures, epoch)

    return open_run


def main(
    params: ParamsFile, task: TaskName, source: CellsFolder, parts: SplitsFile, best: BestFile, target: OutFolder
) -> None:
    """Train the model of a task with the settings that tune found, and write its bundle."""
    parameters, known, divided = load(params), dataset.load(source), splits.load(parts)
    classes, summary = parameters.classes(task), dataset.load_summary(source)
    missing = sorted(set(classes) - set(known.manifest["label"]))
    if missing:
        raise DataError(f"task '{task}' needs cells of {missing}, but {source} has {summary['labels']}")
    for name, reason in divided.confounded_in(classes).items():
        log.warning("%s is confounded (%s): no grouped result for task %s", name, reason, task)
    about: dict[str, Any] = {
        "task": task,
        "classes": classes,
        "confounded": divided.confounded_in(classes),
        "simulated": summary["origin"].get("origin") == "simulated",  # type: ignore[attr-defined]  # of JSON
        "data_hash": summary["data_hash"],
    }
    settings = settings_of(parameters, json.loads(best.read_text()))
    content: dict[str, Any] = {"models": []}
    with distributed.joined():
        if distributed.leads():
            rmtree(target / "compared", ignore_errors=True)
            (target / "compared").mkdir(parents=True)
        for split in divided.available(classes):
            with tracking.resumed(task, split) if distributed.leads() else nullcontext() as tracked:
                if tracked:
                    tracked.set_tags({"split": split, "data_hash": summary["data_hash"]})
                chosen, figures, entries = train_split(
                    known, divided, split, settings, parameters, about, target, tracked
                )
                content["models"] += entries
                if tracked:
                    tracked.log_metrics({"candidates": figures})
                    tracked.log_params({"candidate": chosen, "fit": settings[chosen][0].model_dump(mode="json")})
            if "chosen" not in content:
                content |= {"chosen": chosen, "candidates": figures}
                settings = {chosen: settings[chosen]}
        if distributed.leads():
            (target / "models.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
