"""The command as a whole: its help, its start, how it fails."""

import hashlib
import importlib
import json
import shlex
import subprocess
import sys
import tomllib

import pytest
import typer

from fatescope.cli import doctor, pipeline
from fatescope.cli.app import EXTRAS, app
from tests.support.project import ROOT

HEAVY = {"numpy", "pandas", "pydantic", "torch", "mlflow", "optuna", "bentoml", "dvc", "onnxruntime", "rich", "ruamel"}


def walk(command, path=()):
    """Yield path and command of a command and all below it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))


def examples(command):
    """Return the command lines of the examples of a command's help."""
    return [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("fatescope ")]


def test_the_commands_are_those_of_the_documentation():
    assert {" ".join(path) for path in COMMANDS if path} == {
        "audit", "audit-log", "audit-log head", "audit-log show", "audit-log verify", "bench", "bento", "cultures",
        "data", "data expire", "data fetch", "data forget", "data import", "data presets", "data simulate",
        "demo", "describe", "doctor", "held-out", "keys", "keys list", "keys new", "keys revoke", "labels",
        "labels draw", "labels read", "labels sheet", "labels status", "language", "language data", "language evaluate",
        "language tiny", "language train", "models", "models add", "models compare",
        "models history", "models list", "models promote", "models protocol", "models pull", "models repair",
        "models rollback", "models sign", "models verify", "repro", "score", "serve", "tune", "watch",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "fatescope")
def test_every_command_has_help_with_an_example(fatescope, path):
    result = fatescope(*path, "--help")
    assert (result.code, result.errors) == (0, "")
    assert "Examples:\n" in result.output
    assert examples(COMMANDS[path])[0] in result.output
    for parameter in COMMANDS[path].params:
        assert parameter.help, f"{path}: {parameter.name}"


@pytest.mark.parametrize("line", [line for command in COMMANDS.values() for line in examples(command)])
def test_examples_can_be_parsed(line):
    words, command = shlex.split(line)[1:], COMMANDS[()]
    while getattr(command, "commands", {}) and words:
        command = command.commands[words.pop(0)]
    command.make_context("fatescope", words)


@pytest.mark.parametrize("group", [(), ("data",), ("models",), ("keys",)])
def test_a_group_alone_prints_its_help(fatescope, group):
    result = fatescope(*group)
    assert result.code == 0
    assert "Commands:\n" in result.output


def test_help_imports_no_library():
    code = "import sys; import fatescope.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_version(fatescope):
    result = fatescope("--version")
    assert result.code == 0
    assert result.output[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["models", "list"], 1, "no registry: MLFLOW_TRACKING_URI is not set"),
        (["repro"], 1, "params.yaml: not in this folder; run from the folder of the project"),
        (["bench", "nothing"], 1, "no benchmark 'nothing'; there are accuracy, calibration, channels, drift"),
        (["data", "presets", "nothing"], 1, "preset 'nothing' does not exist"),
        (["score"], 2, "Missing argument 'SRC'; see fatescope score --help"),
        (["score", "--model"], 2, "Option '--model' requires an argument"),
        (["nothing"], 2, "No such command 'nothing'; see fatescope --help"),
        (["models", "rollback", "binary"], 2, "Missing option"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(fatescope, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = fatescope(*arguments)
    assert (result.code, result.output) == (code, "")
    assert result.errors.startswith("error: ")
    assert message in result.errors
    assert len(result.errors.splitlines()) == 1
    assert not any(tmp_path.iterdir()), "nothing is made by a command that fails"


def test_a_key_and_its_hash(fatescope):

    made = json.loads(fatescope("keys", "new", "--json").output)
    assert made["hash"] == hashlib.sha256(made["key"].encode()).hexdigest()
    assert f"{made['variable']}=" in fatescope("keys", "new").output


def test_benchmarks_that_are_listed_exist(fatescope):
    listed = {line.split()[0] for line in fatescope("bench").output.splitlines()}
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "run(main)" in path.read_text()}
    assert listed == programs - {"load"}


@pytest.mark.parametrize(
    ("name", "options"),
    [("accuracy", []), ("calibration", []), ("gpu", ["--small"]), ("native", ["--peer-python", "a/python"])],
)
def test_a_benchmark_takes_the_options_that_it_is_given(fatescope, monkeypatch, name, options):
    given = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pipeline.processes, "foreground", lambda command: given.extend(command) or 0)
    assert fatescope("bench", name, *options).code == 0
    parser = typer.Typer()
    parser.command()(importlib.import_module(f"benchmarks.{name}").main)
    assert given[:3] == [sys.executable, "-m", f"benchmarks.{name}"]
    assert given[len(given) - len(options) :] == options
    # Parses without running; raises where an argument is unknown.
    assert typer.main.get_command(parser).make_context(name, given[3:]).params


def test_a_missing_library_is_named_with_the_extra_that_has_it(fatescope, monkeypatch):
    def lack(name):
        def diagnose(_):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        monkeypatch.setattr(doctor, "diagnose", diagnose)

    lack("mlflow")
    result = fatescope("doctor")
    assert (result.code, result.errors) == (1, "error: mlflow is not installed; pip install -e '.[pipelines]'\n")
    # A module of our own that is not there is a mistake in the code, and must show itself as one.
    lack("pipelines.nothing")
    with pytest.raises(ModuleNotFoundError):
        fatescope("doctor")


def test_extras_have_the_libraries_that_are_looked_for_in_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    other = {"sklearn": "scikit-learn"}
    for library, extra in EXTRAS.items():
        names = {line.partition("[")[0].partition(">")[0].strip().replace("-", "_") for line in extras[extra]}
        assert other.get(library, library).replace("-", "_") in names, library
