"""What this machine has: read from the system, with the standard library alone."""

import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fatescope.errors import ParamsError
from fatescope.ports import check_port

FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "NEON": ("asimd",),
}
"""Feature of a processor → how Linux spells it, on x86 or ARM."""


@dataclass(frozen=True)
class Processor:
    """The processor and what of it this process may use."""

    name: str
    cores: int
    features: list[str]
    """Of FEATURES."""


@dataclass(frozen=True)
class GPU:
    """A GPU of NVIDIA."""

    name: str
    driver: str
    memory: str


def processor() -> Processor:
    """Return the processor of this machine."""
    cpuinfo = _read("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    known = set(flags[0].split()) if flags else set()
    features = [name for name, spellings in FEATURES.items() if known & set(spellings)]
    return Processor(names[0] if names else platform.machine(), cores(), features)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gb() -> float:
    """Return the memory that this process may have, of the machine or of its container, GB."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path).strip()
        if limit.isdecimal():
            size = min(size, int(limit))
    return size / 1e9


def free_disk_gb(folder: Path) -> float:
    """Return the free space of the disk that `folder` is on, GB."""
    return shutil.disk_usage(folder).free / 1e9


def gpus() -> list[GPU]:
    """Return the GPUs that the driver of NVIDIA reports."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [GPU(*fields) for line in done.stdout.splitlines() if len(fields := line.split(", ")) == 3]


def gpu_devices() -> int:
    """Return how many GPUs of NVIDIA have a device file, whether or not the driver's tool is here."""
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal()])


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` of 127.0.0.1."""
    try:
        check_port("127.0.0.1", port)
    except ParamsError:
        return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8")
    return ""
