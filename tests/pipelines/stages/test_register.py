"""The registry: champion, challengers, a shortcut and a rollback; and the servers of MLflow."""

import json
import shutil
import sys
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from safetensors.numpy import save_file
from safetensors.torch import load_model

from fatescope import config
from fatescope.config import Train
from fatescope.data import dataset
from fatescope.errors import BundleError, DataError, FatescopeError
from fatescope.inference import bundle
from fatescope.inference.ood import MahalanobisDetector
from fatescope.model_registry import metric_name
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings
from pipelines.commands import compare, promote, rollback
from pipelines.registry import gate, listing, tracking, versions
from pipelines.registry.records import Criterion
from pipelines.training import trainer
from pipelines.training.bundle_writer import write_bundle
from pipelines.training.context import load_context
from pipelines.training.cost import FitCost
from pipelines.training.selection import SINGLE, Refit
from tests.support.pipeline import run_register
from tests.support.servers import ended, free_port, ready

pytestmark = pytest.mark.slow


def variant(folder, target, name, change):
    """Write the model of the pipeline with another linear layer, as another model of the task; return its folder."""
    source, models = folder / "artifacts/binary", target / name
    trained = json.loads((source / "models.json").read_text())["models"]
    # The candidate that is one network, whichever was chosen.
    single = source / next(x["folder"] for x in trained if (x["split"], x["candidate"]) == ("grouped", SINGLE))
    spec = bundle.read_spec(single)
    network = trainer.build_network(Train.model_validate_json(json.dumps(spec.params["train"][0])), len(spec.classes))
    load_model(network, str(single / bundle.WEIGHTS))
    with torch.no_grad():
        change(network.linear)
    paths = folder / "artifacts/cells", folder / "artifacts/splits.parquet"
    context = load_context(config.load(folder / "params.yaml"), "binary", *paths, git_commit="")
    refit = Refit(
        network.eval(), MahalanobisDetector.load(single / bundle.OUTLIERS), FitCost(1.0, None), shortened=False
    )
    another = spec.model_copy(update={"seed": sum(name.encode())})
    write_bundle(refit, another, context, models / "bundle")
    shutil.copy(source / "models.json", models / "models.json")
    return models


def always(first):
    """Make a layer predict the class `first` for every cell, which is right for half of them."""

    def change(linear):
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([3.0, 0.0] if first == 0 else [0.0, 3.0]))

    return change


def swapped(linear):
    """Make a layer predict the other class for every cell."""
    linear.weight.copy_(linear.weight.flip(0))
    linear.bias.copy_(linear.bias.flip(0))


def test_the_life_of_a_champion(folder, empty_registry, tmp_path):
    name, registry = "fatescope-binary", empty_registry

    def champion():
        return str(registry.get_model_version_by_alias(name, "champion").version)

    # A first version has none to beat.
    first = run_register(folder, variant(folder, tmp_path, "first", always(0)))
    assert (first["version"], first["champion"], first["compared"]) == ("1", True, "no champion yet")
    assert registry.get_model_version(name, "1").tags["signed_by"].startswith("key ")
    with versions.download("binary", "1") as signed:
        assert signature.verify(signed, SigningSettings.read(), registry=True).signer
    # A worse one is a challenger, and no more.
    worse = run_register(folder, variant(folder, tmp_path, "worse", swapped))
    assert (worse["version"], worse["champion"]) == ("2", False)
    assert not worse["criteria"]["better"]["holds"]
    assert worse["criteria"]["better"]["value"] < 0
    assert worse["criteria"]["better"]["look"] == 1
    assert str(registry.get_model_version_by_alias(name, "challenger").version) == "2"
    assert champion() == "1"
    # A better one takes over.
    better = run_register(folder)
    assert (better["version"], better["champion"], better["replaced"]) == ("3", True, "1")
    assert better["criteria"]["better"]["look"] == 2, "the one that was refused has looked at these groups too"
    assert better["criteria"]["better"]["groups"] == worse["criteria"]["better"]["groups"]
    assert champion() == "3"
    # One that rests on a shortcut does not, however good.
    path = folder / "reports/binary/metrics.json"
    content = json.loads(path.read_text())
    content["audit"]["verdict"] = content["audit"]["pairs"][0]["verdict"] = "shortcut"
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    short = run_register(folder, variant(folder, tmp_path, "short", lambda _: None), tmp_path / "metrics.json")
    assert (short["version"], short["champion"]) == ("4", False)
    assert "acquisition alone tells apart" in short["criteria"]["audit"]["detail"]
    assert champion() == "3"
    # What changed between two versions, with pictures.
    compare.main(
        folder / "params.yaml", "binary", "2", "champion", folder / "artifacts/cells",
        folder / "artifacts/splits.parquet", tmp_path / "compare",
    )  # fmt: skip
    report = json.loads((tmp_path / "compare/2-champion.json").read_text())
    assert report["figures"]["balanced_accuracy"]["difference"] > 0.5
    assert report["changed"]["mended"] == report["cells"] - report["changed"]["broken"]
    assert "data:image/png;base64" in (tmp_path / "compare/2-champion.html").read_text()
    # Back to the one before, on the record.
    with pytest.raises(DataError, match="the reason is empty"):
        rollback.rollback("binary", " ", "Ada")
    assert rollback.rollback("binary", "calls debris astrocyte", "Ada") == ("3", "1")
    assert champion() == "1"
    record = json.loads(registry.get_model_version(name, "3").tags["rolled_back"])
    assert (record["who"], record["why"], record["to"]) == ("Ada", "calls debris astrocyte", "1")
    # The next `dvc repro` leaves that as it is, and the next card mentions it.
    assert run_register(folder)["version"] == "3"
    assert champion() == "1"
    assert len(registry.search_model_versions(f"name = '{name}'")) == 4
    last = run_register(folder, variant(folder, tmp_path, "last", always(1)))
    assert last["version"] == "5"
    history = (folder / "reports/binary/registered/card.md").read_text()
    assert "rolled back by Ada" in history
    assert "calls debris astrocyte" in history
    assert "| 1 |" in history
    with pytest.raises(DataError, match="version 1 replaced no other"):
        rollback.rollback("binary", "again", "Ada")


