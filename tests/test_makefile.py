"""The Makefile passes on what it is given, and sets what `fatescope` sets."""

import os
import shutil
import subprocess

import pytest

from fatescope.cli import app
from tests.support.project import ROOT

PROGRAM = """#!/bin/bash
printf '%s\\n' "$@"
"""


@pytest.fixture
def make(tmp_path):
    """Run make with a `fatescope` that prints its arguments, one a line; return them."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "fatescope"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(shutil.which("true"))
    for kind in ("repro", "serve", "ray", "bench", "test", "guided"):
        (tmp_path / f"{kind}.installed").touch()

    def make(*arguments, code=0):
        command = ["make", "--no-print-directory", "-s", f"VENV={tmp_path}", *arguments]
        environment = {name: value for name, value in os.environ.items() if name not in ("SRC", "OUT", "TASK", "MODEL")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment | {"HOME": "/home/o'hara"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout.splitlines()

    return make


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ('it\'s "an" export; echo', 'it\'s "an" export; echo'),
        ("~/an export", "/home/o'hara/an export"),
        ("a/~/b", "a/~/b"),
        ("-n", "-n"),
        ("*", "*"),
        ("`id`$$(id)", "`id`$(id)"),
    ],
)
def test_a_path_is_passed_on_as_it_is(make, given, path):
    assert make("adopt", f"SRC={given}") == ["data", "import", "--", path]
    assert make("score", f"SRC={given}", f"OUT={given}", f"MODEL={given}", "TASK=binary") == [
        "score", "--out", path, "--task", "binary", "--model", path, "--", path,
    ]  # fmt: skip


def test_what_is_not_given_is_not_passed_on(make):
    assert make("score", "SRC=a", "OUT=b") == ["score", "--out", "b", "--", "a"]
    assert make("bench-drift") == ["bench", "--", "drift"]
    assert make("bench-gpu", "SMALL=1") == ["bench", "--small", "--", "gpu"]
    assert make("bench-native", "OBJECTS=5000") == ["bench", "--objects", "5000", "--", "native"]
    assert make("bench-native", "PEER=~/peer/bin/python") == [
        "bench", "--peer-python", "/home/o'hara/peer/bin/python", "--", "native",
    ]  # fmt: skip
    assert make("adopt", code=2) == ["name the export: make adopt SRC=folder-or-zip"]
    assert make("compare", "TASK=binary", "A=1", code=2) == ["name all: make compare TASK=binary A=1 B=champion"]


@pytest.mark.parametrize(
    ("given", "run"),
    [
        ([], ["-m", "tests.fuzz"]),
        (["MINUTES=2", "SEED=7"], ["-m", "tests.fuzz", "--minutes", "2", "--seed", "7"]),
        (["GUIDED=1", "MINUTES=2"], ["-m", "tests.guided_fuzz", "--minutes", "2"]),
        (["GUIDED=1", "KEEP=1"], ["-m", "tests.guided_fuzz", "--keep"]),
    ],
)
def test_inputs_are_drawn_or_guided(make, tmp_path, given, run):
    (tmp_path / "bin" / "python").unlink()
    (tmp_path / "bin" / "python").write_text(PROGRAM)
    (tmp_path / "bin" / "python").chmod(0o755)
    assert make("fuzz", *given) == run


def test_a_reason_may_have_quotes(make):
    why = 'doesn\'t "work" (yet)'
    assert make("rollback", "TASK=binary", f"WHY={why}") == ["models", "rollback", "--reason", why, "--", "binary"]


def test_programs_have_the_same_environment_from_make_and_from_fatescope(make, tmp_path, monkeypatch):
    assert app.ENVIRONMENT["DVC_SITE_CACHE_DIR"] == ".dvc/tmp/site"
    (tmp_path / "bin" / "fatescope").write_text("#!/bin/bash\nenv\n")
    for name in app.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert {f"{name}={value}" for name, value in app.ENVIRONMENT.items()} <= set(make("data"))
    # What the user has set holds.
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/elsewhere")
    assert "DVC_SITE_CACHE_DIR=/elsewhere" in make("data")
