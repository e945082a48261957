"""The comparison with python-bioformats is left out without one, and holds pixels to ours with one."""

import json
import sys

import pytest

from benchmarks import native_peer
from tests.support import native

OBJECTS = native.draw_objects(3, (1, 5), size=(10, 12))
PEER = """#!{python}
import json, sys
import numpy as np
from fatescope.data.native.reader import NativeFile

path, kept, cases = sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
planes = dict()
with open(path, "rb") as raw:
    file = NativeFile(raw, path)
    for place in file.places():
        for case, (channels, masks, objects) in enumerate(cases):
            named = [file.acquisition.channels[i] for i in channels]
            read = file.read(place, named, 10_000, masks=masks)
            parts = [read.images + {off}, *([read.masks] if masks else [])]
            planes[f"{{case}}-{{place.index}}"] = np.concatenate(parts)
np.savez(kept, **planes)
print("a line of a log")
print(json.dumps(dict(took=[[30, 60]] * len(cases), opened=1.5, bioformats="7.0", java="17")))
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "run.cif").write_bytes(native.native(OBJECTS, xml=native.acquisition_xml((1, 5), (5,))))
    return tmp_path / "run.cif"


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """Write a stand-in for an interpreter that has python-bioformats, which reads values that are `off`."""
    monkeypatch.setattr(native_peer, "_read", lambda *_: (3.0, 2.0))

    def peer(off=0):
        program = tmp_path / "python"
        program.write_text(PEER.format(python=sys.executable, off=off))
        program.chmod(0o755)
        return program

    return peer


def test_without_an_interpreter_it_is_left_out(path, capsys):
    assert native_peer.figures(None, path, 3, 5) == []
    assert "--peer-python" in capsys.readouterr().out


def test_an_interpreter_without_it_is_said_to_lack_it(path, capsys):
    assert native_peer.figures(sys.executable, path, 3, 5) == []
    assert f"{sys.executable} cannot import it (No module named 'bioformats')" in capsys.readouterr().out


def test_each_case_is_compared(path, peer, capsys):
    figures = native_peer.figures(peer(), path, 3, 5)
    assert "the same pixels in 9 objects" in capsys.readouterr().out
    over = [figure for figure in figures if figure.bar]
    assert [figure.figure.partition(" over")[0] for figure in over] == [
        "one channel", "one channel and its mask", "2 channels and their masks",
    ]  # fmt: skip
    assert [(figure.value, figure.holds) for figure in over] == [(10, True)] * 3
    # As the report is.
    assert json.loads(json.dumps([figure.holds for figure in over])) == [True] * 3
    clock = [figure.value for figure in figures if "clock" in figure.figure]
    assert clock == [30] * 3


def test_other_pixels_are_an_error(path, peer):
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        native_peer.figures(peer(off=1), path, 3, 5)


def test_our_time_is_of_all_objects(path):
    thread, clock = native_peer._read(path, native_peer.Case("one channel", (5,), masks=True), 3)
    assert thread > 0
    assert clock > 0
    with pytest.raises(AssertionError):
        native_peer._read(path, native_peer.Case("one channel", (5,), masks=True), 4)
