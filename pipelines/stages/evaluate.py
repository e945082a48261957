"""Say how good the models of a task are on cells that they have not seen: grouped split first, random beside it.

Predictions come from the exported graph, so that what is measured is what is served.

`metrics.json`: `task`, `classes`, `simulated`, `confounded`, `audit` (the worst `verdict` on these classes, and that of
each pair), and
- `splits`: split → the figures of `scores.score` of the model to serve, with `intervals` (figure → `[low, high]`, by
  drawing `resampled`: acquisition `groups`, or `cells` where some class has too few; `rough` where it is cells, or few
  groups), `calibration` `before` and `after` the temperature, `trust`, `by` (fact of the path → value → figures),
  `worst_group`, `composition`, and `gain` over what acquisition alone and simple figures of the cell reach;
- `seeds`: how the balanced accuracy varies with the seed; `candidates`: the chosen model and the others, with cost;
- `gap`: random minus grouped balanced accuracy.

`predictions.parquet`: one row a test cell and split; columns `split`, `cell_id`, `label`, `group`, `predicted`,
`verdict`, `distance`, and the probability of each class as `p_CLASS`.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn.metrics import roc_curve

from fatescope.command import AuditFile, CellsFolder, ModelsFolder, OutFile, ParamsFile, SplitsFile, TaskName, run
from fatescope.config import Params, load
from fatescope.data import dataset, splits
from fatescope.data.dataset import CellDataset
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from fatescope.inference.uncertainty import Assessment
from pipelines.evaluation import bootstrap, metrics, predict
from pipelines.evaluation.plots import (
    draw_composition,
    draw_confusion,
    draw_groups,
    draw_reliability,
    draw_risk_coverage,
    draw_roc,
)
from pipelines.registry import tracking

log = logging.getLogger(__name__)

POINTS = 200
"""Points of a curve that are kept."""


@dataclass(frozen=True)
class Tested:
    """A model and what it says of the test cells of its split."""

    model: Bundle
    rows: npt.NDArray[np.int64]
    """Rows of the manifest."""
    targets: npt.NDArray[np.int64]
    judged: Assessment
    uncalibrated: npt.NDArray[np.float32]
    """(n, K) probabilities at temperature 1."""

    @property
    def weights(self) -> npt.NDArray[np.floating]:
        """Return (n,) weights that give the classes the shares which the probabilities take for granted."""
        return metrics.weigh(self.targets, np.array(self.model.spec.prior))

    @property
    def called(self) -> npt.NDArray[np.int64]:
        """Return (n,) indices of the most probable class."""
        called: npt.NDArray[np.int64] = self.judged.probabilities.argmax(1)
        return called


def try_model(model: Bundle, source: CellDataset, rows: npt.NDArray[np.int64]) -> Tested:
    """Let `model` judge the cells in `rows`."""
    judged = predict.assess(model, source, rows)
    labels = source.manifest["label"].to_numpy()[rows]
    targets = np.array([model.spec.classes.index(x) for x in labels])
    # Logits up to what softmax does not see; float32 keeps probabilities down to 1e-38.
    logits = np.log(np.maximum(judged.probabilities, np.finfo(np.float32).tiny))
    return Tested(model, rows, targets, judged, softmax(logits * model.spec.temperature, axis=1))


def evaluate(
    tested: Tested, manifest: pd.DataFrame, baselines: dict[str, Any], composition: dict[str, float], params: Params
) -> dict[str, Any]:
    """Return the figures of one model; see the module.

    `manifest` has the test cells, `baselines` is what the audit says of them, `composition` the figures of `compose`.
    """
    spec, asked = tested.model.spec, params.evaluate
    targets, probabilities = tested.targets, tested.judged.probabilities
    # On the random split as well: there too the cells of one group are right or wrong together.
    units = bootstrap.units_of(manifest["group"].to_numpy(str), targets.astype(str))
    weights = bootstrap.resample(units.names, targets.astype(str), asked.repeats, asked.seed)
    figures = metrics.score(targets, probabilities, spec.classes)
    facts = dict.fromkeys(("group", *params.dataset.group, params.dataset.label))
    by = {name: metrics.by_value(manifest[name].to_numpy(str), targets, tested.called) for name in facts}
    worst = min(by["group"], key=lambda name: (by["group"][name]["accuracy"], name))
    gain = {name: figures["balanced_accuracy"] - found["value"] for name, found in baselines.items()}
    return figures | {
        "intervals": metrics.bounds(targets, probabilities, weights, spec.classes, tested.weights),
        "resampled": units.kind,
        "groups": manifest["group"].nunique(),
        "rough": units.kind == "cells" or units.fewest < asked.min_groups,
        "calibration": {
            "before": metrics.calibration(targets, tested.uncalibrated, asked.bins, tested.weights),
            "after": metrics.calibration(targets, probabilities, asked.bins, tested.weights),
        },
        "trust": metrics.trust(targets, tested.judged, spec.classes),
        "by": by,
        "worst_group": {"name": worst, **by["group"][worst]},
        "composition": composition,
        "baselines": {name: found["value"] for name, found in baselines.items()},
        "gain": gain,
    }


def compose(tested: Tested, manifest: pd.DataFrame, params: Params) -> tuple[dict[str, float], pd.DataFrame]:
    """Try the composition estimator on cultures that are put together from the test cells."""
    spec, asked = tested.model.spec, params.evaluate
    by_groups = spec.split == "grouped"
    of_one = manifest["group"].to_numpy(str) if by_groups else np.full(len(manifest), "")
    prior, error = np.array(spec.prior), np.array(spec.composition_error)
    return metrics.try_compositions(
        tested.targets,
        tested.judged.probabilities,
        of_one,
        prior,
        error,
        asked.mixtures,
        asked.mixture_cells,
        asked.seed,
    )


def curves(tested: Tested, bins: int) -> dict[str, pd.DataFrame]:
    """Return the tables behind the plots: `roc`, `reliability`, `risk_coverage` and `confusion`."""
    classes, targets = tested.model.spec.classes, tested.targets
    probabilities = tested.judged.probabilities
    lines = []
    for i, name in enumerate(classes):
        false, true, _ = roc_curve(targets == i, probabilities[:, i])
        kept = np.unique(np.linspace(0, len(false) - 1, min(POINTS, len(false))).astype(int))
        lines.append(pd.DataFrame({"class": name, "false_positive": false[kept], "true_positive": true[kept]}))
    before = metrics.reliability(targets, tested.uncalibrated, bins, tested.weights).assign(when="before")
    after = metrics.reliability(targets, probabilities, bins, tested.weights).assign(when="after")
    names = np.array(classes)
    return {
        "roc": pd.concat(lines),
        "reliability": pd.concat([before, after]),
        "risk_coverage": metrics.risk_coverage(targets, probabilities),
        "confusion": pd.DataFrame({"labelled": names[targets], "called": names[tested.called]}),
    }


def write_tables(found: dict[str, dict[str, pd.DataFrame]], target: Path) -> None:
    """Write split → the tables of `curves`, each of all splits as one CSV with the column `split`, for `dvc plots`."""
    for name in next(iter(found.values())):
        table = pd.concat([tables[name].assign(split=split) for split, tables in found.items()])
        table.to_csv(target / f"{name}.csv", index=False)


def draw(
    tested: Tested,
    figures: dict[str, Any],
    tables: dict[str, pd.DataFrame],
    mixtures: pd.DataFrame,
    manifest: pd.DataFrame,
) -> dict[str, Figure]:
    """Return the pictures of one model by name; `tables` are of `curves`, `mixtures` is of `compose`."""
    spec = tested.model.spec
    title = f"{spec.task}, {spec.split} split" + (", simulated cells" if spec.simulated else "")
    when = tables["reliability"]["when"]
    errors = {name: figures["calibration"][name]["ece"] for name in ("before", "after")}
    labels = dict(zip(manifest["group"].astype(str), manifest["label"].astype(str), strict=True))
    return {
        "confusion": draw_confusion(figures["confusion"], spec.classes, title),
        "roc": draw_roc(tables["roc"], figures["auc"], title),
        "reliability": draw_reliability(
            tables["reliability"][when == "before"], tables["reliability"][when == "after"], errors, title
        ),
        "risk_coverage": draw_risk_coverage(tables["risk_coverage"], title),
        "groups": draw_groups(figures["by"]["group"], labels, title),
        "composition": draw_composition(mixtures, spec.classes, figures["composition"], title),
    }


def audit_of(report: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    """Return what the audit says of `classes`: `verdict`, the worst of any pair, and `pairs`."""
    keys = ("classes", "verdict", "verdict_normalised", "confounded")
    pairs = [{key: each[key] for key in keys} for each in report["pairs"] if set(each["classes"]) <= set(classes)]
    worst = max((each["verdict"] for each in pairs), key=("clean", "suspect", "shortcut").index, default="unknown")
    return {"verdict": worst, "pairs": pairs}


def spread(values: list[float]) -> dict[str, Any]:
    """Return `mean`, `deviation` (of the sample; none for one value) and `values` of a figure over seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation, "values": values}


