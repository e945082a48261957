"""Corrections by users: the true class of a cell, kept for the next version of the data.

`corrections.jsonl` in the folder has one line per correction: `time`, `task`, `model`, `version`, `cell` (the id of the
answer, if it was sent), `image_hash` (as in the prediction log) and `sha256` (of the file, or of all files of a cell
with several channels after each other), both null where no image was sent, `label` (the true class; null where the user
cannot tell it), `called` (the predicted class), `path` (of the image, if the user allowed it to be stored), `group`
(the acquisition group, if the name of the file says it), `correction` (a random number, by which the audit log has it),
and `by` and `scope` (whose it is, see `fatescope.data.statements`). An image is stored under a path that
`dataset.pattern` parses as its true class, so that `fatescope data import feedback` imports it. Because such a path may
say another acquisition group, `fatescope_labels.csv` (`fatescope.data.sidecar`) has the true class and the group in
which the cell was acquired, which hold instead. What is stored of an image is replaced by corrections of the same
author, or of one with a stronger scope.
"""

import contextlib
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from fatescope.data import corrections
from fatescope.data.names import normalise, without_copy_marks
from fatescope.data.paths import PathParser
from fatescope.data.sidecar import LABELS, Label, read_table, write_table
from fatescope.data.statements import ADMIN, FEEDBACK, Statement, may_replace, settle
from fatescope.errors import DataError
from service.inference.errors import RequestError
from service.inference.files import Upload
from service.inference.requester import requester
from service.inference.served_model import ServedModel
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

    files: list[Upload]
    """The image of the cell; where the model takes several channels, that of each in their order. Empty where the cell
    is named by its id alone."""
    label: str
    """The true class; empty where the user cannot tell it."""
    called: str
    """The predicted class."""
    keep_image: bool
    cell: str | None = None
    """The id of the answer."""
    image_hash: int | None = None
    """Of the decoded image (`crops.pixel_hash`)."""


@dataclass(frozen=True)
class StoredCorrection:
    """What was stored of a correction."""

    sha256: str | None
    """Of the image; None where none was sent."""
    kept: bool
    """Whether the image was stored."""
    reason: str | None
    """Why an image was not stored, or cannot be imported as it is."""
    correction: str
    """Its number, by which the audit log has it."""


