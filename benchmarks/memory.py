"""Time and memory of a command, with all processes that it starts."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def shared_out(process: psutil.Process) -> int:
    """Return the memory of a process, bytes: pages that several processes have are shared out among them (PSS)."""
    return int(process.memory_full_info().pss)


def own_memory(process: psutil.Process) -> int:
    """Return the same without pages of mapped files, which the system takes back when it needs them."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def measure(
    process: "subprocess.Popen[bytes]", reading: Callable[[psutil.Process], int] = shared_out
) -> tuple[float, float]:
    """Wait for a process; return its seconds, and the peak of its and its children's memory, MB, by `reading`.

    Reading the memory of a large process takes time itself, so that it is read twice a second.
    """
    start, peak, parent = time.perf_counter(), 0, psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for member in [parent, *parent.children(recursive=True)]:
            try:
                total += reading(member)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(0.5 if time.perf_counter() - start > 5 else 0.05)
    assert process.returncode == 0, f"{process.args!r} failed"
    return time.perf_counter() - start, peak / 1e6
