"""What a start of the service finds out and prepares before any process of it runs: its address and metrics folder.

BentoML counts metrics in a folder of its home, which all services of a user share and every start empties. Here each
start has one of its own, which goes when the service ends; what a killed service left behind goes at the next start.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import click

_PREFIX = "fatescope-metrics-"
_LOCK, _VALUES = "lock", "values"
"""In the folder: a file that the processes of the service keep locked, and the folder of the metrics."""


def requested_address(host: str, port: int) -> tuple[str, int]:
    """Return host and port in the command line of `bentoml serve`, or `host` and `port` where it does not have them."""
    context = click.get_current_context(silent=True)
    options = context.params if context else {}
    return options.get("host") or host, options.get("port") or port


def metrics_folder() -> str:
    """Make a folder for the metrics of this start, which is deleted when this process ends; return its path."""
    parent = Path(tempfile.gettempdir())
    _delete_stale(parent)
    # Its name is right only once it is locked, so that no other start takes it for a stale one.
    unlocked = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    (unlocked / _VALUES).mkdir()
    lock = os.open(unlocked / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    # Worker processes inherit it: they may outlive a killed parent.
    os.set_inheritable(lock, True)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = unlocked.with_name(unlocked.name.removeprefix("."))
    unlocked.rename(folder)
    atexit.register(_delete, folder, os.getpid())
    return str(folder / _VALUES)


def _delete(folder: Path, owner: int) -> None:
    # Not in a process that was forked.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_stale(parent: Path) -> None:
    """Delete the folders whose processes have all ended."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:  # another start is deleting it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
