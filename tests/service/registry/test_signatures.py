"""A version of the registry whose signature is missing, wrong or of somebody else never takes over."""

import asyncio
import hashlib
import json
import shutil
import threading

import mlflow
import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.signing import signature
from fatescope.signing.settings import SigningSettings
from fatescope.signing.signature import SIGNATURE, SignatureError
from service.batch import run
from service.inference import metrics
from service.inference.loaded_models import LoadedModels
from service.registry import downloads, model_store, registry_queries, registry_sync
from service.registry.downloads import Downloads
from service.settings import ServiceSettings
from tests.support.bundles import copy_bundle
from tests.support.images import tiff, typical
from tests.support.in_process import application, connected
from tests.support.teaching import write_taught
from tests.support.tracking import new_store

pytest.importorskip("model_signing")

NAME = "fatescope-binary"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The settings of an installation that has a key, and no other setting."""
    monkeypatch.delenv("FATESCOPE_SIGNATURES")
    monkeypatch.setenv("FATESCOPE_SIGNING_KEY", str(tmp_path / "secret" / "key.pem"))
    return SigningSettings.read()


@pytest.fixture
def registry(tmp_path, monkeypatch, own):
    """An MLflow registry; `registry(change)` adds a champion that is signed, and changed after that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    mlflow.set_tracking_uri(None)
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)

    def add(change=lambda _: None):
        number = 1 + len(client.search_model_versions(f"name = '{NAME}'"))
        folder = tmp_path / f"model{number}" / "artifacts" / "bundle"
        copy_bundle(folder, "binary", seed=number)
        signature.sign(folder, own)
        change(folder)
        version = client.create_model_version(NAME, str(tmp_path / f"model{number}")).version
        client.set_registered_model_alias(NAME, "champion", version)
        return folder

    yield add
    monkeypatch.undo()
    mlflow.set_tracking_uri(None)


def change_a_byte(folder):
    """Change the graph, and make the spec agree, as one who writes to the registry can."""
    graph = bytearray((folder / bundle.GRAPH).read_bytes())
    # A name in the graph, so that it runs as before.
    graph[20] ^= 1
    (folder / bundle.GRAPH).write_bytes(graph)
    content = json.loads((folder / bundle.SPEC).read_text())
    content["hashes"][bundle.GRAPH] = hashlib.sha256(graph).hexdigest()
    (folder / bundle.SPEC).write_text(json.dumps(content))
    bundle.open_spec(folder)


def sign_by_another(folder):
    signature.sign(folder, SigningSettings(signing_key=folder.parent / "other.pem"))


def strip(folder):
    (folder / SIGNATURE).unlink()


CHANGES = {change_a_byte: "model.onnx was changed", sign_by_another: "not trusted here", strip: "has no signature"}


def sync(store):
    return downloads.download(Downloads(store), registry_queries.target_versions(None))


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_served_goes_on_without_a_failed_request(registry, tmp_path, change, caplog):
    registry()
    store = tmp_path / "store"
    assert sync(store) == {}
    with application(tmp_path, store) as app, connected(app) as client:
        answers, stop = [], threading.Event()

        def post():
            while not stop.is_set():
                response = client.post("/classify", content=tiff(typical(0)))
                answers.append((response.status_code, response.json()["model"]["version"]))

        thread = threading.Thread(target=post)
        thread.start()
        folder = registry(change)
        for _ in range(2):
            assert sync(store)["binary"].version == "2"
            asyncio.run(app.state.service.models.check())
        stop.set()
        thread.join()
        assert set(answers) == {(200, "1")}
        assert metrics.SIGNATURE_REFUSED.labels("binary")._value.get() == 1
        [said] = [record.message for record in caplog.records if "version 2 is refused" in record.message]
        assert CHANGES[change] in said
        assert "version 1 stays in service" in said
        # A gateway that is started again in the meantime serves the same.
        assert model_store.read_champions(store)["binary"].version == "1"

        # It may be signed meanwhile, by a person who trusts it.
        if change is strip:
            signature.sign(folder, SigningSettings.read())
            assert sync(store) == {}
            asyncio.run(app.state.service.models.check())
            assert client.post("/classify", content=tiff(typical(0))).json()["model"]["version"] == "2"
            assert metrics.SIGNATURE_REFUSED.labels("binary")._value.get() == 0


@pytest.mark.parametrize("task", ["..", ".challengers", "champions.json", ""])
def test_a_signed_version_under_another_name_leaves_folders_beside_the_store_alone(registry, tmp_path, task):
    """Whoever writes to the registry may register what is signed again, under any name that MLflow takes."""
    registry()
    store, beside = tmp_path / "folders" / "store", tmp_path / "folders" / "beside"
    sync(store)
    beside.mkdir()
    client = mlflow.MlflowClient()
    client.create_registered_model(f"fatescope-{task}")
    for _ in range(2):
        version = client.create_model_version(f"fatescope-{task}", str(tmp_path / "model1")).version
        client.set_registered_model_alias(f"fatescope-{task}", "champion", version)
        sync(store)
    assert {path.name for path in store.parent.iterdir()} == {"store", "beside"}
    assert model_store.read_champions(store).keys() == {"binary"}