def compare(tested: list[tuple[dict[str, Any], Tested]], trained: dict[str, Any]) -> dict[str, Any]:
    """Return `seeds`, `candidates` and `gap` of all `tested` models, given with their entries in `models.json`."""
    first = tested[0][0]["split"]
    reached = [
        (entry, metrics.score(each.targets, each.judged.probabilities, each.model.spec.classes))
        for entry, each in tested
    ]
    on_first = [(entry, found) for entry, found in reached if entry["split"] == first]
    others = [found["balanced_accuracy"] for entry, found in reached if entry["split"] != first]
    chosen = [found["balanced_accuracy"] for entry, found in on_first if entry["candidate"] == trained["chosen"]]
    candidates: dict[str, dict[str, Any]] = {}
    for entry, found in on_first:
        kept = {name: found[name] for name in ("balanced_accuracy", "macro_f1", "mcc")}
        about = {k: v for k, v in trained["candidates"][entry["candidate"]].items() if k != "members"}
        backbones = [each["backbone"] for each in trained["candidates"][entry["candidate"]]["members"]]
        candidates.setdefault(entry["candidate"], {"backbones": backbones, **about, "test": kept})
    return {
        "chosen": trained["chosen"],
        "candidates": candidates,
        "seeds": {"split": first, **spread(chosen)},
        "gap": others[0] - chosen[0] if others else None,
    }


