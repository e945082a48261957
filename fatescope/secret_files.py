"""Secrets that a program makes for itself: files that only their owner may read, made once, outside the project.

They are in `$XDG_CONFIG_HOME/fatescope`, else `~/.config/fatescope`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from fatescope.errors import FatescopeError

OWNER_ONLY = 0o600


def folder() -> Path:
    """Return the folder of the secrets of this user; it may not exist yet, and cannot where the user has no home."""
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "fatescope"
    except RuntimeError:  # a container whose user is a number
        return Path("/nonexistent/.config/fatescope")


def make_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what `path` holds, which is what `make` returns if there was no such file.

    Of several processes that begin at the same time, all get what the first one has made. Raises FatescopeError where
    the file cannot be read or made.
    """
    try:
        if path.exists():
            return path.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as file:
                file.write(make())
            # Unlike a rename, it never replaces what another process has made in between.
            path.hardlink_to(part)
        except FileExistsError:
            pass
        finally:
            part.unlink(missing_ok=True)
        return path.read_bytes()
    except OSError as error:
        raise FatescopeError(f"{path}: cannot be read or made ({error.strerror or error})") from error


def is_open_to_others(path: Path) -> bool:
    """Return whether others than the owner may read or write a file."""
    return bool(path.stat().st_mode & 0o077)
