"""Commands on a project: the folder that holds `params.yaml`, `dvc.yaml` and the data."""

import os
import sys
from configparser import ConfigParser
from pathlib import Path

from fatescope import plural
from fatescope.cli import console, processes
from fatescope.errors import FatescopeError

PARAMS, DATA, DATA_VERSION = Path("params.yaml"), Path("data"), Path("data.dvc")
CELLS, SPLITS = Path("artifacts/cells"), Path("artifacts/splits.parquet")
"""What `dvc.yaml` calls the outputs of ingest and split."""
SITE_CACHE = "DVC_SITE_CACHE_DIR"
"""Has the folder of `environment.mk`, or one of the user's own."""
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
    program = console.program("dvc", "pip install -e '.[pipelines]'")
    # DVC runs the stages with the `python` on the path, which must be this one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, **_private_cache()}
    _accept_no_git(program, environment)
    code = processes.foreground([program, *arguments], environment, quiet=quiet)
    if code != 0:
        raise FatescopeError(f"dvc {' '.join(arguments)} failed with exit code {code}; its message is above")


def _private_cache() -> dict[str, str]:
    """Return where DVC keeps what it knows of files, a folder that DVC itself would open to everyone."""
    root = _dvc_root()
    if root is None or SITE_CACHE not in os.environ:
        return {}
    folder = root / os.environ[SITE_CACHE]
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return {SITE_CACHE: str(folder)}


def _dvc_root() -> Path | None:
    """Return the folder, this one or one that it is in, that is under DVC."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)


def _accept_no_git(program: str, environment: dict[str, str]) -> None:
    """Let DVC work in a folder that is in no git repository, such as a downloaded zip, where it is not set to."""
    root = _dvc_root()
    if root is None or any((folder / ".git").exists() for folder in (root, *root.parents)) or _has_no_scm(root):
        return
    processes.foreground([program, "config", "--local", "core.no_scm", "true"], environment, quiet=True)
    print(
        "no git repository here, so DVC is set to work without one; after `git init`, also run "
        "`dvc config --local --unset core.no_scm`",
        file=sys.stderr,
    )


def _has_no_scm(root: Path) -> bool:
    settings = ConfigParser(interpolation=None)
    settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    return settings.getboolean("core", "no_scm", fallback=False)


def check_data() -> None:
    """Raise FatescopeError where the data folder holds what DVC fails on: links that lead nowhere, and the like."""
    if DATA.is_symlink() and not DATA.exists():
        raise FatescopeError(f"{DATA}: a link to {DATA.readlink()}, which is not there; mount or remove it")
    if not DATA.is_dir():
        return
    from fatescope.data.export_folder import list_files

    problems = list[str]()
    for _ in list_files(DATA, lambda path, reason: problems.append(f"{DATA / path}: {reason}")):
        pass
    if problems:
        listed, them = "\n  ".join(problems[:10]), plural.agree(len(problems), "it", "them")
        raise FatescopeError(
            f"{plural.count(len(problems), 'path')} of which DVC can make no version; rename or remove {them}, or "
            f"import the export, which leaves {them} out:\n  {listed}"
        )


def data_is_drawn() -> bool:
    """Tell whether the version of the data in `data.dvc` is one that `simulate` draws."""
    return any(line.startswith(DRAWN) for line in DATA_VERSION.read_text(encoding="utf-8").splitlines())


def fetch_data() -> None:
    """Make the cells available: draw the default ones, or pull the laboratory's version, which is never replaced.

    Raises FatescopeError where there is neither data nor a version of it, or DVC can make no version of what is there.
    """
    check_data()
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
    """Write a settings preset, or one of cells to draw, into `params.yaml`; raises ParamsError for an unknown name."""
    from fatescope.config import presets

    chosen = presets.get_preset(preset)
    # What draws its own cells has nothing to import.
    if chosen.kind != "settings" and "simulate" not in chosen.values():
        raise FatescopeError(f"preset '{preset}' describes data; use it with `fatescope data import --preset {preset}`")
    presets.apply_preset(PARAMS, preset)
