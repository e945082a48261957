import random
import re

import numpy as np
import pytest

from fatescope.data import images
from fatescope.errors import ImageError
from tests import guided_fuzz
from tests.support import damage, fuzzing
from tests.support.project import ROOT
from tests.support.targets import TARGETS, Target


def inputs(name):
    """Return the inputs that a target starts from: whole ones, those that failed, those that were reached."""
    reached = fuzzing.CORPUS / "reached" / name
    kept = [*fuzzing.corpus(TARGETS[name].kind), *sorted(reached.iterdir())]
    return [*TARGETS[name].whole.values(), *(path.read_bytes() for path in kept)]


def spoil(raw, rng):
    """Return bytes with a few changed, or cut short."""
    spoilt = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    return bytes(spoilt[: rng.randint(1, len(spoilt))] if rng.random() < 0.2 else spoilt)


@pytest.fixture
def findings(tmp_path):
    return guided_fuzz.Findings(tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_or_refuses_whatever_it_starts_from(name, findings, tmp_path):
    for raw in inputs(name):
        findings.check(TARGETS[name], raw)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_reads_or_refuses_damaged_bytes(name, findings, tmp_path):
    rng = random.Random(0)
    for raw in [b"", b"\0", *(spoil(raw, rng) for raw in TARGETS[name].whole.values() for _ in range(8))]:
        findings.check(TARGETS[name], raw)
    assert not list(tmp_path.iterdir())


def test_the_smallest_input_of_each_fault_is_kept(findings, tmp_path):
    def read(raw):
        if raw.startswith(b"a"):
            raise KeyError(raw)
        if raw.startswith(b"b"):
            raise ValueError(raw)

    for raw in (b"a long one", b"whole", b"bad", b"a", b"a longer one", b"worse"):
        findings.check(Target(read, "images", {}, 100), raw)
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"a", b"bad"]


@pytest.mark.parametrize("limit", ["time", "memory"])
def test_what_takes_too_long_or_too_much_memory_is_kept(findings, tmp_path, monkeypatch, capsys, limit):
    if limit == "time":
        monkeypatch.setattr(guided_fuzz, "MAX_SECONDS", -1)
    findings.check(Target(len, "images", {}, -1 if limit == "memory" else 100), b"abc")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"abc"]
    assert f": {limit}: " in capsys.readouterr().out


def test_damaged_chunks_of_a_png_get_checksums_that_hold():
    spoilt = bytearray(damage.kinds(damage.SMALL)["PNG"])
    spoilt[24] = 16  # bits
    with pytest.raises(ImageError, match="checksum"):
        images.decode(bytes(spoilt), "cell", 1000)
    repaired = guided_fuzz.repair(bytes(spoilt))
    assert len(repaired) == len(spoilt)
    with pytest.raises(ImageError, match="cannot be decoded") as refused:
        images.decode(repaired, "cell", 1000)
    assert "checksum" not in str(refused.value)


@pytest.mark.parametrize(
    "raw", [b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(20)]
)
def test_what_has_no_whole_chunk_stays_as_it_is(raw):
    assert guided_fuzz.repair(raw) == raw


def test_without_atheris_it_is_said_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(guided_fuzz, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.argv", ["guided_fuzz"])
    assert guided_fuzz.main() == guided_fuzz.NO_ATHERIS
    assert "pip install -c constraints.txt -e '.[fuzz]'" in capsys.readouterr().err


def test_all_targets_are_mutated():
    assert set(guided_fuzz.NAMES) == set(TARGETS)


@pytest.mark.slow
def test_inputs_are_mutated_where_there_is_atheris(monkeypatch, tmp_path, capfd):
    pytest.importorskip("atheris", reason="atheris is not installed: pip install -c constraints.txt -e '.[fuzz]'")
    monkeypatch.setattr(guided_fuzz, "CORPUS", tmp_path)
    monkeypatch.setattr(guided_fuzz, "REACHED", tmp_path / "reached")
    ours = np.ones(guided_fuzz.EXPLODES // 3 * 10**6, np.uint8)
    assert not guided_fuzz.run("analyses", 2, 1, keep=True)
    [peak_mb] = re.findall(r"stat::peak_rss_mb: +(\d+)", capfd.readouterr().err)
    assert int(peak_mb) < ours.nbytes / 10**6, "the memory of the tests is not that of the readers"
    reached = list((tmp_path / "reached" / "analyses").iterdir())
    assert reached
    assert all(path.stat().st_size <= guided_fuzz.MAX_BYTES for path in reached)


def test_what_was_reached_is_small():
    kept = [path for path in (ROOT / "tests/corpus/reached").rglob("*") if path.is_file()]
    assert {path.parent.name for path in kept} == set(TARGETS)
    assert all(path.stat().st_size <= guided_fuzz.MAX_BYTES for path in kept)
    assert sum(path.stat().st_size for path in kept) < 200_000