def test_a_champion_that_has_seen_the_test_cells_is_not_beaten_on_them(folder, empty_registry, tmp_path):
    champion = variant(folder, tmp_path, "first", always(0))
    known = dataset.load(folder / "artifacts/cells").manifest["pixel_hash"].to_numpy()
    save_file({"cells": np.sort(known)}, champion / "bundle" / bundle.SEEN)
    bundle.finalize(champion / "bundle", bundle.read_spec(champion / "bundle"))
    assert run_register(folder, champion)["champion"]
    verdict = run_register(folder)
    assert not verdict["champion"]
    assert "no test cells left that neither version has seen" in verdict["criteria"]["comparable"]["detail"]
    assert str(empty_registry.get_model_version_by_alias("fatescope-binary", "champion").version) == "1"


def test_the_tags_and_the_bundle_of_a_version(folder, empty_registry):
    run_register(folder)
    version = empty_registry.get_model_version("fatescope-binary", "1")
    spec = bundle.read_spec(folder / "artifacts/binary/bundle")
    assert version.tags["data_hash"] == spec.data_hash
    assert len(version.tags["splits_hash"]) == 64
    served = json.loads((folder / "reports/binary/metrics.json").read_text())["splits"]["grouped"]
    assert version.tags["balanced_accuracy"] == f"{served['balanced_accuracy']:.4f}"
    assert "balanced_accuracy.low" not in version.tags, "one test group of each class: there is no interval"
    [row] = listing.list_versions("binary")
    assert (row["balanced_accuracy"], row["low"], row["high"]) == (float(version.tags["balanced_accuracy"]), None, None)
    assert version.description.count("# fatescope-binary, version 1") == 1
    run = empty_registry.get_run(version.run_id)
    [used] = run.inputs.dataset_inputs
    assert spec.data_hash.endswith(used.dataset.digest)
    model = mlflow.models.get_model_info("models:/fatescope-binary/1")
    assert model.signature.inputs.to_dict()[0]["name"] == "pixels"
    # The registered bundle holds its card, and still reproduces.
    path = Path(mlflow.artifacts.download_artifacts("models:/fatescope-binary/1/artifacts/bundle"))
    bundle.load(path, threads=1).check()
    assert "| calibration | yes |" in (path / "card.md").read_text()
    (path / "card.md").write_text("a better story")
    with pytest.raises(BundleError, match=r"card\.md was changed"):
        bundle.load(path, threads=1)


def test_a_long_verdict_stays_whole_when_the_stage_runs_again(folder, empty_registry, monkeypatch):
    long = Criterion(holds=False, detail="a group, and " * 2000)
    decide = gate.decide
    monkeypatch.setattr(gate, "decide", lambda *arguments: decide(*arguments) | {"groups": long})
    first = run_register(folder)
    assert first["criteria"]["groups"]["detail"] == long.detail
    card = (folder / "reports/binary/registered/card.md").read_bytes()
    assert run_register(folder) == first
    assert (folder / "reports/binary/registered/card.md").read_bytes() == card
    assert empty_registry.get_model_version("fatescope-binary", "1").tags["gate.1"]


def fail(*_, **__):
    raise MlflowException("the server is away")


def registered_models(version, registry):
    """Return the logged models of the experiment that a version belongs to."""
    return registry.search_logged_models([registry.get_run(version.run_id).info.experiment_id])


