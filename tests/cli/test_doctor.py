"""What the machine has and lacks."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from fatescope.cli import doctor, engine_checks, machine
from tests.support.project import ROOT


@pytest.mark.slow
def test_this_machine_has_all_that_is_required(fatescope, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = fatescope("doctor", "--json")
    content = json.loads(result.output)
    checks = {check["name"]: check for check in content["checks"]}
    assert (result.code, content["ok"]) == (0, True), checks
    assert checks["Python"]["detail"] == ".".join(map(str, sys.version_info[:3]))
    assert {name for name, check in checks.items() if check["required"]} == {
        "Python", "onnxruntime", "torch", "git", "dvc",
    }  # fmt: skip
    assert {"processor", "memory", "disk", "GPU", "openvino", "decoding", "port 3000", "port 5000", "port 9090"} <= set(
        checks
    )
    assert all(check["remedy"] for check in checks.values() if check["state"] == "missing")


@pytest.mark.slow
def test_what_is_missing_is_named_with_the_line_that_mends_it(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    # A Python without the programs beside it, and nothing on the path.
    environment = {"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys._base_executable, "-m", "fatescope.cli", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    place = next(i for i, words in enumerate(lines) if words[:2] == ["missing", "dvc"])
    assert " ".join(lines[place + 1]) == "→ pip install -e '.[pipelines]'"
    assert done.stdout.endswith("Something required is missing.\n")


def test_a_python_that_is_too_old_or_too_new_is_missing():
    minor = sys.version_info.minor
    assert doctor.check_python(f">=3.{minor},<3.{minor + 1}").state == "ok"
    for requires in (f">=3.{minor + 1},<3.{minor + 4}", f">=3.{minor - 2},<3.{minor}"):
        check = doctor.check_python(requires)
        assert (check.state, check.required) == ("missing", True)
        assert requires in check.detail
        assert check.remedy.startswith("make PYTHON=python3.")


def test_an_engine_that_cannot_run_here_is_missing():
    def probe(code):
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    crashed = doctor.engine_check("torch", probe("import os, signal; os.kill(os.getpid(), signal.SIGILL)"), True)
    assert (crashed.state, crashed.detail) == ("missing", f"cannot run here: {signal.SIGILL.name}")
    absent = doctor.engine_check("openvino", probe("import a_library_that_is_not_here"), False)
    assert absent.state == "missing"
    assert absent.detail == "ModuleNotFoundError: No module named 'a_library_that_is_not_here'"
    assert absent.remedy == "pip install -e '.[service]'"


def test_processes_that_decode_and_cannot_start_are_a_warning():
    def probe(code):
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    failing = """
import multiprocessing.context, runpy
def fail(_):
    raise BlockingIOError(11, "Resource temporarily unavailable")
multiprocessing.context.ForkServerProcess.start = multiprocessing.context.SpawnProcess.start = fail
runpy.run_module("fatescope.cli.probe_decoding", run_name="__main__")
"""
    check = engine_checks.decoding_check(probe(failing))
    assert (check.name, check.state) == ("decoding", "warning")
    assert "Resource temporarily unavailable" in check.detail
    assert engine_checks.check_decoding().state == "ok"


def test_a_port_in_use_is_a_warning():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not machine.port_is_free(server.getsockname()[1])
    assert machine.port_is_free(machine.free_port())


def test_gpus_are_those_that_the_driver_reports(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 570.86.15, 81559 MiB'\n")
    tool.chmod(0o755)
    assert machine.gpus() == [machine.GPU("NVIDIA H100 80GB HBM3", "570.86.15", "81559 MiB")]
    assert doctor.check_gpu().detail == "NVIDIA H100 80GB HBM3, 81559 MiB, driver 570.86.15"
    tool.write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert machine.gpus() == []
