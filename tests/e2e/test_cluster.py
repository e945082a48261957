"""Scoring on a real Ray cluster of two nodes, one of which is killed in the middle."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

from service.batch import job, plan, worker
from service.registry.model_store import Champion
from tests.support.bundles import EXACT, copy_bundle
from tests.support.images import tiff, typical
from tests.support.ray_cluster import QUIET, cluster, kill

pytestmark = [pytest.mark.slow, pytest.mark.long]
FILES, DISTINCT, PART = 8_000, 40, 100


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


def working(node):
    """Return the processes of a node that score."""
    found = []
    for each in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [each] if "MapBatches(Actor)" in " ".join(each.cmdline()) else []
    return found


@pytest.fixture
def two_nodes(tmp_path):
    with cluster(tmp_path, 1, 1) as (address, nodes):
        yield address, nodes[1]


def test_a_node_that_dies_costs_no_cell_and_doubles_none(two_nodes, tmp_path, monkeypatch):
    address, second = two_nodes
    copy_bundle(tmp_path / "bundle", "binary")
    source, out = write_cells(tmp_path / "cells"), tmp_path / "out"
    monkeypatch.setattr(plan, "PART_FILES", PART)
    planned = plan.create_plan(source, out, Champion("binary", "bundle", tmp_path / "bundle"))
    assert planned.parts == FILES // PART + 1
    command = [
        sys.executable,
        "-m",
        "fatescope.cli",
        "score",
        str(source),
        "--out",
        str(out),
        "--model",
        str(tmp_path / "bundle"),
    ]
    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen([*command, "--ray", address], env=os.environ | QUIET | EXACT, stdout=log, stderr=log)
    end = time.monotonic() + 360
    while not working(second) or len(job.pending_parts(out, planned.parts)) > planned.parts - 4:
        assert driver.poll() is None, (tmp_path / "driver.log").read_text()
        assert time.monotonic() < end, "the second node got nothing to do"
        time.sleep(0.05)
    left = len(job.pending_parts(out, planned.parts))
    kill(second)
    assert left > 10, "it was killed in the middle"
    assert driver.wait(360) == 0, (tmp_path / "driver.log").read_text()

    cells = pd.read_parquet(out / "cells")
    assert len(cells) == FILES
    assert cells["file"].is_unique
    refused = pd.read_parquet(out / "refused")
    assert refused["file"].tolist() == ["a_1d1_8000_Ch1.ome.tif"]
    assert refused["code"].tolist() == ["not_an_image"]
    # The same as without Ray.
    alone = tmp_path / "alone"
    plan.create_plan(source, alone, Champion("binary", "bundle", tmp_path / "bundle"))
    worker.Scorer(alone, "onnxruntime", 1).score(7)
    pd.testing.assert_frame_equal(
        pd.read_parquet(alone / "cells/0000007.parquet"), pd.read_parquet(out / "cells/0000007.parquet")
    )