def test_a_registry_that_is_away_is_not_a_registry_without_the_champion(folder, empty_registry, monkeypatch, tmp_path):
    run_register(folder)
    place = Path(empty_registry.get_model_version_download_uri("fatescope-binary", "1"))
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    another = variant(folder, tmp_path, "another", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.artifacts, "download_artifacts", fail)
        for models in (None, another):
            with pytest.raises(FatescopeError, match=r"version 1 cannot be fetched from .* \(the server is away\)"):
                run_register(folder, models)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == before
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", fail)
        with pytest.raises(FatescopeError, match="the registry did not answer"):
            run_register(folder, another)
    assert len(empty_registry.search_model_versions("name = 'fatescope-binary'")) == 1
    assert versions.get_by_alias("binary", "nobody") is None


@pytest.mark.long
def test_a_registry_that_goes_away_at_any_step_promotes_nothing(folder, empty_registry, monkeypatch, tmp_path):
    """A version that is no better must not become the champion because a call failed."""
    first = run_register(folder)
    worse = variant(folder, tmp_path, "worse", swapped)
    calls, fails_at = [], 0

    def breaking(name, original):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == fails_at:
                raise MlflowException("the server is away")
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for place in (mlflow.MlflowClient, mlflow.artifacts):
            for name in [name for name in vars(place) if not name.startswith("_") and callable(getattr(place, name))]:
                patch.setattr(place, name, breaking(name, getattr(place, name)))
        failed = 0
        for fails_at in range(1, 1000):
            calls.clear()
            try:
                verdict = run_register(folder, worse)
            except FatescopeError:
                failed += 1
            champion = mlflow.MlflowClient().get_model_version_by_alias("fatescope-binary", "champion")
            assert (str(champion.version), first["champion"]) == ("1", True), calls[fails_at - 1]
            if len(calls) - 1 < fails_at:
                break
    assert failed > 15
    assert not verdict["champion"]
    assert not verdict["criteria"]["better"]["holds"]
    # Attempts that were interrupted may have left versions, of which no alias knows.
    aliases = empty_registry.get_registered_model("fatescope-binary").aliases
    assert {alias: str(number) for alias, number in aliases.items()} == {
        "champion": "1",
        "challenger": verdict["version"],
    }


