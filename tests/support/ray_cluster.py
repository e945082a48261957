"""A Ray cluster on this machine, of several nodes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.project import ROOT
from tests.support.servers import free_port

RAY = str(Path(sys.executable).with_name("ray"))
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def cluster(folder, *cores):
    """Start a node of so many cores each; yield the address and the nodes' processes, the head first."""
    port, place = free_port(), Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets have 107 bytes for names
    address, nodes = f"127.0.0.1:{port}", []
    told = ["--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--disable-usage-stats", "--block"]
    head = ["--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(place)]
    try:
        for count in cores:
            which = ["--address", address] if nodes else head
            with (folder / f"node{len(nodes)}.log").open("w") as log:
                command = [RAY, "start", "--num-cpus", str(count), *told, *which]
                nodes.append(
                    subprocess.Popen(
                        command, env=os.environ | QUIET | {"FATESCOPE_ENGINE": "onnxruntime"}, stdout=log, stderr=log
                    )
                )
            _reached(address, sum(cores[: len(nodes)]))
        yield address, nodes
    finally:
        for each in nodes:
            kill(each)
        shutil.rmtree(place, ignore_errors=True)


def kill(node):
    """Kill a node and all that it has started, with nothing told to anyone."""
    for each in [*psutil.Process(node.pid).children(recursive=True), node] if node.poll() is None else []:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    node.wait(60)


def _reached(address, cores, timeout_s=270):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        said = subprocess.run([RAY, "status", "--address", address], capture_output=True, text=True, check=False)
        if f"/{cores}.0 CPU" in said.stdout:
            return
        time.sleep(0.5)
    raise AssertionError(f"no cluster of {cores} cores in {timeout_s} s: {said.stdout}{said.stderr}")
