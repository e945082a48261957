"""What this machine has: read from the system, with the standard library alone."""

import contextlib
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fatescope import processes
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
    return Processor(names[0] if names else platform.machine(), processes.available_cores(), features)


def memory_gb() -> float:
    """Return the memory that this process may have, of the machine or of its container, GB."""
    return processes.memory_bytes() / 1e9


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
