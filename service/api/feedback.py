"""Corrections by users: the true class of a cell, kept for the next version of the data.

`corrections.jsonl` in the folder has one line per correction: `time`, `task`, `model`, `version`, `sha256` (of the
file), `label` (the true class), `called` (the predicted class), `path` (of the image, if the user allowed it to be
stored) and `group` (the acquisition group, if the name of the file says it). An image is stored under a path that
`dataset.pattern` parses as its true class, so that `make adopt SRC=feedback` imports it. Because such a path may say
another acquisition group, `fatescope_labels.csv` (`fatescope.data.sidecar`) has the true class and the group in which
the cell was acquired, which hold instead.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from fatescope.data.names import normalise, without_copy_marks
from fatescope.data.paths import CORRECTIONS, PathParser
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.errors import DataError
from service.inference.errors import RequestError
from service.inference.model_pool import ServedModel
from service.settings import variable

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_PATH_PARTS, _MAX_NAME_LENGTH = 4, 120
_HASH_DIGITS = 12
_MEASURED_S = 60.0
"""How long the size of the folder is believed, with what this process has added; other processes write to it too."""
_FULL_S = 5.0
"""The same for a folder that is full."""
_BYTES_PER_MB, _BYTES_PER_BLOCK = 1_000_000, 512


@dataclass(frozen=True)
class Correction:
    """The true class of a cell, according to a user."""

    file: str
    raw: bytes
    label: str
    """The true class."""
    called: str
    """The predicted class."""
    keep_image: bool


@dataclass(frozen=True)
class StoredCorrection:
    """What was stored of a correction."""

    sha256: str
    kept: bool
    """Whether the image was stored."""
    reason: str | None
    """Why a stored image cannot be imported as it is."""


class FeedbackStore:
    """Stores corrections in a folder."""

    def __init__(self, folder: Path, quota_mb: float) -> None:
        """`quota_mb` is what the folder may take on disk, in megabytes."""
        self._folder, self._writing, self._quota_mb = folder, threading.Lock(), quota_mb
        self._size, self._measured = 0, -_MEASURED_S

    def add(self, correction: Correction, model: ServedModel) -> StoredCorrection:
        """Store a correction; raises RequestError for a class unknown to the model, and if it cannot be written."""
        spec = model.spec
        if correction.label not in spec.classes:
            raise RequestError(
                422, "unknown_class", f"'{correction.label}' is not a class of task {spec.task}: {spec.classes}"
            )
        digest = hashlib.sha256(correction.raw).hexdigest()
        name = normalise(correction.file)
        parser = model.decoder.parser
        parsed = parser.read(name)
        corrected = _stored_path(name, correction.label, parser) if parsed else None
        # In a folder of its own, because two cells may have the same name.
        path = PurePosixPath(digest[:_HASH_DIGITS]) / (corrected or _sanitise(PurePosixPath(name).name))
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": spec.task,
            "model": model.champion.name,
            "version": model.champion.version,
            "sha256": digest,
            "label": correction.label,
            "called": correction.called,
            "path": str(path) if correction.keep_image else None,
            "group": parsed.group if parsed else None,
        }
        text = json.dumps(line) + "\n"
        try:
            with self._locked() as corrections:
                self._claim(len(text) + (len(correction.raw) if correction.keep_image else 0))
                if correction.keep_image:
                    label = Label(correction.label, parsed.group) if corrected and parsed else None
                    self._replace(path, correction.raw, label)
                corrections.write(text)
        except OSError as error:
            message = f"corrections cannot be stored ({error.strerror}); set {variable('feedback')} to a folder"
            raise RequestError(503, "feedback", message) from error
        except DataError as error:
            raise RequestError(503, "feedback", f"corrections cannot be stored: {error}") from error
        reason = "its name does not match dataset.pattern, so that `make adopt` cannot read its class from it"
        return StoredCorrection(
            digest, correction.keep_image, reason if correction.keep_image and not corrected else None
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """Yield the opened CORRECTIONS while no other thread, and no other process, writes to the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._writing, (self._folder / CORRECTIONS).open("a", encoding="utf-8") as corrections:
            try:
                # The lock goes with the process, however that ends.
                fcntl.flock(corrections, fcntl.LOCK_EX)
            except OSError as error:
                # A file system without locks, such as some mounted buckets.
                log.warning("%s: cannot be locked (%s); run one gateway only", self._folder, error.strerror)
            yield corrections

    def _claim(self, size: int) -> None:
        """Raise RequestError where `size` bytes more would be over the quota."""
        quota = self._quota_mb * _BYTES_PER_MB
        # Measured sooner before anything is refused, because somebody may have emptied the folder.
        believed_s = _MEASURED_S if self._size + size <= quota else _FULL_S
        if time.monotonic() - self._measured >= believed_s:
            self._size, self._measured = _size_on_disk(self._folder), time.monotonic()
        if self._size + size > quota:
            raise RequestError(
                507, "feedback_full", f"the corrections take up the {self._quota_mb:g} MB that they may; move them out "
                f"of the folder (`fatescope data import` reads them), or raise {variable('feedback_mb')}",
            )  # fmt: skip
        self._size += size

    def _replace(self, path: PurePosixPath, raw: bytes, label: Label | None) -> None:
        """Store an image, and what the sidecar says of it if anything, in place of an earlier correction of the cell.

        Raises DataError, before anything is written, where the sidecar is damaged.
        """
        own, table = path.parts[0], self._folder / LABELS
        known = read_table(table) if table.exists() else {}
        for previous in self._folder.glob(f"{own}/**/*"):
            if previous.is_file():
                previous.unlink()
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_bytes(raw)
        rows = {name: row for name, row in known.items() if not name.startswith(f"{own}/")}
        if label:
            rows[str(path)] = label
        if rows != known:
            write_table(table, rows)


def _size_on_disk(folder: Path) -> int:
    """Return the bytes that a folder takes: small files and folders take a block of the disk each."""
    size = 0
    for path in folder.rglob("*"):
        # Another process may have replaced it.
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            size += max(status.st_size, status.st_blocks * _BYTES_PER_BLOCK)
    return size


def _stored_path(file: str, label: str, parser: PathParser) -> PurePosixPath | None:
    """Return a safe relative path that `dataset.pattern` parses, None if there is none.

    Where a name can say it, it says the true class `label`.
    """
    for path in (parser.relabel(file, label), without_copy_marks(file)):
        parts = [part for part in PurePosixPath(path or "").parts[-_MAX_PATH_PARTS:] if part not in ("/", "..", ".")]
        safe = "/".join(_sanitise(part).name for part in parts)
        if parser.read(safe):
            return PurePosixPath(safe)
    return None


def _sanitise(name: str) -> PurePosixPath:
    return PurePosixPath(_UNSAFE.sub("_", name).lstrip(".")[-_MAX_NAME_LENGTH:] or "cell")
