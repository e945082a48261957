"""Folders that are written whole or not at all.

A folder is filled beside its place, as `TARGET.part`, and renamed when it is complete. Readers of TARGET therefore see
the old content or the new one, never a part of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree


@contextmanager
def fresh_folder(target: Path, *, keep_failed: bool = False) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` if the block does not raise.

    If it raises, `target` stays as it was, and `TARGET.part` is removed unless `keep_failed`.
    """
    with scratch_folder(target, keep_failed=keep_failed) as folder:
        yield folder
        replace_folder(folder, target)


@contextmanager
def scratch_folder(target: Path, *, keep_failed: bool = False) -> Iterator[Path]:
    """Yield the empty folder `TARGET.part`; remove it afterwards, unless the block raises and `keep_failed`."""
    restore(target)
    partial = target.with_name(target.name + ".part")
    rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        if not keep_failed:
            rmtree(partial, ignore_errors=True)
        raise
    rmtree(partial, ignore_errors=True)


def replace_folder(folder: Path, target: Path) -> None:
    """Move `folder` to `target`, whose old content is removed afterwards; if that fails, leave `target` as it was."""
    try:
        if target.exists():
            target.rename(_set_aside(target))
        folder.rename(target)
    finally:
        restore(target)


def restore(target: Path) -> None:
    """Complete a replacement that was interrupted: keep the new folder if it is in place, else put the old one back."""
    old = _set_aside(target)
    if old.exists() and not target.exists():
        old.rename(target)
    rmtree(old, ignore_errors=True)


def _set_aside(target: Path) -> Path:
    # Hidden, because people call copies of their own TARGET.old.
    return target.with_name(f".{target.name}.replaced")
