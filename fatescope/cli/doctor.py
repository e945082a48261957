"""`fatescope doctor`: what this machine has, what is missing, and the line that mends it."""

import os
import platform
import re
import shutil
import sys
import tomllib
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import typer

from fatescope import artifact_places, plural
from fatescope.cli import console, machine
from fatescope.cli.engine_checks import Check, State, check_decoding, check_engines, check_inference, engine_check
from fatescope.cli.signature_checks import check_signatures
from fatescope.errors import FatescopeError
from fatescope.inference import cuda

__all__ = ["Check", "diagnose", "doctor", "engine_check"]

PORTS = {3000: "fatescope serve", 5000: "make ui", 9090: "Prometheus in fatescope watch"}
PROGRAMS = {
    "git": "apt install git",
    "dvc": "pip install -e '.[pipelines]'",
    "bentoml": "pip install -e '.[service]'",
    "make": "apt install make",
    "prometheus": "apt install prometheus prometheus-alertmanager",
}
PIPELINE = ("git", "dvc", "torch")
"""What `fatescope repro` cannot do without."""
DISK_GB, MEMORY_GB = 2.0, 4.0
"""Less leaves too little for the artifacts of a run, or for training beside the service."""


def doctor(as_json: console.AsJson = False) -> None:
    """Check this machine, and say how to mend what is missing.

    The exit code is 1 where something required is missing: a supported Python and ONNX Runtime; in the folder of a
    project also what its pipeline needs.
    """
    checks = diagnose(Path.cwd())
    if as_json:
        console.print_json({"ok": not _failed(checks), "checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<8} {check.name:<{width}}  {check.detail}")
            if check.remedy:
                print(f"{'':<8} {'':<{width}}  → {check.remedy}")
        print("Nothing required is missing." if not _failed(checks) else "Something required is missing.")
    raise typer.Exit(int(_failed(checks)))


def diagnose(folder: Path) -> list[Check]:
    """Return all checks, as seen from `folder`."""
    required = PIPELINE if (folder / "dvc.yaml").exists() else ()
    return [
        check_python(),
        check_processor(),
        check_memory(),
        check_disk(folder),
        check_gpu(),
        *check_engines(required),
        *check_inference(),
        check_decoding(),
        *(check_program(name, name in required) for name in PROGRAMS),
        *(check_port(port) for port in PORTS),
        *check_registry(folder, os.environ.get("MLFLOW_TRACKING_URI")),
        *check_signatures(folder, os.environ.get("MLFLOW_TRACKING_URI")),
    ]


def check_python(requires: str | None = None) -> Check:
    """Check the version of Python against `requires`, else against what the installed package asks for."""
    requires = requires or _supported()
    running = platform.python_version()
    # Of the form >=3.11,<3.14.
    (first,), (after,) = (re.findall(rf"{sign}\s*3\.(\d+)", requires) for sign in (">=", "<(?!=)"))
    if int(first) <= sys.version_info.minor < int(after):
        return Check("Python", "ok", running, required=True)
    detail = f"{running}, but {requires} is supported"
    return Check("Python", "missing", detail, required=True, remedy=f"make PYTHON=python3.{int(after) - 1}")


def _supported() -> str:
    """Return the versions of Python that the package asks for; it may be run from its sources, not installed."""
    try:
        return str(metadata("fatescope")["Requires-Python"])
    except PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["requires-python"])


def check_processor() -> Check:
    """Check the processor, which the speed of the engines depends on."""
    found = machine.processor()
    absent = [name for name in ("AVX-512", "bf16") if name not in found.features]
    detail = f"{found.name}, {plural.count(found.cores, 'core')}; {', '.join(found.features) or 'features unknown'}"
    if platform.machine() in ("x86_64", "AMD64") and "AVX2" not in found.features:
        return Check("processor", "warning", f"{detail}; without AVX2 everything is several times slower")
    return Check("processor", "ok", detail + (f"; no {' or '.join(absent)}" if absent else ""))


def check_memory() -> Check:
    """Check the memory."""
    size = machine.memory_gb()
    state: State = "ok" if size >= MEMORY_GB else "warning"
    return Check("memory", state, f"{size:.1f} GB" + ("" if state == "ok" else f"; {MEMORY_GB:.0f} GB are advised"))


def check_disk(folder: Path) -> Check:
    """Check the free space where the current folder is."""
    free = machine.free_disk_gb(folder)
    if free >= DISK_GB:
        return Check("disk", "ok", f"{free:.1f} GB free")
    return Check("disk", "warning", f"{free:.1f} GB free; {DISK_GB:.0f} GB are advised", remedy="dvc gc --workspace")


def check_gpu() -> Check:
    """Check for GPUs of NVIDIA and their driver."""
    found = machine.gpus()
    if found:
        return Check("GPU", "ok", "; ".join(f"{gpu.name}, {gpu.memory}, driver {gpu.driver}" for gpu in found))
    if devices := cuda.devices():
        detail = f"{devices} with a device file, but nvidia-smi does not report them; the driver may be missing"
        return Check("GPU", "warning", detail, remedy="nvidia-smi")
    return Check("GPU", "ok", "none; the processor does the work")


def check_program(name: str, required: bool) -> Check:
    """Check for a program beside this Python or on the path."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path:
        return Check(name, "ok", path, required)
    return Check(name, "missing" if required else "warning", "not found", required, PROGRAMS[name])


def check_port(port: int) -> Check:
    """Check whether a port that a command listens on is free."""
    name = f"port {port}"
    if machine.port_is_free(port):
        return Check(name, "ok", f"free, for {PORTS[port]}")
    remedy = f"fatescope serve --port {port + 1}" if port == 3000 else f"lsof -i :{port}"
    return Check(name, "warning", f"in use; {PORTS[port]} needs it", remedy=remedy)


def check_registry(folder: Path, tracking_uri: str | None) -> list[Check]:
    """Check whether the registry in `folder`, if it has one in use, leads to files of its own."""
    database = artifact_places.own_database(folder, tracking_uri)
    if database is None:
        return []
    try:
        misplaced = artifact_places.find_misplaced(database)
    except FatescopeError as error:
        return [Check("registry", "warning", str(error))]
    if not misplaced:
        return [Check("registry", "ok", str(database))]
    paths = plural.count(len(misplaced), "path in mlflow.db leads", "paths in mlflow.db lead")
    detail = f"moved or copied: {paths} elsewhere, such as {misplaced[0].before}"
    return [Check("registry", "warning", detail, remedy="fatescope models repair")]


def _failed(checks: list[Check]) -> bool:
    return any(check.required and check.state == "missing" for check in checks)
