"""Processes that a command starts and that end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from fatescope.errors import FatescopeError

Processes = dict[str, "subprocess.Popen[bytes]"]
PATIENCE_S = 20.0
"""How long a process may take to end before it is killed: the service finishes what it has accepted."""


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
            processes[name] = subprocess.Popen(
                command, cwd=folder, env=os.environ | environment, start_new_session=True, stdout=output, stderr=output
            )
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
                raise FatescopeError(f"{name} ended with exit code {process.returncode}; its last lines say why")
        time.sleep(0.2)


def end(processes: Processes) -> None:
    """Ask `processes` and what they started to end, and kill those that do not within PATIENCE_S."""
    alive = [process for process in processes.values() if process.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    for process in alive:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
