"""Write a trained model as a bundle: graph, weights, reference, test tensors and specification."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_model

from fatescope.data import acquisition_facts
from fatescope.data.folders import fresh_folder
from fatescope.inference import bundle
from fatescope.inference.accuracy import Error
from fatescope.inference.reference import ACCURACY
from fatescope.networks.network import export
from pipelines.evaluation.known_before import leave_out
from pipelines.evaluation.predict import BATCH
from pipelines.training import coarse_calibration
from pipelines.training.context import TrainingContext
from pipelines.training.ensemble import sample_evenly
from pipelines.training.examples import Examples
from pipelines.training.known_before import hashes_known_before
from pipelines.training.selection import Candidate, Refit

TEST_CELLS = 8
"""Cells whose logits a bundle must reproduce wherever it is loaded."""
REFERENCE_CELLS, REFERENCE_GROUPS = 5000, 40
"""The most cells of the reference that the model was trained on, and the most that it was not; and of how many groups.

A few cells of each of many hundred groups would not tell how runs differ.
"""


def write_bundle(
    refit: Refit, spec: bundle.Spec, context: TrainingContext, target: Path, error: Error | None = None
) -> None:
    """Write `refit`, which was trained on the training and validation cells of a scheme, into the folder `target`.

    `error` is that of estimates of its accuracy, for the reference. The logits of the test tensors are those of the
    exported graph, which is what every runtime runs.
    """
    seen = context.examples(spec.split).merge_validation().train
    members = [*spec.params["train"], *spec.params.get("teacher", [])]
    before = hashes_known_before(member["weights"] for member in members)
    with fresh_folder(target) as folder:
        network = refit.network.cpu()
        save_model(network, str(folder / bundle.WEIGHTS))
        export(network, spec.canvas, folder / bundle.GRAPH, len(spec.kinds))
        refit.outliers.save(folder / bundle.OUTLIERS)
        graph = bundle.Graph(folder / bundle.GRAPH, torch.get_num_threads())
        pixels = context.cells.pixels[seen[np.linspace(0, len(seen) - 1, TEST_CELLS).astype(int)]]
        save_file({"pixels": pixels, "logits": graph.predict(pixels).logits}, folder / bundle.TEST)
        hashes = context.cells.take(seen, ["pixel_hash"])["pixel_hash"].to_numpy()
        known = {bundle.KNOWN_BEFORE: before} if len(before) else {}
        save_file({"cells": np.sort(np.concatenate([hashes, before])), **known}, folder / bundle.SEEN)
        # Without those that are known already.
        _write_reference(graph, refit, spec, seen, context, folder, error)
        if context.recipe is not None:
            context.recipe.end(shortened=refit.shortened).write(folder)
        bundle.finalize(folder, spec)


def build_spec(
    candidate: Candidate, refit: Refit, examples: Examples, scheme: str, seed: int, context: TrainingContext
) -> bundle.Spec:
    """Return the specification of `refit`, without the hashes of its files."""
    params, calibration = context.params, candidate.calibration
    rows = np.concatenate([examples.train, examples.validation])
    known = context.cells.take(rows, ["bit_depth", "height", "width"])
    hierarchy, unseen = params.dataset.hierarchy.get(context.task, {}), candidate.unseen
    sections = ("dataset", "ingest", "quality", "split", "ensemble", "calibrate")
    used: dict[str, Any] = {name: getattr(params, name).model_dump(mode="json") for name in sections}
    if candidate.teacher:
        used["teacher"] = [member.model_dump(mode="json") for member in candidate.teacher]
    return bundle.Spec(
        format=bundle.FORMAT,
        opset=bundle.OPSET,
        task=context.task,
        classes=context.classes,
        hierarchy=hierarchy,
        canvas=context.cells.canvas,
        bit_depths=sorted(known["bit_depth"].unique().tolist()),
        height_px=(int(known["height"].min()), int(known["height"].max())),
        width_px=(int(known["width"].min()), int(known["width"].max())),
        channel=next(iter(context.cells.channels), None),
        channels=context.cells.channels,
        backbone=" + ".join(member.backbone for member in candidate.members),
        join=params.ensemble.join if len(candidate.members) > 1 else None,
        seed=seed,
        temperature=calibration.temperature,
        coverage=params.calibrate.coverage,
        conformal=calibration.conformal,
        coarse_thresholds=coarse_calibration.fit_thresholds(
            coarse_calibration.assess_unseen(unseen, calibration),
            examples.targets[unseen.rows],
            context.groups[unseen.rows],
            context.classes,
            hierarchy,
            params.calibrate.coverage,
        ),
        false_alarm=params.calibrate.false_alarm,
        outlier_threshold=calibration.outlier_threshold,
        prior=candidate.prior.tolist(),
        composition_error=calibration.composition_error.tolist(),
        tracks=calibration.tracks,
        quality=context.gate,
        cost=candidate.model.as_fields() | (candidate.fits + refit.cost).as_fields(),
        split=scheme,
        confounded=context.confounded,
        simulated=context.simulated,
        data_hash=context.data_hash,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=context.git_commit,
        params=used | {"train": [member.model_dump(mode="json") for member in candidate.members]},
        hashes={},
    )


def _write_reference(
    graph: bundle.Graph,
    refit: Refit,
    spec: bundle.Spec,
    seen: npt.NDArray[np.int64],
    context: TrainingContext,
    folder: Path,
    error: Error | None,
) -> None:
    """Write the cells that drift is measured against: test cells, then cells that the model was trained on (`seen`)."""
    test = context.splits.indices(spec.split, "test", context.classes)
    test = leave_out(test, context.cells, bundle.known_before(folder), context.tracks)
    fitted = sample_reference(seen, context.groups)
    rows = np.concatenate([sample_reference(test, context.groups), fitted])
    pixels = context.cells.pixels
    predictions = [graph.predict(pixels[rows[start : start + BATCH]]) for start in range(0, len(rows), BATCH)]
    facts = [name for name in context.cells.table.columns if name.startswith(acquisition_facts.PREFIX)]
    known = context.cells.take(np.union1d(test, seen), ["group", *facts])
    reference = bundle.build_reference(
        context.cells.take(rows), predictions, spec, refit.outliers, seen=len(fitted), known=known
    )
    if error is not None:
        reference.attrs[ACCURACY] = asdict(error)
    reference.to_parquet(folder / bundle.REFERENCE, index=False)


def sample_reference(rows: npt.NDArray[np.int64], groups: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.int64]:
    """Return up to REFERENCE_CELLS of `rows`, evenly spaced, of up to REFERENCE_GROUPS of the (N,) `groups`."""
    names = np.unique(groups[rows])
    kept = names[np.unique(np.linspace(0, len(names) - 1, REFERENCE_GROUPS).astype(int))]
    return sample_evenly(rows[np.isin(groups[rows], kept)], REFERENCE_CELLS)
