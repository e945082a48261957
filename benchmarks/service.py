"""A service to measure: its bundle, the processes that serve it, and the load on it.

The model is trained briefly on simulated cells, so that its predictions are not chance.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mlflow

from fatescope import config
from pipelines.commands import simulate
from pipelines.stages import ingest, split, train, tune
from tests.support.servers import ended

SEED = 0
TASK = "multiclass"
CELLS = 2_000
"""Cells that are simulated, and that one request to /classify_batch has."""
REPEATS = 5
CONNECTIONS = 64
ROOT = Path(__file__).parent.parent


NETWORKS: dict[str, list[int] | None] = {"compact": None, "resnet18": [60, 60]}
"""Backbone → the size of its input, None for that of `params.yaml`."""


def prepare(folder: Path, backbone: str = "resnet18") -> Path:
    """Simulate cells in `folder`, train on them for a few epochs, and return the bundle."""
    content = json.loads(config.load(ROOT / "params.yaml").model_dump_json(by_alias=True))
    content["simulate"]["cells"] = CELLS
    content["tune"]["trials"] = 0
    content["ensemble"]["members"] = 1
    content["train"] |= {
        "backbone": backbone,
        "input_size": NETWORKS[backbone] or content["train"]["input_size"],
        "epochs": 4,
        "batch_size": 128,
        "seeds": [SEED],
    }
    path, artifacts = folder / "params.yaml", folder / "artifacts"
    path.write_text(json.dumps(content))
    parts, best, models = artifacts / "splits.parquet", artifacts / "best.json", artifacts / TASK
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(None)
    simulate.simulate(config.load(path).simulate, folder / "data")
    ingest.main(path, folder / "data", artifacts / "cells")
    split.main(path, artifacts / "cells", parts)
    tune.main(path, TASK, artifacts / "cells", parts, artifacts / "study.journal", best, folder / "search")
    train.main(path, TASK, artifacts / "cells", parts, best, models)
    return models / "bundle"


def serve(
    folder: Path,
    bundle: Path,
    port: int,
    records: str | None = None,
    *,
    runner_process: bool = False,
    settings: dict[str, str] | None = None,
) -> AbstractContextManager[Any]:
    """Start our service with `bundle`; its prediction log is in `folder`, or where `records` says."""
    environment = {
        "FATESCOPE_BUNDLES": str(bundle.parent.parent / "served"),
        "FATESCOPE_RECORDS": records or str(folder / "records"),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        **({"FATESCOPE_RUNNER_PROCESS": "true"} if runner_process else {}),
        **(settings or {}),
    }
    served = bundle.parent.parent / "served" / TASK
    if not served.exists():
        served.parent.mkdir(exist_ok=True)
        served.symlink_to(bundle)
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "service.gateway:Fatescope"]
    return ended([*command, "--working-dir", str(ROOT), "--port", str(port)], folder, environment)


def load(
    folder: Path,
    port: int,
    request: bytes,
    seconds: float,
    count: int = 0,
    connections: int = CONNECTIONS,
    rate: float = 0,
) -> dict[str, Any]:
    """Load a server from a process of its own, and return what `benchmarks.load` prints, with `rate` and `failed`."""
    path = folder / "request"
    path.write_bytes(request)
    address = ["--url", f"http://127.0.0.1:{port}", "--connections", connections]
    limits = ["--seconds", seconds, "--requests", count, "--rate", rate]
    command = [sys.executable, "-m", "benchmarks.load", *address, *limits, path]
    completed = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(completed.stdout)
    succeeded = result["answers"].get("200", 0)
    result["rate"] = succeeded / result["seconds"]
    result["failed"] = sum(result["answers"].values()) - succeeded
    return result


@dataclass(frozen=True)
class Loaded:
    """What a server does with one image a request."""

    one: dict[str, Any]
    """Over one connection, as `load` returns it."""
    many: dict[str, Any]
    """Over CONNECTIONS."""


@dataclass(frozen=True)
class Effort:
    """How long servers are loaded."""

    seconds: float
    """Over CONNECTIONS; a third of it over one."""
    requests: int
    """Over which memory is measured; the first tenth warms up."""

    def load(self, folder: Path, port: int, sent: bytes) -> Loaded:
        """Load a server with one image a request, over one connection and over many."""
        one = load(folder, port, sent, self.seconds / 3, connections=1)
        return Loaded(one, load(folder, port, sent, self.seconds))


def form(path: str, part: str, raw: bytes) -> bytes:
    """Return a complete HTTP request that uploads a file in a form."""
    name = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a_1d1_3_Ch1.ome.tif"\r\n\r\n' % part.encode()
    return request(path, "multipart/form-data; boundary=b", name + raw + b"\r\n--b--\r\n")


def request(path: str, kind: str, body: bytes) -> bytes:
    """Return a complete HTTP request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def batches(port: int, raws: list[bytes]) -> float:
    """Return the median rate of /classify_batch in cells per second, with all cells in one zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, raw in enumerate(raws):
            archive.writestr(f"a_1d1_{number}_Ch1.ome.tif", raw)
    # curl, because the client must not take the cores of the server.
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cells.zip"
        path.write_bytes(buffer.getvalue())
        url = f"http://127.0.0.1:{port}/classify_batch"
        rates = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            command = ["curl", "--silent", "--fail", "-F", f"files=@{path}", url]
            completed = subprocess.run(command, capture_output=True, check=True)
            rates.append(len(raws) / (time.perf_counter() - start))
            assert json.loads(completed.stdout)["sample"]["cells"] == len(raws)
    return median(rates[1:])
