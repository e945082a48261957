"""Processes that a command starts and that end with it, however it ends."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from fatescope.backoff import Backoff
from fatescope.errors import FatescopeError

log = logging.getLogger(__name__)

Processes = dict[str, "subprocess.Popen[bytes]"]
PATIENCE_S = 20.0
"""How long a process may take to end before it is killed: the service finishes what it has accepted."""
STEADY_S = 30.0
"""A process that ends before has failed to start, for example because its port is taken; that does not pass."""
_POLL_S = 0.2


@contextmanager
def running(
    commands: Mapping[str, list[str]], environment: Mapping[str, str], folder: Path, log: Path | None = None
) -> Iterator[Processes]:
    """Start `commands` (name → command line) in `folder`, and end all of them when the block ends.

    Each has a session of its own: a Ctrl-C of the terminal reaches this process alone, which then ends them in order.
    What they print goes to the file `log`, or to the terminal.
    """
    processes: Processes = {}
    output = log.open("wb") if log else None
    previous = signal.signal(signal.SIGTERM, _exit)
    try:
        for name, command in commands.items():
            processes[name] = _start(command, environment, folder, output)
        yield processes
    finally:
        end(processes)
        signal.signal(signal.SIGTERM, previous)
        if output:
            output.close()


def wait(processes: Processes) -> NoReturn:
    """Wait until one of `processes` ends, which none should; raises FatescopeError that names it."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise _ended(name, process)
        time.sleep(_POLL_S)


def keep(
    processes: Processes,
    commands: Mapping[str, list[str]],
    environment: Mapping[str, str],
    folder: Path,
    steady_s: float = STEADY_S,
) -> NoReturn:
    """Start each of `processes`, which `running` made of the same, again when it ends; wait longer as long as it fails.

    Raises FatescopeError for one that ends within `steady_s` of its first start: it cannot run here.
    """
    began = dict.fromkeys(processes, time.monotonic())
    backoffs, due, restarted = {name: Backoff() for name in processes}, dict[str, float](), set[str]()
    while True:
        now = time.monotonic()
        for name, process in processes.items():
            if name in due:
                if now >= due[name]:
                    processes[name] = _start(commands[name], environment, folder)
                    began[name] = now
                    restarted.add(name)
                    del due[name]
            elif process.poll() is not None:
                steady = now - began[name] >= steady_s
                if not steady and name not in restarted:
                    raise _ended(name, process)
                if steady:
                    backoffs[name].reset()
                    log.error("%s ended with exit code %s, and is started again", name, process.returncode)
                # What it started may still have its port.
                end({name: process})
                due[name] = time.monotonic() + backoffs[name].wait_s()
        time.sleep(_POLL_S)


def end(processes: Processes) -> None:
    """Ask `processes` and what they started to end, and kill those that do not within PATIENCE_S."""
    for process in processes.values():
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    for process in processes.values():
        # One that was killed has left behind what it started.
        while process.poll() is None or _signal(process, 0):
            if time.monotonic() > deadline:
                _signal(process, signal.SIGKILL)
                process.wait()
                break
            time.sleep(_POLL_S / 4)


def _start(
    command: list[str], environment: Mapping[str, str], folder: Path, output: IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, start_new_session=True, stdout=output, stderr=output
    )


def _signal(process: "subprocess.Popen[bytes]", number: int) -> bool:
    """Send a signal to a process and what it started; return whether there is any of them."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _ended(name: str, process: "subprocess.Popen[bytes]") -> FatescopeError:
    return FatescopeError(f"{name} ended with exit code {process.returncode}; its last lines say why")


def foreground(command: list[str], environment: Mapping[str, str] | None = None, *, quiet: bool = False) -> int:
    """Run `command` in the terminal's foreground until it ends, and return its exit code.

    A Ctrl-C reaches it too, and it ends in its own way and time. `quiet`: its output goes to standard error.
    """
    # A handler, unlike SIG_IGN, is not passed on to the process.
    previous = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    try:
        process = subprocess.Popen(command, env=os.environ | (environment or {}), stdout=sys.stderr if quiet else None)
        previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        return process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    # An exception, so that the blocks above end what they began.
    raise SystemExit(128 + number)
