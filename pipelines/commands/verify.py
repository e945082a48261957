"""Build a registered version again from what the registry has of it, and hold the result against it.

The bundle of the version has its recipe (`pipelines.provenance.recipe`): code, packages, data, parameters, seed and
epochs. A checkout of that code ingests the data, deals the splits and trains, once with the seed of the version and a
few times with others. The outcome (`pipelines.verification.report.Verification`) is written to
`reports/TASK/verify/VERSION.json`.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from fatescope import plural
from fatescope.data import dataset
from fatescope.data import splits as split_files
from fatescope.errors import BundleError, DataError, FatescopeError
from fatescope.inference import bundle
from fatescope.inference.bundle import Spec
from fatescope.model_registry import model_name
from pipelines.pretraining.result import BACKBONE
from pipelines.provenance.recipe import Recipe, constraints_of
from pipelines.registry import tracking, versions
from pipelines.verification import workplace
from pipelines.verification.agreement import Judged, judge
from pipelines.verification.environment import find_differences
from pipelines.verification.report import Difference, Verification
from pipelines.verification.workplace import Workplace

log = logging.getLogger(__name__)

CELLS, QUALITY, SPLITS, REBUILT = "artifacts/cells", "artifacts/quality.parquet", "artifacts/splits.parquet", "rebuilt"
PRETRAINED = "artifacts/pretrained"
FEEDBACK = "feedback"
"""Folder of corrections, which no checkout has."""


@dataclass(frozen=True)
class Choices:
    """What the user of the command decides."""

    repository: str | None = None
    """Repository of the code; by default that of the current folder, or the one recorded."""
    data: Path | None = None
    """Folder of the cells; by default they are drawn or pulled."""
    here: bool = False
    """Whether to use the environment of this process instead of making one."""
    reseeded: int = 3
    """Rebuilds with other seeds."""
    keep: Path | None = None
    """Folder to build in, which is kept; by default a temporary one."""


@dataclass(frozen=True)
class Built:
    """What was built again, from what and where."""

    recipe: Recipe
    spec: Spec
    seeds: list[int]
    """Of the rebuilds with other seeds."""
    repository: str
    differences: list[Difference]
    here: bool


def verify(task: str, version: str, choices: Choices) -> Verification:
    """Build `version`, a number or an alias, of `task` again, and return how it compares.

    Raises BundleError where the version lacks what it takes, and FatescopeError where a step of the rebuild fails.
    """
    number = versions.number_of(task, version)
    with versions.download(task, number) as registered, _folder(choices.keep) as place:
        recipe, spec = Recipe.read(registered), bundle.open_spec(registered)
        if recipe is None or (lacking := find_lacking(recipe)):
            raise BundleError(
                f"{model_name(task)} version {number} cannot be built again: "
                + ("it was made before versions recorded how" if recipe is None else "; ".join(lacking))
                + ". Train and register it anew with this version of fatescope, from committed code"
            )
        repository = workplace.find_repository(recipe.code, choices.repository, Path.cwd())
        checkout = place / "checkout"
        log.info("code: commit %s from %s", recipe.code.commit[:12], repository)
        workplace.check_out(recipe.code, repository, checkout)
        work = _prepare(recipe, registered, checkout, choices)
        seeds = other_seeds(spec.seed, choices.reseeded)
        _build(
            work,
            recipe,
            spec,
            registered,
            seeds,
            workplace.bring_data(work, recipe.data_version, choices.data, repository),
        )
        _check_training_cells(registered, checkout / REBUILT / str(spec.seed))
        judged = judge(
            registered,
            checkout / REBUILT / str(spec.seed),
            [checkout / REBUILT / str(seed) for seed in seeds],
            dataset.load(checkout / CELLS),
            split_files.load(checkout / SPLITS),
        )
        used = Recipe.read(checkout / REBUILT / str(spec.seed))
        differences = find_differences(recipe, used) if used is not None else []
        return _report(number, Built(recipe, spec, seeds, repository, differences, here=choices.here), judged)


def find_lacking(recipe: Recipe) -> list[str]:
    """Return what is missing of what a rebuild takes."""
    lacking = []
    if not recipe.code.commit:
        lacking.append("its code was in no git repository")
    if recipe.code.unknown:
        lacking.append(f"git did not know {', '.join(recipe.code.unknown[:5])}, whose content is recorded nowhere")
    return lacking


def other_seeds(seed: int, count: int) -> list[int]:
    """Return `count` seeds other than `seed`."""
    return [seed + 1 + number for number in range(count)]


def was_pretrained(spec: Spec) -> bool:
    """Return whether the networks of a model, or those that taught it, began with what the stage pretrain wrote."""
    networks = [*spec.params["train"], *spec.params.get("teacher", [])]
    return any(Path(network["weights"]) == Path(PRETRAINED, BACKBONE) for network in networks)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="fatescope-verify-") as name:
            yield Path(name)
        return
    if keep.exists() and any(keep.iterdir()):
        raise FatescopeError(f"{keep}: is not empty; name another folder with --keep")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def _prepare(recipe: Recipe, registered: Path, checkout: Path, choices: Choices) -> Workplace:
    """Write the parameters into the checkout, and return it with the Python that is to run it."""
    # JSON is YAML, and has names such as `001` in quotes.
    (checkout / "params.yaml").write_text(json.dumps(recipe.params, indent=2) + "\n", encoding="utf-8")
    if choices.here:
        python = Path(sys.executable)
    else:
        log.info("environment: Python %s with the recorded packages; this takes minutes", recipe.machine.python)
        python = workplace.make_environment(
            checkout.with_name("environment"),
            checkout,
            recipe.machine.python,
            constraints_of(registered),
            recipe.packages,
        )
    return Workplace(checkout, python, recipe.machine.threads)


def _build(work: Workplace, recipe: Recipe, spec: Spec, registered: Path, seeds: list[int], data: Path) -> None:
    """Ingest, split and train in the checkout.

    Raises DataError where the data are not those of the version.
    """
    params, cells = ("--params", "params.yaml"), ("--cells", CELLS)
    log.info("data: %s", data)
    work.run("pipelines.stages.ingest", *params, "--data", str(data), "--out", CELLS)
    found = str(dataset.load_summary(work.folder / CELLS)["data_hash"])
    if found != spec.data_hash:
        raise DataError(
            f"{data}: its cells are version {found[:12]}, and the model was trained on {spec.data_hash[:12]}"
            + (f" (DVC: {recipe.data_hash})" if recipe.data_hash else "")
            + "; name a folder that has those with --data"
        )
    reports = ("--report", "reports/quality.json", "--plots", "reports/quality")
    work.run("pipelines.stages.quality", *params, *cells, "--out", QUALITY, *reports)
    work.run("pipelines.stages.split", *params, *cells, "--quality", QUALITY, "--out", SPLITS)
    if was_pretrained(spec):
        log.info("pretraining the backbone")
        learned = ("--feedback", FEEDBACK, "--out", PRETRAINED)
        work.run("pipelines.stages.pretrain", *params, *cells, "--splits", SPLITS, *learned)
    log.info("training: seed %d, then %s", spec.seed, ", ".join(map(str, seeds)))
    chosen = [argument for seed in (spec.seed, *seeds) for argument in ("--seed", str(seed))]
    # Without the gates, where the model was made without them.
    gates = ("--quality", QUALITY) if spec.quality is not None else ()
    work.run(
        "pipelines.commands.rebuild",
        "--bundle",
        str(registered),
        *cells,
        "--splits",
        SPLITS,
        *gates,
        "--out",
        REBUILT,
        *chosen,
    )


def _check_training_cells(registered: Path, rebuilt: Path) -> None:
    """Raise DataError unless both were trained on the same cells."""
    one, other = (load_file(folder / bundle.SEEN)["cells"] for folder in (registered, rebuilt))
    if not np.array_equal(one, other):
        cells, same = plural.count(len(one), "cell"), plural.count(len(np.intersect1d(one, other)), "is", "are")
        raise DataError(
            f"the splits differ: the version was trained on {cells}, the rebuild on {len(other):,}, of which {same} "
            "the same; were cells left out by other means than the parameters?"
        )


def _report(number: str, built: Built, judged: Judged) -> Verification:
    recipe, spec = built.recipe, built.spec
    model = model_name(spec.task)
    tags = tracking.client().get_model_version(model, number).tags
    recorded = float(tags["balanced_accuracy"]) if "balanced_accuracy" in tags else None
    within = all(metric.within for metric in judged.metrics.values())
    same = judged.logits.max_difference <= bundle.TOLERANCE
    remarks = []
    if was_pretrained(spec):
        remarks.append(
            "its backbone was pretrained anew, within pretrain.minutes and without images of corrections, so that it "
            "may differ"
        )
    if recipe.shortened:
        remarks.append("its training was cut short by train.minutes; the rebuild took all steps, so that it differs")
    measured = judged.metrics["balanced_accuracy"].registered
    # The tag has four decimals.
    if recorded is not None and abs(recorded - measured) > 5e-4:
        remarks.append(f"the registry says balanced accuracy {recorded:.4f}, and on these cells it is {measured:.4f}")
    return Verification(
        task=spec.task,
        model=model,
        version=number,
        reproduced=same or within,
        outcome="same" if same else "within" if within else "outside",
        commit=recipe.code.commit,
        changed=bool(recipe.code.changes),
        repository=built.repository,
        data_hash=spec.data_hash,
        data_version=recipe.data_hash,
        seed=spec.seed,
        seeds=built.seeds,
        epochs=[int(member["epochs"]) for member in spec.params["train"]],
        shortened=recipe.shortened,
        environment="here" if built.here else "made",
        differences=built.differences,
        scheme=spec.split,
        cells=judged.cells,
        recorded_balanced_accuracy=recorded,
        metrics=judged.metrics,
        logits=judged.logits,
        reseeded_logits=judged.reseeded_logits,
        remarks=remarks,
    )