class FeedbackStore:
    """Stores corrections in a folder."""

    def __init__(self, folder: Path, quota_mb: float) -> None:
        """`quota_mb` is what the folder may take on disk, in megabytes."""
        self._folder, self._writing, self._quota_mb = folder, threading.Lock(), quota_mb
        self._size, self._measured = 0, -_MEASURED_S

    @property
    def folder(self) -> Path:
        """Return the folder."""
        return self._folder

    def add(self, correction: Correction, model: ServedModel) -> StoredCorrection:
        """Store a correction; raises RequestError for a class unknown to the model, and if it cannot be written."""
        spec = model.spec
        # A cell that nobody can tell is an answer to the queue, and teaches nothing.
        untold = not correction.label and correction.cell is not None and not correction.keep_image
        if correction.label not in spec.classes and not untold:
            raise RequestError(
                422,
                "unknown_class",
                f"'{correction.label}' is not a class of task {spec.task}; send {' or '.join(spec.classes)}",
            )
        if not correction.files:
            line = self._line(correction, model)
            self._write(line)
            return StoredCorrection(None, kept=False, reason=None, correction=str(line["correction"]))
        digest = hashlib.sha256(b"".join(file.raw for file in correction.files)).hexdigest()
        parser, names = model.decoder.parser, [normalise(file.name) for file in correction.files]
        parsed = parser.read(names[0])
        corrected = [
            _stored_path(name, correction.label, parser) if parsed and correction.label else None for name in names
        ]
        # In a folder of its own, because two cells may have the same name.
        paths = [
            PurePosixPath(digest[:_HASH_DIGITS]) / (path or _sanitise(PurePosixPath(name).name))
            for path, name in zip(corrected, names, strict=True)
        ]
        importable = parsed is not None and all(corrected)
        line = self._line(correction, model) | {
            "sha256": digest,
            "path": str(paths[0]) if correction.keep_image else None,
            "group": parsed.group if parsed else None,
        }
        images = dict(zip(paths, (file.raw for file in correction.files), strict=True))
        label = Label(correction.label, parsed.group) if importable and parsed else None
        kept = self._write(line, images if correction.keep_image else {}, label)
        reason = None
        if correction.keep_image and not kept:
            reason = "it is stored already with what somebody else has said of it, which holds"
        elif kept and not importable:
            reason = (
                "its name does not match dataset.pattern, so that `fatescope data import` cannot read its class from it"
            )
        return StoredCorrection(digest, kept, reason, str(line["correction"]))

    @staticmethod
    def _line(correction: Correction, model: ServedModel) -> dict[str, object]:
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": model.spec.task,
            "model": model.champion.name,
            "version": model.champion.version,
            "cell": correction.cell,
            "image_hash": correction.image_hash,
            "sha256": None,
            "label": correction.label or None,
            "called": correction.called,
            "path": None,
            "group": None,
            "correction": secrets.token_hex(8),
            **_author(),
        }

    def _write(
        self,
        line: dict[str, object],
        images: Mapping[PurePosixPath, bytes] | None = None,
        label: Label | None = None,
    ) -> bool:
        """Write a correction and its `images`, and return whether there are any, and these were stored.

        Raises RequestError where that cannot be done.
        """
        try:
            with self._locked() as file:
                if images and not self._may_replace(line):
                    images, line = None, line | {"path": None}
                text = json.dumps(line) + "\n"
                self._claim(len(text) + sum(map(len, (images or {}).values())))
                if images:
                    self._replace(images, label)
                file.write(text)
        except OSError as error:
            message = f"corrections cannot be stored ({error.strerror}); set {variable('feedback')} to a folder"
            raise RequestError(503, "feedback", message) from error
        except DataError as error:
            raise RequestError(503, "feedback", f"corrections cannot be stored: {error}") from error
        return bool(images)

    def _may_replace(self, line: dict[str, object]) -> bool:
        """Return whether the author of a correction may replace what is stored of its image, if anything is."""
        own = _folder_of(line)
        if not (self._folder / own).exists():
            return True
        known = [each for each in corrections.read(self._folder) if _folder_of(each) == own]
        settled = settle(Statement.of(place, each) for place, each in enumerate(known))
        return settled is None or may_replace(settled.statement, Statement.of(len(known), line))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """Yield the opened CORRECTIONS while no other thread, and no other process, writes to the folder."""
        with self._writing, corrections.locked(self._folder) as file:
            yield file

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

    def _replace(self, images: Mapping[PurePosixPath, bytes], label: Label | None) -> None:
        """Store the images of a cell, and what the sidecar says of them, in place of an earlier correction of the cell.

        Raises DataError, before anything is written, where the sidecar is damaged.
        """
        own, table = next(iter(images)).parts[0], self._folder / LABELS
        known = read_table(table) if table.exists() else {}
        for previous in self._folder.glob(f"{own}/**/*"):
            if previous.is_file():
                previous.unlink()
        for path, raw in images.items():
            (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / path).write_bytes(raw)
        rows = {name: row for name, row in known.items() if not name.startswith(f"{own}/")}
        if label:
            rows |= {str(path): label for path in images}
        if rows != known:
            write_table(table, rows)


def _author() -> dict[str, object]:
    """Return who sends the correction of the current request, as its line has it."""
    current = requester.get()
    if current is None:
        return {"by": None, "scope": FEEDBACK}
    return {"by": current.key, "scope": ADMIN if ADMIN in current.scopes else FEEDBACK}


def _folder_of(line: Mapping[str, object]) -> str:
    """Return the folder of the image of a correction; empty where none was stored."""
    return str(line.get("path") or "").partition("/")[0]


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
