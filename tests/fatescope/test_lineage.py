"""What stages read and wrote, told to a file or a server by the standard settings of OpenLineage."""

import json
import sys
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Annotated

import pytest
import typer

from fatescope import command, lineage
from fatescope.command import OutFile, TaskName
from fatescope.errors import DataError

Read = Annotated[Path, typer.Option("--read")]


def main(task: TaskName, source: Read, target: OutFile) -> None:  # noqa: ARG001  part of the name of the job
    """Copy a file."""
    if not source.exists():
        raise DataError(f"{source}: no such file")
    target.write_bytes(source.read_bytes())


def stage(name="copy"):
    """Return `main` as if it were that of a stage which is run by `python -m`."""
    globals_ = main.__globals__ | {"__spec__": types.SimpleNamespace(name=f"pipelines.stages.{name}")}
    made = types.FunctionType(main.__code__, globals_, "main", main.__defaults__)
    made.__annotations__, made.__doc__ = main.__annotations__, main.__doc__
    return made


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the stage as a program in a folder of its own; return the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "read").write_text("some text")

    def run(source="read"):
        monkeypatch.setattr(sys, "argv", ["copy", "--task", "binary", "--read", source, "--out", "written"])
        with pytest.raises(SystemExit) as ended:
            command.run(stage())
        return ended.value.code or 0

    return run


@pytest.fixture
def to_file(monkeypatch):
    pytest.importorskip("openlineage.client")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", "events.jsonl")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("to_file")
def test_a_stage_tells_what_it_read_and_wrote(run, tmp_path):
    assert run() == 0
    began, ended = events(tmp_path)
    assert (began["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert began["run"]["runId"] == ended["run"]["runId"]
    assert ended["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json")
    assert ended["job"]["namespace"] == "fatescope"
    assert ended["job"]["name"] == "copy@binary"
    assert ended["job"]["facets"]["documentation"]["description"] == "Copy a file."
    [read], [written] = ended["inputs"], ended["outputs"]
    assert (read["namespace"], read["name"]) == ("file", str(tmp_path / "read"))
    assert written["name"] == str(tmp_path / "written")
    # A copy has the version of the original, by which the two are joined.
    assert read["facets"]["version"]["datasetVersion"] == written["facets"]["version"]["datasetVersion"]
    assert written["outputFacets"]["outputStatistics"]["size"] == len("some text")
    assert "outputFacets" not in began["outputs"][0] or began["outputs"][0]["outputFacets"] == {}


@pytest.mark.usefixtures("to_file")
def test_a_stage_that_fails_says_why(run, tmp_path, capsys):
    assert run("absent") == 1
    assert "error: absent: no such file" in capsys.readouterr().err
    _, ended = events(tmp_path)
    assert ended["eventType"] == "FAIL"
    assert ended["run"]["facets"]["errorMessage"]["message"] == "DataError: absent: no such file"


def test_it_is_off_where_nothing_says_where_to(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    monkeypatch.delitem(sys.modules, "fatescope.lineage.events", raising=False)
    assert run() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["read", "written"]
    # Set and not installed, it says so before the stage has done anything.
    (tmp_path / "written").unlink()
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    assert run() == 1
    assert not (tmp_path / "written").exists()
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert run() == 0


def test_a_program_that_is_no_stage_tells_nothing(monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    assert lineage.traced(main) is main


class Server(BaseHTTPRequestHandler):
    """Takes events."""

    def do_POST(self):
        self.server.taken.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_gets_the_events_and_one_that_is_away_fails_no_stage(run, tmp_path, monkeypatch, caplog):
    pytest.importorskip("openlineage.client")
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        server.taken = []
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
        assert run() == 0
        server.shutdown()
        thread.join()
    assert [(path, event["eventType"]) for path, event in server.taken] == [
        ("/api/v1/lineage", "START"),
        ("/api/v1/lineage", "COMPLETE"),
    ]
    (tmp_path / "written").unlink()
    (tmp_path / "openlineage.yml").write_text("transport: {type: http, url: 'http://127.0.0.1:1', retry: {total: 0}}\n")
    monkeypatch.delenv("OPENLINEAGE_URL")
    assert run() == 0
    assert (tmp_path / "written").exists()
    assert "lineage: the event COMPLETE of copy@binary was not taken" in caplog.text
