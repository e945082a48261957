"""A version whose download takes long, or fails, holds up no other."""

import json
import threading
from pathlib import Path

import pytest

from service.registry import downloads, model_store, registry_queries, registry_sync
from service.registry.downloads import Downloads
from service.settings import ServiceSettings
from tests.support.bundles import copy_bundle
from tests.support.waiting import until

SLOW, LOST = ("binary", "2"), ("multiclass", "8")


@pytest.fixture
def artifacts(monkeypatch):
    """A store of artifacts where one version takes until `go` is set, and another is lost."""
    go, fetched = threading.Event(), []

    def fetch(task, version, folder):
        fetched.append((task, version))
        if (task, version) == LOST:
            raise FileNotFoundError("no such file")
        if (task, version) == SLOW:
            assert go.wait(60)
        copy_bundle(Path(folder) / "bundle", task, seed=int(version))
        return Path(folder) / "bundle"

    monkeypatch.setattr(registry_queries, "fetch", fetch)
    yield go, fetched
    go.set()


def listed(store):
    return {task: champion.version for task, champion in model_store.read_champions(store).items()}


def test_a_slow_and_a_lost_version_delay_no_other_task(artifacts, tmp_path):
    go, fetched = artifacts
    fetching = Downloads(tmp_path)
    assert downloads.download(fetching, {"binary": "1", "multiclass": "1"}) == {}
    fetching.want({"binary": "2", "multiclass": "2"})
    until(lambda: listed(tmp_path) == {"binary": "1", "multiclass": "2"})
    fetching.want({"binary": "2", "multiclass": "8"})
    until(fetching.problems)
    assert fetching.problems() == ["fatescope-multiclass version 8 cannot be downloaded: no such file"]
    fetching.want({"binary": "2", "multiclass": "3"})
    until(lambda: listed(tmp_path) == {"binary": "1", "multiclass": "3"})
    assert fetching.problems() == []
    assert fetched.count(SLOW) == 1, "what is being downloaded is not downloaded once more"
    go.set()
    fetching.wait()
    assert listed(tmp_path) == {"binary": "2", "multiclass": "3"}


def test_a_version_that_came_too_late_does_not_take_over(artifacts, tmp_path):
    go, _ = artifacts
    fetching = Downloads(tmp_path)
    downloads.download(fetching, {"binary": "1"})
    fetching.want({"binary": "2"})
    fetching.want({"binary": "3"})
    until(lambda: listed(tmp_path) == {"binary": "3"})
    go.set()
    fetching.wait()
    assert listed(tmp_path) == {"binary": "3"}
    assert {path.name for path in (tmp_path / "binary").iterdir()} == {"1", "3"}


def test_a_download_that_does_not_end_is_reported(artifacts, tmp_path, monkeypatch):
    assert artifacts
    monkeypatch.setattr(downloads, "SLOW_S", -1.0)
    fetching = Downloads(tmp_path)
    fetching.want({"binary": "2"})
    [problem] = fetching.problems()
    assert problem.startswith("fatescope-binary version 2 has been downloaded for more than")


def test_queries_go_on_while_a_version_is_downloaded(artifacts, tmp_path, monkeypatch, capsys):
    """The follower says what is wrong, and another task gets its version, while the slow one is on its way."""
    assert artifacts
    fetching, said = Downloads(tmp_path), []
    downloads.download(fetching, {"binary": "1", "multiclass": "1"})

    class EndError(Exception):
        pass

    def followed(*_):
        said.extend(json.loads(line) for line in capsys.readouterr().out.splitlines())
        if listed(tmp_path) == {"binary": "1", "multiclass": "2"} or len(said) > 1000:
            raise EndError
        is_lost = not any("error" in line for line in said)
        return {"binary": "2", "multiclass": "8" if is_lost else "2"}

    monkeypatch.setattr(registry_queries, "followed_versions", followed)
    monkeypatch.setattr(registry_sync, "_end_with_parent", lambda: None)
    with pytest.raises(EndError):
        registry_sync._follow(fetching, None, {"binary": "1", "multiclass": "1"}, ServiceSettings(poll_s=0.01))
    assert said[0] == {"serving": {"binary": "2", "multiclass": "8"}}
    [error] = {line["error"] for line in said if "error" in line}
    assert error == "fatescope-multiclass version 8 cannot be downloaded: no such file"
    assert listed(tmp_path)["multiclass"] == "2"
