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


def requested_address(host: str, port: int) -> tuple[str, int] | None:
    """Return host and port in the command line of `bentoml serve`, or `host` and `port` where it does not have them.

    None where the service was started in another way, which has checked its own address (`service.standalone`).
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    return context.params.get("host") or host, context.params.get("port") or port


def metrics_folder() -> str:
    """Make a folder for the metrics of this start, which is deleted when this process ends; return its path."""
    parent = Path(tempfile.gettempdir())
    _delete_stale(parent)
    # Its name is right only once it is locked, so that no other start takes it for a stale one. The lock also keeps
    # systemd from clearing it of files that it takes for old ones.
    unlocked = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
    # Worker processes inherit it: they may outlive a killed parent.
    os.set_inheritable(lock, True)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = unlocked.with_name(unlocked.name.removeprefix("."))
    unlocked.rename(folder)
    atexit.register(_delete, folder, os.getpid())
    return str(folder)


def _delete(folder: Path, owner: int) -> None:
    # Not in a process that was forked.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _delete_stale(parent: Path) -> None:
    """Delete the folders whose processes have all ended."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # it is no folder of ours, or another start has just deleted it
            continue
        try:
            if os.fstat(lock).st_uid != os.getuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
