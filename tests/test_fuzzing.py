import subprocess
import sys

import pytest

from tests import fuzz
from tests.support import fuzzing
from tests.support.project import ROOT

DRAW = """
import hashlib, sys
for name in sys.argv[1:]:
    __import__(name)
from hypothesis import given, strategies as st
from tests.support import damage, fuzzing

drawn = hashlib.sha256()

@given(raw=damage.damaged(damage.kinds(damage.SMALL)), text=st.text(), number=st.integers())
@fuzzing.settings(100)
def draw(raw, text, number):
    drawn.update(repr((raw, text, number)).encode())

draw()
print(drawn.hexdigest())
"""
FAILING = """
import pathlib
import pytest
from hypothesis import given, strategies as st
from tests.support import fuzzing

fuzzing.CORPUS = pathlib.Path({corpus!r})

@pytest.mark.fuzz
@given(raw=st.binary())
@fuzzing.settings(200)
def test_reads(raw):
    with fuzzing.kept(raw, "images"):
        assert len(raw) < 3
"""


def test_each_run_draws_the_same_whatever_is_loaded_and_keeps_nothing():
    def draw(*modules):
        command = [sys.executable, "-c", DRAW, *modules]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert draw() == draw("fatescope.data.dataset", "service.api.schemas", "pipelines.ingestion.reader")
    assert fuzzing.settings(1).database is None
    assert fuzzing.settings(1).derandomize


def test_what_fails_is_added_to_the_corpus_at_its_smallest(tmp_path, monkeypatch):
    (tmp_path / "test_reads.py").write_text(FAILING.format(corpus=str(tmp_path / "corpus")))
    monkeypatch.setattr(fuzz, "DRAWING", (str(tmp_path / "test_reads.py"),))
    assert fuzz.run_round(7, None, ["-p", "no:cacheprovider"]) == fuzz.TESTS_FAILED
    assert [path.name for path in (tmp_path / "corpus/images").iterdir()] == ["seed-7"]
    assert (tmp_path / "corpus/images/seed-7").read_bytes() == b"\0\0\0"


@pytest.mark.parametrize(
    ("codes", "expected", "told"),
    [
        ([0, 0, None], 0, "2 whole rounds; nothing failed"),
        ([0, 1, None], 1, "2 whole rounds; failed for the seeds ["),
        ([4], 4, ""),
    ],
)
def test_each_round_has_a_seed_of_its_own_until_the_minutes_are_over(monkeypatch, capsys, codes, expected, told):
    seeds, clock = [], iter(range(0, 1000, 15))

    def run_round(seed, seconds, options):
        assert options == ["-x"]
        assert seconds == 60 - 15 * (len(seeds) + 1), "what is left of the minute"
        seeds.append(seed)
        return codes[len(seeds) - 1]

    monkeypatch.setattr(fuzz, "run_round", run_round)
    monkeypatch.setattr(fuzz.time, "monotonic", lambda: next(clock) if len(seeds) < len(codes) else 1000)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--minutes", "1", "-x"])
    assert fuzz.main() == expected
    output = capsys.readouterr().out
    assert told in output
    assert [line for line in output.splitlines() if line.startswith("seed ")] == [f"seed {seed}" for seed in seeds]
    assert len(set(seeds)) == len(codes)


def test_the_corpus_is_small():
    files = [*fuzzing.corpus("images"), *fuzzing.corpus("archives")]
    assert len(files) >= 50
    assert sum(path.stat().st_size for path in files) < 1_000_000
