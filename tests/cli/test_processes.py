"""Processes that a command starts end with it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fatescope.cli import processes
from fatescope.errors import FatescopeError

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone(group, timeout_s=10):
    """Wait until no process of a group is left."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_all_end_with_the_block_and_what_they_started(tmp_path):
    parent = [sys.executable, "-c", CHILD + "time.sleep(60)"]
    with processes.running({"one": SLEEP, "two": parent}, {}, tmp_path) as started:
        time.sleep(0.5)
        assert all(process.poll() is None for process in started.values())
    assert all(gone(process.pid) for process in started.values())


def test_one_that_ends_is_named_and_ends_the_others(tmp_path):
    failing = [sys.executable, "-c", "import os; print('port taken', flush=True); os._exit(3)"]
    with (
        pytest.raises(FatescopeError, match="two ended with exit code 3"),
        processes.running({"one": SLEEP, "two": failing}, {}, tmp_path, tmp_path / "log") as started,
    ):
        processes.wait(started)
    assert started["one"].poll() is not None
    assert (tmp_path / "log").read_text() == "port taken\n"


def test_what_a_killed_process_started_ends_with_the_block(tmp_path):
    parent = [sys.executable, "-c", CHILD + "time.sleep(60)"]
    with processes.running({"one": parent}, {}, tmp_path) as started:
        time.sleep(0.5)
        started["one"].kill()
        started["one"].wait()
        os.killpg(started["one"].pid, 0)  # the child is there
    assert gone(started["one"].pid)


def test_one_that_is_killed_is_started_again_and_the_others_go_on(tmp_path, caplog):
    commands, killed = {"one": SLEEP, "two": SLEEP}, []

    def kill_then_stop():
        kept = started["one"].pid
        while len(killed) < 2:
            killed.append(started["two"].pid)
            os.kill(killed[-1], signal.SIGKILL)
            while started["two"].pid == killed[-1]:
                time.sleep(0.05)
        assert started["one"].pid == kept
        assert started["two"].poll() is None
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=kill_then_stop)
    with processes.running(commands, {}, tmp_path) as started:
        thread.start()
        with pytest.raises(SystemExit):
            processes.keep(started, commands, {}, tmp_path, steady_s=0.0)
    thread.join()
    assert len(set(killed)) == 2
    assert caplog.text.count("two ended with exit code -9, and is started again") == 2
    assert all(gone(process.pid) for process in started.values())


def test_one_that_cannot_start_is_named_and_not_tried_for_ever(tmp_path):
    failing = [sys.executable, "-c", "import os; os._exit(3)"]
    commands = {"one": SLEEP, "two": failing}
    with (
        pytest.raises(FatescopeError, match="two ended with exit code 3"),
        processes.running(commands, {}, tmp_path) as started,
    ):
        processes.keep(started, commands, {}, tmp_path)
    assert gone(started["one"].pid)


def test_they_end_where_the_command_is_terminated(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fatescope.cli import processes\n"
        f"with processes.running({{'one': {SLEEP!r}}}, {{}}, Path('.')) as started:\n"
        "    print(started['one'].pid, flush=True)\n"
        "    processes.wait(started)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    with command:
        pid = int(command.stdout.readline())
        command.send_signal(signal.SIGTERM)
        assert command.wait(20) == 128 + signal.SIGTERM
    assert gone(pid)


def test_a_command_in_the_foreground_ends_in_its_own_way():
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); os._exit(7)"
    assert processes.foreground([sys.executable, "-c", code]) == 7
