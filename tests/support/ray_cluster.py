"""A Ray cluster on this machine, of several nodes, which takes work from nobody without its token."""

import os
import secrets
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
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | TOKEN


@contextmanager
def cluster(folder, *cores, environment=QUIET):
    """Start a node of so many cores each; yield the address and the nodes' processes, the head first."""
    environment = os.environ | environment | {"FATESCOPE_ENGINE": "onnxruntime"}
    port, place = free_port(), Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets have 107 bytes for names
    address, nodes = f"127.0.0.1:{port}", []
    told = ["--node-ip-address", "127.0.0.1", "--object-store-memory", "80000000", "--disable-usage-stats", "--block"]
    head = ["--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(place)]
    try:
        for count in cores:
            which = ["--address", address] if nodes else head
            with (folder / f"node{len(nodes)}.log").open("w") as log:
                command = [RAY, "start", "--num-cpus", str(count), *told, *which]
                nodes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            _reached(address, sum(cores[: len(nodes)]), environment)
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


def _reached(address, cores, environment, timeout_s=270):
    end, command = time.monotonic() + timeout_s, [RAY, "status", "--address", address]
    while time.monotonic() < end:
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if f"/{cores}.0 CPU" in said.stdout:
            return
        time.sleep(0.5)
    raise AssertionError(f"no cluster of {cores} cores in {timeout_s} s: {said.stdout}{said.stderr}")
