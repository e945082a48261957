import json
import os
import subprocess
import sys
import time

import pytest

from fatescope.errors import BundleError
from fatescope.inference import bundle
from service.registry import downloads, model_store, registry_queries
from service.registry.downloads import Downloads
from tests.support.bundles import CLASSES, copy_bundle
from tests.support.project import ROOT


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(BundleError, match="no bundle folder in it; run `fatescope repro`"):
        model_store.list_champions(tmp_path)


def test_a_folder_of_bundles_needs_no_registry(tmp_path):
    copy_bundle(tmp_path / "multiclass", "multiclass")
    copy_bundle(tmp_path / "binary", "binary")
    champions = model_store.list_champions(tmp_path)
    assert list(champions) == ["multiclass", "binary"], "the default task comes first"
    assert model_store.read_spec(champions["binary"]).classes == CLASSES[:2]
    assert model_store.locate(tmp_path, "binary", champions["binary"].version) == tmp_path / "binary"
    with pytest.raises(BundleError, match="version 7 of fatescope-binary is not here"):
        model_store.locate(tmp_path, "binary", "7")
    (tmp_path / "binary").rename(tmp_path / "other")
    with pytest.raises(BundleError, match="a bundle of task 'binary'; name the folder after its task"):
        model_store.read_spec(model_store.list_champions(tmp_path)["other"])


def test_a_bundle_that_was_changed_is_not_served(tmp_path):
    copy_bundle(tmp_path / "binary", "binary")
    (tmp_path / "binary" / bundle.OUTLIERS).write_bytes(b"")
    with pytest.raises(BundleError, match=r"fatescope-binary version .* is not served: .*was changed or damaged"):
        model_store.read_spec(model_store.list_champions(tmp_path)["binary"])


def follow(folder, environment=None):
    return subprocess.Popen(
        [sys.executable, "-m", "service.registry.registry_sync", str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_an_invalid_setting_is_the_reply_of_the_program(tmp_path):
    follower = follow(tmp_path / "pinned", {"FATESCOPE_PIN": "binary"})
    out, _ = follower.communicate("", timeout=180)
    example = "write for example binary=3,multiclass=champion"
    assert json.loads(out) == {"error": f"FATESCOPE_PIN=binary: 'binary' is not TASK=VERSION; {example}"}


@pytest.mark.slow
def test_the_champions_of_a_registry_are_followed(registry, tmp_path):
    first, folder = registry(0), tmp_path / "followed"
    follower = follow(folder, {"FATESCOPE_POLL_S": "0.2"})
    try:
        assert json.loads(follower.stdout.readline()) == {"serving": {"binary": first}}
        champion = model_store.list_champions(folder)["binary"]
        assert model_store.read_spec(champion).classes == CLASSES[:2]
        second = registry(1)
        end = time.monotonic() + 120
        while model_store.list_champions(folder)["binary"].version != second:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert model_store.read_spec(model_store.list_champions(folder)["binary"])
        assert model_store.locate(folder, "binary", first).is_dir(), "it may still answer requests"
        follower.stdin.close()
        assert follower.wait(60) == 0, "it ends with the process that started it"
    finally:
        follower.kill()
        follower.stdout.close()


@pytest.mark.slow
def test_the_champion_of_a_moved_project_is_fetched(registry, tmp_path, monkeypatch):
    version, moved = registry(0), tmp_path / "moved"
    moved.mkdir()
    for name in ("mlflow.db", "mlruns"):
        (tmp_path / name).rename(moved / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(moved)
    follower = follow(tmp_path / "followed")
    out, _ = follower.communicate("", timeout=180)
    assert json.loads(out) == {"serving": {"binary": version}}
    assert model_store.read_spec(model_store.list_champions(tmp_path / "followed")["binary"]).task == "binary"


@pytest.mark.slow
def test_versions_may_be_pinned(registry, tmp_path):
    first, second = registry(0), registry(1)
    for pins, version in ((None, second), ({"binary": first}, first), ({"binary": "champion"}, second)):
        versions = registry_queries.target_versions(pins)
        assert versions == {"binary": version}
        downloads.download(Downloads(tmp_path / "pinned"), versions)
        assert model_store.list_champions(tmp_path / "pinned")["binary"].version == version
    with pytest.raises(BundleError, match="99"):
        registry_queries.target_versions({"binary": "99"})
