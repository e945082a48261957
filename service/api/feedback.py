"""Corrections by users: the true class of a cell, kept for the next version of the data.

`corrections.jsonl` in the folder has one line per correction: `time`, `task`, `model`, `version`, `sha256` (of the
file), `label` (the true class), `called` (the predicted class), `path` (of the image, if the user allowed it to be
stored) and `group` (the acquisition group, if the name of the file says it). An image is stored under a path that
`dataset.pattern` parses as its true class, so that `make adopt SRC=feedback` imports it. Because such a path may say
another acquisition group, `fatescope_labels.csv` (`fatescope.data.sidecar`) has the true class and the group in which
the cell was acquired, which hold instead.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from fatescope.config import Dataset
from fatescope.data.names import normalise, without_copy_marks
from fatescope.data.paths import CORRECTIONS, PathParser
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.errors import DataError
from service.inference.errors import RequestError
from service.inference.model_pool import ServedModel
from service.settings import variable

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
        parsed = parser.read(name) if (parser := _parser(model)) else None
        corrected = _stored_path(name, correction.label, parser) if parser and parsed else None
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
        try:
            with self._writing:
                self._folder.mkdir(parents=True, exist_ok=True)
                text = json.dumps(line) + "\n"
                self._claim(len(text) + (len(correction.raw) if correction.keep_image else 0))
                if correction.keep_image:
                    self._write_image(path, correction.raw)
                    if corrected and parsed:
                        self._write_label(path, Label(correction.label, parsed.group))
                with (self._folder / CORRECTIONS).open("a", encoding="utf-8") as file:
                    file.write(text)
        except (OSError, DataError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            message = f"corrections cannot be stored ({problem}); set {variable('feedback')} to a folder"
            raise RequestError(503, "feedback", message) from error
        reason = "its name does not match dataset.pattern, so that `make adopt` cannot read its class from it"
        return StoredCorrection(
            digest, correction.keep_image, reason if correction.keep_image and not corrected else None
        )

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

    def _write_image(self, path: PurePosixPath, raw: bytes) -> None:
        # A second correction of a cell replaces the first.
        for previous in self._folder.glob(f"{path.parts[0]}/**/*"):
            if previous.is_file():
                previous.unlink()
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_bytes(raw)

    def _write_label(self, path: PurePosixPath, label: Label) -> None:
        table = self._folder / LABELS
        known = read_table(table) if table.exists() else {}
        others = {name: row for name, row in known.items() if not name.startswith(f"{path.parts[0]}/")}
        write_table(table, {**others, str(path): label})


def _size_on_disk(folder: Path) -> int:
    """Return the bytes that a folder takes: small files and folders take a block of the disk each."""
    size = 0
    for path in folder.rglob("*"):
        # Another process may have replaced it.
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            size += max(status.st_size, status.st_blocks * _BYTES_PER_BLOCK)
    return size


def _parser(model: ServedModel) -> PathParser | None:
    """Return the parser of the names of the training data; None where the bundle does not say how to read them."""
    section = model.spec.params.get("dataset", {})
    return PathParser(Dataset.model_validate_json(json.dumps(section))) if section.get("pattern") else None


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
