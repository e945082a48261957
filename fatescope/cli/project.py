"""Commands on a project: the folder that holds `params.yaml`, `dvc.yaml` and the data."""

import os
import sys
from pathlib import Path

from fatescope.cli import console, processes
from fatescope.errors import FatescopeError

PARAMS, DATA, DATA_VERSION = Path("params.yaml"), Path("data"), Path("data.dvc")
CELLS, SPLITS = Path("artifacts/cells"), Path("artifacts/splits.parquet")
"""What `dvc.yaml` calls the outputs of ingest and split."""
DRAWN = "desc: drawn by "
"""How the line of `data.dvc` begins that describes simulated cells."""


def require() -> None:
    """Raise FatescopeError where the current folder is not a project's."""
    for path in (PARAMS, Path("dvc.yaml")):
        if not path.exists():
            raise FatescopeError(f"{path}: not in this folder; run from the folder of the project")


def read(params: Path) -> bytes:
    """Return the content of a file of parameters; raises FatescopeError where there is none."""
    if not params.is_file():
        raise FatescopeError(f"{params}: no such file; name one with --params, or run from the folder of the project")
    return params.read_bytes()


def dvc(*arguments: str, quiet: bool = False) -> None:
    """Run DVC; raises FatescopeError where it fails, after its own message."""
    command = [console.program("dvc", "pip install -e '.[pipelines]'"), *arguments]
    # DVC runs the stages with the `python` on the path, which must be this one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    code = processes.foreground(command, {"PATH": path}, quiet=quiet)
    if code != 0:
        raise FatescopeError(f"dvc {' '.join(arguments)} failed with exit code {code}; its message is above")


def data_is_drawn() -> bool:
    """Tell whether the version of the data in `data.dvc` is one that `simulate` draws."""
    return any(line.startswith(DRAWN) for line in DATA_VERSION.read_text(encoding="utf-8").splitlines())


def fetch_data() -> None:
    """Make the cells available: draw the default ones, or pull the laboratory's version, which is never replaced.

    Raises FatescopeError where there is neither data nor a version of it.
    """
    if DATA.is_dir():
        return
    if not DATA_VERSION.exists():
        raise FatescopeError(f"no cells: neither {DATA} nor {DATA_VERSION}; run `fatescope data import SRC`")
    if not data_is_drawn():
        dvc("pull", str(DATA_VERSION))
        return
    from fatescope import config
    from pipelines.commands import simulate

    simulate.simulate(config.load(PARAMS).simulate, DATA)
    dvc("commit", "-q", "-f", str(DATA_VERSION))


def add_version() -> None:
    """Make what is in the data folder a version of the data, which is a laboratory's own from now on."""
    if DATA_VERSION.exists():
        lines = DATA_VERSION.read_text(encoding="utf-8").splitlines(keepends=True)
        DATA_VERSION.write_text("".join(line for line in lines if not line.startswith(DRAWN)), encoding="utf-8")
    dvc("add", "--quiet", str(DATA))


def apply_settings(preset: str) -> None:
    """Write a settings preset into `params.yaml`; raises ParamsError where there is none of that name."""
    from fatescope.config import presets

    if presets.get_preset(preset).kind != "settings":
        raise FatescopeError(f"preset '{preset}' describes data; use it with `fatescope data import --preset {preset}`")
    presets.apply_preset(PARAMS, preset)
