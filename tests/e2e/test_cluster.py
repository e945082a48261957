"""Scoring on a real Ray cluster of two nodes, one of which is killed in the middle."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from service import scoring
from service.champions import Champion
from tests.conftest import ROOT, tiff
from tests.service.conftest import EXACT, typical, write_bundle
from tests.serving import free_port

pytestmark = pytest.mark.slow
FILES, DISTINCT, PART = 8_000, 40, 100
RAY = str(Path(sys.executable).with_name("ray"))
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **EXACT}


def write_cells(folder):
    """Write FILES cells in as many files; most are links to a few."""
    folder.mkdir()
    for i in range(FILES):
        path = folder / f"a_1d1_{i}_Ch1.ome.tif"
        if i < DISTINCT:
            path.write_bytes(tiff(typical(i)))
        else:
            os.link(folder / f"a_1d1_{i % DISTINCT}_Ch1.ome.tif", path)
    (folder / "a_1d1_8000_Ch1.ome.tif").write_bytes(b"no image")
    return folder


@pytest.fixture
def cluster(tmp_path):
    """Two nodes of one core each; yields the address and the process of the second."""
    port, place = free_port(), Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets have 107 bytes for names
    nodes = []

    def start(*told):
        quiet = [
            "--node-ip-address",
            "127.0.0.1",
            "--num-cpus",
            "1",
            "--object-store-memory",
            "80000000",
            "--disable-usage-stats",
            "--block",
        ]
        with (tmp_path / f"node{len(nodes)}.log").open("w") as log:
            command = [RAY, "start", *quiet, *told]
            nodes.append(subprocess.Popen(command, env=os.environ | QUIET, stdout=log, stderr=log))
        reached(f"127.0.0.1:{port}", len(nodes))

    try:
        start("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(place))
        start("--address", f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}", nodes[1]
    finally:
        for each in nodes:
            kill(each)
        shutil.rmtree(place, ignore_errors=True)


def kill(node):
    """Kill a node and all that it has started, with nothing told to anyone."""
    for each in [*psutil.Process(node.pid).children(recursive=True), node] if node.poll() is None else []:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    node.wait(20)


def reached(address, nodes, timeout_s=60):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        said = subprocess.run([RAY, "status", "--address", address], capture_output=True, text=True, check=False)
        if f"/{nodes}.0 CPU" in said.stdout:
            return
        time.sleep(0.5)
    raise AssertionError(f"no cluster of {nodes} nodes in {timeout_s} s: {said.stdout}{said.stderr}")


def working(node):
    """Return the processes of a node that score."""
    found = []
    for each in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [each] if "MapBatches(Actor)" in " ".join(each.cmdline()) else []
    return found


def test_a_node_that_dies_costs_no_cell_and_doubles_none(cluster, tmp_path, monkeypatch):
    address, second = cluster
    write_bundle(tmp_path / "bundle", "binary", ["a", "b"])
    source, out = write_cells(tmp_path / "cells"), tmp_path / "out"
    monkeypatch.setattr(scoring, "PART_FILES", PART)
    planned = scoring.plan(source, out, Champion("binary", "bundle", tmp_path / "bundle"))
    assert planned.parts == FILES // PART + 1
    command = [sys.executable, "-m", "service.score", str(source), str(out), "--model", str(tmp_path / "bundle")]
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen([*command, "--ray", address], env=os.environ | QUIET, stdout=log, stderr=log)
    end = time.monotonic() + 120
    while not working(second) or len(scoring.undone(out, planned.parts)) > planned.parts - 4:
        assert driver.poll() is None, (tmp_path / "driver.log").read_text()
        assert time.monotonic() < end, "the second node got nothing to do"
        time.sleep(0.05)
    left = len(scoring.undone(out, planned.parts))
    kill(second)
    assert left > 10, "it was killed in the middle"
    assert driver.wait(120) == 0, (tmp_path / "driver.log").read_text()

    cells = pd.read_parquet(out / "cells")
    assert len(cells) == FILES
    assert cells["file"].is_unique
    refused = pd.read_parquet(out / "refused")
    assert refused["file"].tolist() == ["a_1d1_8000_Ch1.ome.tif"]
    assert refused["code"].tolist() == ["not_an_image"]
    # The same as without Ray.
    alone = tmp_path / "alone"
    monkeypatch.setenv("FATESCOPE_ENGINE", "onnxruntime")
    monkeypatch.setenv("FATESCOPE_THREADS", "1")
    scoring.plan(source, alone, Champion("binary", "bundle", tmp_path / "bundle"))
    scoring.Scorer(alone, 1).score(7)
    pd.testing.assert_frame_equal(
        pd.read_parquet(alone / "cells/0000007.parquet"), pd.read_parquet(out / "cells/0000007.parquet")
    )