def test_a_signed_version_of_another_task_takes_no_part(registry, tmp_path):
    registry()
    store = tmp_path / "store"
    client = mlflow.MlflowClient()
    client.create_registered_model("fatescope-multiclass")
    version = client.create_model_version("fatescope-multiclass", str(tmp_path / "model1")).version
    client.set_registered_model_alias("fatescope-multiclass", "champion", version)
    sync(store)
    with pytest.raises(BundleError, match="a bundle of task 'binary'"):
        run.select_model("multiclass", None, ServiceSettings(bundles=store))
    assert run.select_model("binary", None, ServiceSettings(bundles=store)).version == "1"


def test_a_service_that_has_no_other_version_does_not_start(registry, tmp_path, capsys):
    registry(change_a_byte)
    with pytest.raises(registry_sync.typer.Exit):
        registry_sync.main(tmp_path / "store", once=True)
    answer = json.loads(capsys.readouterr().out)
    assert "fatescope-binary version 1 is not served" in answer["error"]
    assert "model.onnx was changed" in answer["error"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_bundle_that_is_changed_in_the_store_is_loaded_by_no_part(registry, tmp_path, change):
    registry()
    store = tmp_path / "store"
    sync(store)
    champion = model_store.list_champions(store)["binary"]
    change(champion.path)
    with pytest.raises(BundleError, match=CHANGES[change]):
        model_store.read_spec(champion)
    assert CHANGES[change] in LoadedModels(store, "onnxruntime", 1).prepare("binary", "1")["error"]
    with pytest.raises(SignatureError, match=CHANGES[change]):
        run.select_model("", None, ServiceSettings(bundles=store))


def test_a_folder_that_a_person_names_needs_no_signature_but_keeps_to_the_one_that_it_has(own, tmp_path, monkeypatch):
    folder = tmp_path / "bundles" / "binary"
    copy_bundle(folder, "binary")
    signature.sign(folder, own)
    served = ServiceSettings(bundles=folder.parent)
    for settings, model in ((served, None), (ServiceSettings(), folder)):
        assert run.select_model("", model, settings).task == "binary"
    shutil.copytree(folder, tmp_path / "kept")
    sign_by_another(folder)
    for settings, model in ((served, None), (ServiceSettings(), folder)):
        with pytest.raises(SignatureError, match="not trusted here"):
            run.select_model("", model, settings)
    strip(folder)
    assert model_store.read_spec(model_store.list_champions(folder.parent)["binary"]).task == "binary"
    assert run.select_model("", folder, ServiceSettings()).task == "binary"
    monkeypatch.setenv("FATESCOPE_SIGNATURES", "required")
    for settings, model in ((served, None), (ServiceSettings(), folder)):
        with pytest.raises(SignatureError, match="has no signature"):
            run.select_model("", model, settings)


def test_versions_of_before_are_served_with_a_warning_where_nobody_is_trusted(registry, tmp_path, monkeypatch, caplog):
    registry(strip)
    monkeypatch.setenv("FATESCOPE_SIGNING_KEY", str(tmp_path / "none.pem"))
    assert sync(tmp_path / "store") == {}
    assert "has no signature, so nothing says who made it" in caplog.text
    assert model_store.read_spec(model_store.list_champions(tmp_path / "store")["binary"]).task == "binary"


def test_settings_by_which_nothing_can_be_verified_refuse_what_is_new(registry, tmp_path, monkeypatch):
    registry()
    assert sync(tmp_path / "store") == {}
    registry()
    monkeypatch.setenv("FATESCOPE_TRUSTED_KEYS", str(tmp_path / "away"))
    assert "FATESCOPE_TRUSTED_KEYS" in sync(tmp_path / "store")["binary"].reason
    assert model_store.read_champions(tmp_path / "store")["binary"].version == "1"


def test_a_taught_bundle_is_served_from_a_folder_only_once_it_is_signed(tmp_path, own):
    folder = tmp_path / "bundles" / "nuclei"
    write_taught(folder)
    models = LoadedModels(tmp_path / "bundles", "onnxruntime", 1)
    champion = model_store.list_champions(tmp_path / "bundles")["nuclei"]
    refused = models.prepare("nuclei", champion.version)
    assert "nobody who is trusted here has signed it" in refused["error"]
    signature.sign(folder, own)
    assert models.prepare("nuclei", champion.version)["error"] is None