def _table(tested: Tested, manifest: pd.DataFrame) -> pd.DataFrame:
    spec, judged = tested.model.spec, tested.judged
    known = manifest[["cell_id", "label", "group"]].reset_index(drop=True)
    known.insert(0, "split", spec.split)
    said = {"predicted": np.array(spec.classes)[tested.called], "verdict": judged.verdicts, "distance": judged.distance}
    return known.assign(**said, **{f"p_{name}": judged.probabilities[:, i] for i, name in enumerate(spec.classes)})


def main(
    params: ParamsFile,
    task: TaskName,
    source: CellsFolder,
    parts: SplitsFile,
    audit: AuditFile,
    models: ModelsFolder,
    predictions: Annotated[Path, typer.Option("--predictions", help="Parquet file to write: one row a test cell.")],
    target: OutFile,
    plots: Annotated[Path, typer.Option("--plots", help="Folder to draw plots into.")],
    tables: Annotated[Path, typer.Option("--tables", help="Folder to write the tables behind the plots into.")],
) -> None:
    """Evaluate the models of a task on test cells: metrics, intervals, plots."""
    mpl.use("Agg")
    settings, known, divided = load(params), dataset.load(source), splits.load(parts)
    classes, trained = settings.classes(task), json.loads((models / "models.json").read_text())
    audited = json.loads(audit.read_text())
    tested = []
    for entry in trained["models"]:
        model = bundle.load(models / entry["folder"], settings.train.threads)
        tested.append((entry, try_model(model, known, divided.indices(entry["split"], "test", classes))))
    content: dict[str, Any] = {
        "task": task,
        "classes": classes,
        "simulated": tested[0][1].model.spec.simulated,
        "confounded": divided.confounded_in(classes),
        "splits": {},
        **compare(tested, trained),
        "audit": audit_of(audited, classes),
    }
    for folder in (plots, tables):
        folder.mkdir(parents=True, exist_ok=True)
    rows: list[pd.DataFrame] = []
    kept: dict[str, dict[str, pd.DataFrame]] = {}
    for entry, each in tested:
        split = entry["split"]
        if split in content["splits"]:  # the model to serve comes first
            continue
        manifest = known.manifest.iloc[each.rows]
        baselines = audited["tasks"].get(task, {}).get(split, {})
        composition, mixtures = compose(each, manifest, settings)
        content["splits"][split] = figures = evaluate(each, manifest, baselines, composition, settings)
        rows.append(_table(each, manifest))
        kept[split] = found = curves(each, settings.evaluate.bins)
        with tracking.resumed(task, split, entry["run_id"]) as tracked:
            tracked.log_metrics({"test": figures, "seeds": content["seeds"]})
            tracked.set_tag("audit", content["audit"]["verdict"])
            for name, picture in draw(each, figures, found, mixtures, manifest).items():
                picture.savefig(plots / f"{name}_{split}.png", dpi=120)
                tracked.log_artifact(plots / f"{name}_{split}.png")
            tracked.log_artifact(audit)
        low, high = figures["intervals"]["balanced_accuracy"]
        log.info("%s, %s: balanced accuracy %.3f (%.3f to %.3f)", task, split, figures["balanced_accuracy"], low, high)
    write_tables(kept, tables)
    target.write_text(json.dumps(content, indent=2) + "\n")
    pd.concat(rows).to_parquet(predictions, index=False)


if __name__ == "__main__":
    run(main)
