"""The follower enters aliases that were moved by hand into the audit log."""

import json
from types import SimpleNamespace

import mlflow
import pytest

from fatescope import alias_moves, audit_log
from fatescope.alias_moves import AliasWatch
from service.registry import registry_sync
from service.registry.downloads import Downloads
from service.settings import ServiceSettings


class Page(list):
    token = None


@pytest.fixture
def registry(monkeypatch):
    """What the registry has: alias → version of the model fatescope-binary; an error where it is away."""
    state = {"aliases": {"champion": "1"}, "error": None}

    class Client:
        def search_registered_models(self, filter_string, page_token):  # noqa: ARG002  as MLflow's
            if state["error"]:
                raise state["error"]
            model = SimpleNamespace(name="fatescope-binary", aliases=dict(state["aliases"]))
            return Page([model] if state["aliases"] else [])

        def get_model_version(self, name, version):  # noqa: ARG002  as MLflow's
            return SimpleNamespace(tags={}, creation_timestamp=0)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    monkeypatch.setattr(alias_moves, "SETTLING", alias_moves.SETTLING * 0)
    return state


def moves(folder):
    return [(entry.what, entry.subject["alias"], entry.subject["version"]) for entry in audit_log.read(folder)]


def test_moves_of_any_alias_are_entered_and_an_empty_or_absent_registry_is_none(registry, tmp_path, capsys):
    watch = AliasWatch(tmp_path)
    registry_sync._note_moves(watch)
    registry["aliases"] = {"champion": "2", "canary": "3"}
    registry_sync._note_moves(watch)
    expected = [
        ("alias first seen", "champion", "1"),
        ("alias moved", "canary", "3"),
        ("alias moved", "champion", "2"),
    ]
    assert moves(tmp_path) == expected
    registry["aliases"] = {}
    registry_sync._note_moves(watch)
    registry["error"] = ConnectionError("away")
    registry_sync._note_moves(watch)
    assert "away" in json.loads(capsys.readouterr().out)["error"]
    assert moves(tmp_path) == expected


@pytest.mark.usefixtures("registry")
def test_no_error_of_a_look_ends_the_follower(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("an entry without a time")

    monkeypatch.setattr(AliasWatch, "look", fail)
    registry_sync._note_moves(AliasWatch(tmp_path))
    assert "not noticed: ValueError: an entry without a time" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.usefixtures("registry")
def test_looks_are_often_enough_whatever_the_time_between_two_queries(tmp_path, monkeypatch):
    """A move is entered within 30 s: at most two looks after it, the first of which may come too early."""
    slept = []

    class EnoughError(Exception):
        pass

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) > 3:
            raise EnoughError

    monkeypatch.setattr(registry_sync, "_end_with_parent", lambda: None)
    monkeypatch.setattr(registry_sync.time, "sleep", sleep)
    settings = ServiceSettings(poll_s=3600, audit_log=tmp_path / "log")
    with pytest.raises(EnoughError):
        registry_sync._follow(Downloads(tmp_path / "store"), None, {}, settings)
    assert slept == [registry_sync.LOOK_S] * 4
    assert 2 * registry_sync.LOOK_S + alias_moves.SETTLING.total_seconds() <= 30
    assert moves(tmp_path / "log") == [("alias first seen", "champion", "1")]
