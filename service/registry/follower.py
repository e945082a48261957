"""The follower: the process that keeps a folder of bundles in step with the registry, and what looks after it.

A thread of the process that starts the service reads what `service.registry.registry_sync` reports of each query, and
starts it again when it ends. What it knows is in `FOLDER/follower.json`, from which a gateway publishes the metrics of
the worker `registry`.
"""

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from fatescope.atomic import replacing
from fatescope.errors import BundleError
from service import background
from service.background import Worker

WORKER = "registry"
STATUS = "follower.json"
Process = subprocess.Popen[str]


@dataclass(frozen=True)
class Status:
    """How the follower fares."""

    interval_s: float
    last_success: float
    """Seconds since the epoch."""
    failures: int


def start(target: Path, poll_s: float) -> None:
    """Fetch the champions into `target`, and follow the registry until this process ends.

    Raises BundleError if the registry has no champion or cannot be read.
    """
    process = _spawn(target)
    assert process.stdout is not None
    reply = process.stdout.readline().strip()
    if not reply:
        raise BundleError("registry_sync ended before it had fetched the champions; its message is above")
    if error := json.loads(reply).get("error"):
        raise BundleError(error)
    worker = Worker(WORKER, poll_s, lambda worker, _: _write(target, worker))
    waiting = [process]

    def work() -> None:
        with waiting.pop() if waiting else _spawn(target) as follower:
            _listen(follower, worker)

    # Never set: the follower ends when this process does.
    background.start_thread(worker, work, threading.Event())


def status(store: Path) -> Status | None:
    """Return how the follower of `store` fares; None for a folder of bundles that does not come from a registry."""
    try:
        return Status(**json.loads((store / STATUS).read_text(encoding="utf-8")))
    except OSError:
        return None


def _spawn(target: Path) -> Process:
    command = [sys.executable, "-m", "service.registry.registry_sync", str(target)]
    # It ends when this process does, however that happens, because the pipe closes. In a session of its own, so that a
    # signal for the service does not end it before, to be started again.
    return subprocess.Popen(  # noqa: S603  our own
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _listen(follower: Process, worker: Worker) -> None:
    """Note what the follower reports of each query; raises BundleError when it ends."""
    assert follower.stdout is not None
    for line in follower.stdout:
        if error := json.loads(line).get("error"):
            worker.fail(BundleError(error))
        else:
            worker.succeed()
    raise BundleError(f"registry_sync, process {follower.pid}, ended")


def _write(target: Path, worker: Worker) -> None:
    known = Status(worker.interval_s, worker.last_success, worker.failures)
    with replacing(target / STATUS) as part:
        part.write_text(json.dumps(asdict(known)), encoding="utf-8")
