"""From an export to the registry, stage by stage, as `dvc repro` runs them."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import openvino
import pandas as pd
import pytest

from fatescope.data import dataset
from fatescope.errors import BundleError, DataError
from fatescope.inference import bundle
from pipelines.stages import train
from tests.support.params import write_params
from tests.support.pipeline import CHANGES, run_register

pytestmark = pytest.mark.slow
PLOTS = ("confusion", "roc", "reliability", "risk_coverage", "groups", "composition")


def check_intervals(metrics):
    """One test group of each class on the grouped split, and all three on the other, in which every cell is right."""
    grouped, random = (metrics["splits"][name] for name in ("grouped", "random"))
    assert grouped["lower_bound"]["units"] == "cells"
    assert set(grouped["intervals"].values()) == {None}
    assert set(grouped["no_interval"].values()) == {"1 acquisition group of class astrocyte; three are needed"}
    assert random["lower_bound"]["units"] == "groups"
    for name, limits in random["intervals"].items():
        assert (limits, random["no_interval"][name]) == (None, "every acquisition group gives the same value")
    assert all(result["rough"] for result in metrics["splits"].values())


def test_the_pipeline(artifacts, folder):
    registry = mlflow.MlflowClient()
    # Evaluation: both schemes, with a prediction for each test cell.
    metrics = json.loads((folder / "reports/binary/metrics.json").read_text())
    predictions = pd.read_parquet(artifacts / "binary/predictions.parquet")
    assert list(metrics["splits"]) == ["grouped", "random"]
    for name, result in metrics["splits"].items():
        assert result["balanced_accuracy"] > 0.8
        assert np.sum(result["confusion"]) == result["cells"] == (predictions["split"] == name).sum()
        assert set(result["auc"]) == {"astrocyte", "oligodendrocyte"}
        assert result["lower_bound"]["value"] <= result["balanced_accuracy"]
        assert set(result["gain"]) == {"acquisition", "cell_figures"}
        assert sum(each["cells"] for each in result["by"]["group"].values()) == result["cells"]
        for plot in PLOTS:
            assert (folder / f"reports/binary/plots/{plot}_{name}.png").stat().st_size > 1000
    check_intervals(metrics)
    assert metrics["audit"]["pairs"][0]["classes"] == ["astrocyte", "oligodendrocyte"]

    # The bundle gives the probabilities that evaluation wrote, for its own test cells.
    model = bundle.load(artifacts / "binary/bundle", threads=1)
    model.check()
    known = dataset.load(artifacts / "cells")
    some = predictions[predictions["split"] == "grouped"].iloc[3]
    row = known.manifest.index[known.manifest["cell_id"] == some["cell_id"]]
    probabilities = model.predict(known.pixels[row]).probabilities[0]
    expected = [some[f"p_{name}"] for name in model.spec.classes]
    np.testing.assert_allclose(probabilities, np.array(expected, np.float32), atol=1e-5)
    assert model.spec.classes == ["oligodendrocyte", "astrocyte"]
    assert model.spec.split == "grouped"
    assert model.spec.made is not None
    assert abs(datetime.now(UTC) - datetime.fromisoformat(model.spec.made)) < timedelta(hours=1)
    assert not model.spec.simulated

    # Runs: one a scheme, with the metrics of evaluation, and below it one a fit with parameters and curves.
    trained = json.loads((artifacts / "binary/models.json").read_text())
    for entry in trained["models"]:
        run = registry.get_run(entry["run_id"])
        assert run.data.params["fit.epochs"] == str(CHANGES["train.epochs"])
        assert run.data.tags["data_hash"] == model.spec.data_hash
        below = registry.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{entry['run_id']}'")
        assert len(registry.get_metric_history(below[0].info.run_id, "train_loss")) == CHANGES["train.epochs"]
        reached = metrics["splits"][entry["split"]]["balanced_accuracy"]
        assert run.data.metrics["test.balanced_accuracy"] == reached

    # The other seed, and the random split.
    folders = [entry["folder"] for entry in trained["models"]]
    assert folders[0] == "bundle"
    assert {entry["seed"] for entry in trained["models"] if entry["split"] == "grouped"} == {0, 1}
    assert metrics["seeds"]["values"][0] == metrics["splits"]["grouped"]["balanced_accuracy"]
    assert len(metrics["seeds"]["values"]) == 2
    assert metrics["gap"] == pytest.approx(
        metrics["splits"]["random"]["balanced_accuracy"] - metrics["splits"]["grouped"]["balanced_accuracy"]
    )
    for path in folders:
        bundle.load(artifacts / "binary" / path, threads=1).check()

    # The registry: a champion, once, that MLflow itself can load.
    verdict = run_register(folder)
    assert (verdict["version"], verdict["champion"]) == ("1", True)
    assert run_register(folder)["version"] == "1"
    assert registry.get_model_version_by_alias("fatescope-binary", "champion").version == 1
    table = mlflow.pyfunc.load_model("models:/fatescope-binary@champion").predict({"pixels": known.pixels[row]})
    np.testing.assert_allclose(table[["p_oligodendrocyte", "p_astrocyte"]].to_numpy()[0], probabilities, atol=1e-5)


def test_the_plots_of_evaluation_are_in_its_runs(artifacts):
    for entry in json.loads((artifacts / "binary/models.json").read_text())["models"]:
        kept = {each.path for each in mlflow.MlflowClient().list_artifacts(entry["run_id"])}
        assert kept >= {f"{plot}_{entry['split']}.png" for plot in PLOTS} | {"audit.json"}


def test_a_bundle_that_does_not_reproduce_is_no_champion(folder, empty_registry, monkeypatch):
    monkeypatch.setattr(bundle, "TOLERANCE", -1.0)
    verdict = run_register(folder)
    assert not verdict["champion"]
    assert "do not reproduce" in verdict["criteria"]["reproduces"]["detail"]
    assert "champion" not in empty_registry.get_registered_model("fatescope-binary").aliases


def test_a_shortcut_is_no_champion(folder, empty_registry):
    path = folder / "reports/binary/metrics.json"
    before = path.read_text()
    try:
        metrics = json.loads(before)
        metrics["audit"]["verdict"] = metrics["audit"]["pairs"][0]["verdict"] = "shortcut"
        path.write_text(json.dumps(metrics))
        verdict = run_register(folder)
    finally:
        path.write_text(before)
    assert not verdict["champion"]
    assert (
        "shortcut: acquisition alone tells apart astrocyte / oligodendrocyte" in verdict["criteria"]["audit"]["detail"]
    )
    assert verdict["criteria"]["reproduces"]["holds"]
    assert empty_registry.get_model_version("fatescope-binary", "1").tags["audit"] == "shortcut"


def test_a_run_that_this_server_does_not_have_is_made_anew(folder, empty_registry):
    assert run_register(folder)["version"] == "1"
    assert (
        len(empty_registry.search_runs([empty_registry.get_experiment_by_name("fatescope-binary").experiment_id])) == 1
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", bundle.TOLERANCE), ("bf16", None)])
def test_openvino_reproduces_the_test_tensors(artifacts, precision, tolerance):
    model = bundle.load(artifacts / "binary/bundle", threads=1)
    core, path = openvino.Core(), artifacts / "binary/bundle" / bundle.GRAPH
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    found = compiled(model.example[:, None].astype(np.float32))["logits"]
    expected = model.predict(model.example).logits
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    if tolerance is not None:
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_whoever_may_read_the_graph_may_read_the_bundle(artifacts):
    assert len({path.stat().st_mode for path in (artifacts / "binary/bundle").iterdir()}) == 1


def test_damage_is_refused(artifacts, tmp_path):
    for name, message in [
        (bundle.GRAPH, "model.onnx was changed or damaged"),
        (bundle.TEST, "test.safetensors was changed or damaged"),
        (bundle.SPEC, "damaged"),
    ]:
        copy = shutil.copytree(artifacts / "binary/bundle", tmp_path / name)
        (copy / name).write_bytes((copy / name).read_bytes()[:-9] + b"123456789")
        with pytest.raises(BundleError, match=message):
            bundle.load(copy, threads=1)
    (copy / bundle.SPEC).unlink()
    with pytest.raises(BundleError, match="not a bundle"):
        bundle.load(copy, threads=1)
    copy = shutil.copytree(artifacts / "binary/bundle", tmp_path / "incomplete")
    (copy / bundle.WEIGHTS).unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors is missing"):
        bundle.load(copy, threads=1)


def test_a_newer_format_is_refused(artifacts, tmp_path):
    copy = shutil.copytree(artifacts / "binary/bundle", tmp_path / "newer")
    spec = json.loads((copy / bundle.SPEC).read_text())
    (copy / bundle.SPEC).write_text(json.dumps({**spec, "opset": 99}))
    with pytest.raises(BundleError, match="ONNX opset 99, but this version runs up to 20"):
        bundle.load(copy, threads=1)
    (copy / bundle.SPEC).write_text(json.dumps({**spec, "format": 1}))
    with pytest.raises(BundleError, match="format 1, but this version reads 2; train again with `dvc repro train`"):
        bundle.load(copy, threads=1)
    (copy / bundle.SPEC).write_text(json.dumps({**spec, "format": 3, "unheard_of": 1}))
    with pytest.raises(BundleError, match="format 3, but this version reads 2; update fatescope"):
        bundle.load(copy, threads=1)


def test_a_task_without_cells_is_an_error(artifacts, tmp_path):
    params = write_params(tmp_path, {"dataset.tasks": {"binary": ["NT3", "astrocyte"]}})
    with pytest.raises(DataError, match=r"task 'binary' needs cells of \['NT3'\]"):
        train.main(
            params,
            "binary",
            artifacts / "cells",
            artifacts / "splits.parquet",
            artifacts / "binary/best.json",
            tmp_path / "out",
        )
