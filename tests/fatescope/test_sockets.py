"""Sockets are made where their paths fit."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from fatescope import sockets


@pytest.fixture
def tmpdir_of(monkeypatch, tmp_path):
    """Set TMPDIR to a folder whose path has so many characters."""

    def set_length(length):
        folder = tmp_path / ("t" * (length - len(str(tmp_path)) - 1))
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert len(tempfile.gettempdir()) == length
        return folder

    return set_length


def bentoml_socket():
    """Listen as BentoML does, and return whether its path is one that it takes."""
    folder = Path(tempfile.mkdtemp(prefix="bentoml-uds-"))
    path = folder / "140123456789012.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    path.unlink()
    folder.rmdir()
    return len(str(path)) < 103


def test_a_long_folder_is_replaced_by_a_short_one(tmpdir_of):
    tmpdir_of(150)
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        bentoml_socket()
    sockets.shorten_tmpdir()
    assert os.environ["TMPDIR"] == tempfile.gettempdir() == "/tmp"
    assert bentoml_socket()


def test_a_folder_that_fits_stays(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "t" * 55)
    before = os.environ.get("TMPDIR")
    sockets.shorten_tmpdir()
    assert (os.environ.get("TMPDIR"), len(tempfile.gettempdir())) == (before, 60)


def test_without_a_short_folder_nothing_changes(tmpdir_of, monkeypatch):
    monkeypatch.setattr(sockets, "SHORT", (Path("/absent"),))
    folder = tmpdir_of(150)
    sockets.shorten_tmpdir()
    assert tempfile.gettempdir() == str(folder)
