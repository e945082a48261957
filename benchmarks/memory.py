"""Time and memory of a command, with all processes that it starts."""

import subprocess
import time

import psutil


def measure(process: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """Wait for a process; return its seconds, and the peak of its and its children's memory, MB, each page once (PSS).

    Reading the memory of a large process takes time itself, so that it is read twice a second.
    """
    start, peak, parent = time.perf_counter(), 0, psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for member in [parent, *parent.children(recursive=True)]:
            try:
                total += member.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(0.5 if time.perf_counter() - start > 5 else 0.05)
    assert process.returncode == 0, f"{process.args!r} failed"
    return time.perf_counter() - start, peak / 1e6
