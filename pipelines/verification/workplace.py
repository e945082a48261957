"""Where a version is built again: a checkout of its commit, a Python with its packages, and its data."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fatescope.errors import FatescopeError
from pipelines.provenance.code import Code
from pipelines.provenance.recipe import CONSTRAINTS, DATA_VERSION

DRAWN = re.compile(r"^desc: drawn by ", re.MULTILINE)
"""How `data.dvc` marks cells that `fatescope data simulate` draws by the parameters."""
LINES = 15
"""Last lines of a failed program that are shown."""


@dataclass(frozen=True)
class Workplace:
    """A checkout and the Python that runs its code."""

    folder: Path
    python: Path
    environment: Mapping[str, str]
    """Variables that are set as they were when the version was made."""

    def run(self, module: str, *arguments: str) -> None:
        """Run a module of the checkout; raises FatescopeError where it fails."""
        run(
            [str(self.python), "-m", module, *arguments],
            f"`{module}` of the recorded code",
            self.folder,
            # The code of the checkout, whatever the Python has installed.
            {**self.environment, "PYTHONPATH": str(self.folder)},
        )


def run(command: list[str], what: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program, and return what it printed; raises FatescopeError with its last lines where it fails."""
    try:
        done = subprocess.run(  # noqa: S603  programs that this module names
            command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FatescopeError(f"{what} cannot be run: {error}") from error
    if done.returncode != 0:
        shown = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-LINES:])
        raise FatescopeError(f"{what} failed with exit code {done.returncode}; its last lines:\n  {shown}")
    return done.stdout


def find_repository(code: Code, given: str | None, here: Path) -> str:
    """Return a repository that has the commit of `code`: the `given` one, the one of `here`, or the one recorded.

    Raises FatescopeError where none of them is known.
    """
    if given is not None:
        return given
    local = Code.of(here)
    if local is not None and _has(here, code.commit):
        return _top(here)
    if code.repository is not None:
        return code.repository
    raise FatescopeError(
        f"commit {code.commit[:12]} is not in the repository of this folder, and no other was recorded; name one that "
        "has it with --repository"
    )


def check_out(code: Code, repository: str, folder: Path) -> None:
    """Clone `repository` into `folder`, as it was at the commit of `code`, and apply what was changed since.

    Raises FatescopeError where the repository lacks the commit.
    """
    run(
        ["git", "clone", "--quiet", "--no-checkout", "--", repository, str(folder)],
        f"git clone {repository}",
        folder.parent,
    )
    if not _has(folder, code.commit):
        # A commit of no branch, such as one of a merged request; servers give it by its name, where they allow that.
        run(
            ["git", "-C", str(folder), "fetch", "--quiet", "origin", code.commit],
            f"fetching commit {code.commit[:12]}, which is on no branch of {repository},",
            folder,
        )
    run(["git", "-C", str(folder), "checkout", "--quiet", "--detach", code.commit], "git checkout", folder)
    if code.changes:
        patch = folder.with_name(f"{folder.name}.patch")
        patch.write_text(code.changes, encoding="utf-8")
        run(
            ["git", "-C", str(folder), "apply", "--whitespace=nowarn", str(patch)],
            "git apply, of the recorded changes,",
            folder,
        )


def make_environment(
    folder: Path, checkout: Path, python: str, constraints: str | None, packages: dict[str, str]
) -> Path:
    """Make a virtual environment in `folder` with what training needs, and return its Python.

    `python` is the version that was used; the packages are those of `constraints`, else the recorded ones.
    """
    interpreter = find_python(python)
    pins = checkout / CONSTRAINTS
    pins.write_text(
        constraints or "".join(f"{name}=={version}\n" for name, version in packages.items()), encoding="utf-8"
    )
    run([interpreter, "-m", "venv", str(folder)], "making a virtual environment", checkout)
    made = folder / "bin" / "python"
    run(
        [
            str(made),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-c",
            str(pins),
            "-e",
            ".[pipelines]",
        ],
        "pip install, by the recorded constraints,",
        checkout,
    )
    return made


def find_python(version: str) -> str:
    """Return a Python of the same minor version as `version`; raises FatescopeError where there is none."""
    minor = ".".join(version.split(".")[:2])
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{minor}")
    if found is None:
        raise FatescopeError(
            f"the version was made by Python {version}, and there is no python{minor} on the path; install it, or use "
            "the environment of this command with --here"
        )
    return found


def bring_data(workplace: Workplace, recorded: str | None, given: Path | None, repository: str) -> Path:
    """Return the folder of the data: the `given` one, else the recorded version, drawn or pulled into the checkout.

    Raises FatescopeError where no version was recorded.
    """
    if given is not None:
        if not given.is_dir():
            raise FatescopeError(f"{given}: no such folder; name the folder of the cells with --data")
        return given.resolve()
    if recorded is None:
        raise FatescopeError(
            f"the version has no {DATA_VERSION}, so that nothing says where its cells are; name the folder with --data"
        )
    (workplace.folder / DATA_VERSION).write_text(recorded, encoding="utf-8")
    if DRAWN.search(recorded):
        workplace.run("fatescope.cli", "data", "simulate", "--params", "params.yaml", "--out", "data")
    else:
        _pull(workplace, Path(repository))
    return workplace.folder / "data"


def _pull(workplace: Workplace, repository: Path) -> None:
    """Pull the data by DVC, with the remote and the cache of a local repository, where that has them."""
    dvc = [str(workplace.python), "-m", "dvc"]
    folder, settings = workplace.folder, repository / ".dvc" / "config.local"
    if settings.is_file():
        shutil.copy(settings, folder / ".dvc" / "config.local")
    cache = repository / ".dvc" / "cache"
    if cache.is_dir():
        run([*dvc, "config", "--local", "cache.dir", str(cache.resolve())], "dvc config", folder)
        # Links into the cache of another folder would lead away when it is cleared, and be written through.
        run([*dvc, "config", "--local", "cache.type", "copy"], "dvc config", folder)
    try:
        run([*dvc, "checkout", "--quiet", DATA_VERSION], "dvc checkout", folder)
    except FatescopeError:
        run(
            [*dvc, "pull", "--quiet", DATA_VERSION],
            "dvc pull of the recorded data (name a folder that has them with --data)",
            folder,
        )


def _has(folder: Path, commit: str) -> bool:
    command = ["git", "-C", str(folder), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  git


def _top(folder: Path) -> str:
    return run(["git", "-C", str(folder), "rev-parse", "--show-toplevel"], "git rev-parse", folder).strip()