def test_in_an_experiment_no_alias_moves_and_a_person_promotes_what_passed(
    folder, empty_registry, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        patch.setenv("DVC_EXP_NAME", "kempt-flux")
        first = run_register(folder, variant(folder, tmp_path, "first", always(0)))
        assert (first["champion"], first["compared"]) == (False, "no champion yet")
        assert "passed, but not promoted" in (folder / "reports/binary/registered/card.md").read_text()
        second = run_register(folder)
        assert (second["version"], second["champion"]) == ("2", False)
        assert not empty_registry.get_registered_model("fatescope-binary").aliases
        assert [summary.verdict for summary in versions.history("binary")] == ["passed", "passed"]
    promotion = promote.promote("binary", None, None, "Ada")
    assert (promotion["version"], promotion["replaced"], promotion["failed"]) == ("2", None, [])
    assert promotion["promoted"]["why"] == promote.PASSED
    assert str(empty_registry.get_model_version_by_alias("fatescope-binary", "champion").version) == "2"
    # What was decided before there was this champion says nothing of it.
    with pytest.raises(DataError, match="compared with no version, and the champion is 2 now; --reason overrules it"):
        promote.promote("binary", "1", None, "Ada")
    worse = run_register(folder, variant(folder, tmp_path, "worse", swapped))
    assert worse["against"] == "2"
    with pytest.raises(DataError, match="the gate refused it: better"):
        promote.promote("binary", None, None, "Ada")
    assert promote.promote("binary", "1", "to compare", "Ada")["replaced"] == "2"


def test_a_champion_that_is_damaged_is_replaced_by_signature_alone(folder, empty_registry, tmp_path):
    run_register(folder, variant(folder, tmp_path, "first", always(0)))
    place = Path(empty_registry.get_model_version_download_uri("fatescope-binary", "1"))
    (place / "artifacts/bundle" / bundle.SPEC).write_text("{")
    verdict = run_register(folder)
    assert (verdict["champion"], verdict["against"]) == (False, "1")
    assert "version 1, the champion, cannot be compared with" in verdict["criteria"]["comparable"]["detail"]
    assert "with criteria: [comparable], under gate.signed_off" in verdict["criteria"]["comparable"]["detail"]


@pytest.mark.parametrize("damage", ["lost", "changed"])
def test_lost_files_of_a_version_are_put_back(folder, empty_registry, tmp_path, damage, monkeypatch):
    verdict = run_register(folder)
    empty_registry.set_model_version_tag("fatescope-binary", "1", "rolled_back", "by a person")
    before = empty_registry.get_model_version("fatescope-binary", "1")
    place = Path(empty_registry.get_model_version_download_uri("fatescope-binary", "1"))
    whole = {path.relative_to(place) for path in place.rglob("*") if path.is_file()}
    if damage == "lost":
        shutil.rmtree(tmp_path / "mlruns")
    else:
        (place / "artifacts/bundle" / bundle.SPEC).write_text("{")
    models = len(registered_models(before, empty_registry))
    upload = mlflow.MlflowClient.log_model_artifacts
    with monkeypatch.context() as patch:
        patch.setattr(
            mlflow.MlflowClient,
            "log_model_artifacts",
            lambda *arguments: fail() if before.source.endswith(arguments[1]) else upload(*arguments),
        )
        with pytest.raises(FatescopeError, match="away"):
            run_register(folder)
    assert len(registered_models(before, empty_registry)) == models, "what was made in between is deleted"
    assert versions.find_damage("binary", "1")
    assert run_register(folder) == verdict
    assert versions.find_damage("binary", "1") is None
    assert {path.relative_to(place) for path in place.rglob("*") if path.is_file()} == whole
    assert len(empty_registry.search_model_versions("name = 'fatescope-binary'")) == 1
    after = empty_registry.get_model_version("fatescope-binary", "1")
    assert (after.tags, after.source, after.aliases) == (before.tags, before.source, before.aliases)
    # MLflow loads it too, and the card is the one that names the version.
    model = mlflow.pyfunc.load_model("models:/fatescope-binary/1")
    loaded = bundle.load(folder / "artifacts/binary/bundle", threads=1)
    assert len(model.predict({"pixels": loaded.example[:2]})) == 2
    assert "# fatescope-binary, version 1" in (place / "artifacts/bundle/card.md").read_text()


def test_an_experiment_that_was_deleted_is_restored(folder, empty_registry, caplog):
    run_register(folder)
    experiment = empty_registry.get_experiment_by_name("fatescope-binary").experiment_id
    empty_registry.delete_experiment(experiment)
    with tracking.resumed("binary", "another") as tracked, tracking.nested("binary", "t", tracked.run_id, {}) as trial:
        pass
    assert {empty_registry.get_run(run.run_id).info.experiment_id for run in (tracked, trial)} == {experiment}
    assert "the experiment fatescope-binary had been deleted in MLflow; it is restored" in caplog.text


def test_runs_are_tracked_without_git_and_keep_classes_apart(empty_registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with tracking.resumed("binary", "a run") as tracked:
        tracked.log_metrics({"recall": {"CD4+": 0.9, "CD4-": 0.8, "CD4_": 0.7, "a//b": 0.6, "+" * 300: 0.5}})
    run = empty_registry.get_run(tracked.run_id)
    assert sorted(run.data.metrics.values()) == [0.5, 0.6, 0.7, 0.8, 0.9]
    named = {metric_name(key): value for key, value in run.data.metrics.items()}
    assert [named[f"recall.{name}"] for name in ("CD4+", "CD4-", "CD4_", "a//b")] == [0.9, 0.8, 0.7, 0.6]
    assert run.data.tags[tracking.COMMIT] == ""


def test_servers_of_mlflow(folder, tmp_path, monkeypatch):
    """A real tracking server takes the version, and `mlflow models serve` answers with it."""
    monkeypatch.chdir(tmp_path)
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "store"),
    ]  # fmt: skip
    with ended(command, tmp_path, environment), monkeypatch.context() as patch:
        ready(f"http://127.0.0.1:{port}/health")
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        mlflow.set_tracking_uri(None)
        assert run_register(folder)["champion"]
        assert run_register(folder)["version"] == "1"
        assert len(mlflow.MlflowClient().search_model_versions("name = 'fatescope-binary'")) == 1
        model = bundle.load(folder / "artifacts/binary/bundle", threads=1)
        serving = free_port()
        answer = [
            sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/fatescope-binary@champion",
            "--env-manager", "local", "--host", "127.0.0.1", "--port", str(serving),
        ]  # fmt: skip
        with ended(answer, tmp_path, environment | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}):
            ready(f"http://127.0.0.1:{serving}/ping")
            body = {"inputs": {"pixels": model.example[:2].tolist()}}
            url = f"http://127.0.0.1:{serving}/invocations"
            reply = httpx.post(url, json=body, timeout=180).raise_for_status().json()
    mlflow.set_tracking_uri(None)
    probabilities = model.predict(model.example[:2]).probabilities
    for row, expected in zip(reply["predictions"], probabilities, strict=True):
        assert [row[f"p_{name}"] for name in model.spec.classes] == pytest.approx(expected.tolist(), abs=1e-4)
