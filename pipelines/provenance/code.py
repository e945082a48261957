"""The version of the code that runs: its commit, and what differs from it."""

import subprocess
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).resolve().parents[2]
DECIDES = ("fatescope", "pipelines", "pyproject.toml")
"""Paths of a repository whose content decides what training gives, besides parameters and data."""
_OURS = "pipelines/provenance/code.py"


class Code(BaseModel):
    """A commit, and what differs from it in the code that training runs."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    commit: str
    """The git commit; empty where the code is in no repository."""
    changes: str = ""
    """What differs from the commit in files that git knows, as a patch that `git apply` takes."""
    unknown: list[str] = []
    """Files of the code that git does not know, so that nothing records their content."""
    repository: str | None = None
    """The address of the remote `origin`, without a name or a password."""

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return the version of the code in the repository that `folder` is in; None where there is none, or no git."""
        root = _git(folder, "rev-parse", "--show-toplevel")
        if root is None or _git(Path(root), "ls-files", "--error-unmatch", _OURS) is None:
            return None
        here = Path(root)
        commit = _git(here, "rev-parse", "HEAD")
        if commit is None:
            return None
        origin = _git(here, "remote", "get-url", "origin")
        return cls(
            commit=commit,
            changes=_git(here, "diff", "--binary", "--no-color", "--no-ext-diff", "HEAD", "--", *DECIDES, raw=True)
            or "",
            unknown=(_git(here, "ls-files", "--others", "--exclude-standard", "--", *DECIDES) or "").splitlines(),
            repository=without_password(origin) if origin else None,
        )

    @classmethod
    def current(cls) -> Self:
        """Return the version of the code that this process runs."""
        return cls.of(ROOT) or cls(commit="")


def without_password(address: str) -> str:
    """Return the address of a repository without the name and the password that it may hold."""
    parts = urlsplit(address)
    if not parts.scheme or "@" not in parts.netloc or parts.scheme == "ssh":
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _git(folder: Path, *arguments: str, raw: bool = False) -> str | None:
    """Return what git prints; None where it fails or is not there."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  git
    except OSError:
        return None
    if done.returncode != 0:
        return None
    return done.stdout if raw else done.stdout.strip()
