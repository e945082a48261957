"""The folder of corrections that people sent (`service.api.feedback` says what is in it), read and thinned out.

A service may be writing to it: whoever changes what is there holds the lock of `corrections.jsonl`, and takes it again
where the file was replaced meanwhile.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fatescope.atomic import replacing
from fatescope.data.export_folder import CORRECTIONS
from fatescope.data.sidecar import LABELS, read_table, write_table

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

Line = dict[str, Any]


@dataclass(frozen=True)
class Thinned:
    """What was taken out of a folder of corrections."""

    lines: int
    images: int
    """Files."""


@contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Yield CORRECTIONS, opened to append, while no other thread, and no other process, writes to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        with (folder / CORRECTIONS).open("a", encoding="utf-8") as corrections:
            try:
                # The lock goes with the process, however that ends.
                fcntl.flock(corrections, fcntl.LOCK_EX)
            except OSError as error:
                # A file system without locks, such as some mounted buckets.
                log.warning("%s: cannot be locked (%s); run one gateway only", folder, error.strerror)
            if _is_in_place(corrections, folder / CORRECTIONS):
                yield corrections
                return


def _is_in_place(file: IO[str], path: Path) -> bool:
    """Return whether a file has not been replaced since it was opened."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def read(folder: Path) -> Iterator[Line]:
    """Yield the corrections in a folder; a line that is none, such as one that was cut off, is left out."""
    try:
        text = (folder / CORRECTIONS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        content = _parse(line)
        if content is not None:
            yield content


def thin(folder: Path, keep: Callable[[Line], bool], keep_image: Callable[[Line], bool] = lambda _: True) -> Thinned:
    """Take the corrections out that `keep` refuses, and the images of those that `keep` or `keep_image` refuses.

    An image that a correction of the same cell still refers to, which is kept, stays. The table of labels forgets the
    images that go. A line that cannot be read stays.
    """
    if not (folder / CORRECTIONS).exists():
        return Thinned(0, 0)
    with locked(folder):
        lines = (folder / CORRECTIONS).read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        kept, going, staying, gone = list[str](), set[str](), set[str](), 0
        for line in lines:
            content = _parse(line)
            if content is None:
                kept.append(line)
                continue
            own = (content.get("path") or "").partition("/")[0]
            remains = keep(content)
            if own:
                (staying if remains and keep_image(content) else going).add(own)
            if not remains:
                gone += 1
                continue
            if own and not keep_image(content):
                line = json.dumps(content | {"path": None}) + "\n"  # noqa: PLW2901  as it is kept
            kept.append(line)
        going -= staying
        images = remove_images(folder, going)
        if kept != lines:
            with replacing(folder / CORRECTIONS) as part:
                part.write_text("".join(kept), encoding="utf-8", errors="surrogateescape")
    return Thinned(gone, images)


def remove_images(folder: Path, own: set[str]) -> int:
    """Remove the folders of some cells, and their rows in the table of labels; return how many images there were."""
    images = 0
    for name in own:
        images += sum(path.is_file() for path in (folder / name).rglob("*"))
        shutil.rmtree(folder / name, ignore_errors=True)
    table = folder / LABELS
    if own and table.exists():
        rows = read_table(table)
        kept = {path: row for path, row in rows.items() if path.partition("/")[0] not in own}
        if kept != rows:
            write_table(table, kept)
    return images


def _parse(line: str) -> Line | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
