"""Corrections by users: the true class of a cell, kept for the next version of the data.

`corrections.jsonl` in the folder has one line per correction: `time`, `task`, `model`, `version`, `sha256` (of the
file), `label` (the true class), `called` (the predicted class) and `path` (of the image, if the user allowed it to be
stored). An image is stored under a path that `dataset.pattern` parses as its true class, so that
`make adopt SRC=feedback` imports it.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fatescope.data.paths import CORRECTIONS
from service.inference.errors import RequestError
from service.inference.model_pool import ServedModel
from service.settings import variable

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_PATH_PARTS, _MAX_NAME_LENGTH = 4, 120
_HASH_DIGITS = 12


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

    def __init__(self, folder: Path) -> None:
        self._folder, self._writing = folder, threading.Lock()

    def add(self, correction: Correction, model: ServedModel) -> StoredCorrection:
        """Store a correction; raises RequestError for a class unknown to the model, and if nothing can be written."""
        spec = model.spec
        if correction.label not in spec.classes:
            raise RequestError(
                422, "unknown_class", f"'{correction.label}' is not a class of task {spec.task}: {spec.classes}"
            )
        digest = hashlib.sha256(correction.raw).hexdigest()
        corrected = _corrected_path(correction.file, correction.label, spec.params.get("dataset", {}))
        # In a folder of its own, because two cells may have the same name.
        path = Path(digest[:_HASH_DIGITS]) / (corrected or _sanitise(Path(correction.file).name))
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": spec.task,
            "model": model.champion.name,
            "version": model.champion.version,
            "sha256": digest,
            "label": correction.label,
            "called": correction.called,
            "path": str(path) if correction.keep_image else None,
        }
        try:
            with self._writing:
                self._folder.mkdir(parents=True, exist_ok=True)
                if correction.keep_image:
                    self._write_image(path, correction.raw)
                with (self._folder / CORRECTIONS).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        except OSError as error:
            message = f"corrections cannot be stored ({error.strerror}); set {variable('feedback')} to a folder"
            raise RequestError(503, "feedback", message) from error
        reason = "its name does not match dataset.pattern, so that `make adopt` cannot read its class from it"
        return StoredCorrection(
            digest, correction.keep_image, reason if correction.keep_image and not corrected else None
        )

    def _write_image(self, path: Path, raw: bytes) -> None:
        # A second correction of a cell replaces the first.
        for previous in self._folder.glob(f"{path.parts[0]}/**/*"):
            if previous.is_file():
                previous.unlink()
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_bytes(raw)


def _corrected_path(file: str, label: str, dataset: dict[str, Any]) -> Path | None:
    """Return a safe relative path that `dataset.pattern` parses as `label`, or None if the file name does not match."""
    names = [part for part in Path(file).parts[-_MAX_PATH_PARTS:] if part not in ("/", "..", ".")]
    path = "/".join(_sanitise(name).name for name in names)
    match = re.compile(dataset["pattern"]).search(path) if dataset.get("pattern") else None
    codes = {name: code for code, name in dataset.get("classes", {}).items()}
    if match is None or label not in codes:
        return None
    start, end = match.span(dataset["label"])
    corrected = path[:start] + codes[label] + path[end:]
    parsed = re.compile(dataset["pattern"]).search(corrected)
    return Path(corrected) if parsed and parsed[dataset["label"]] == codes[label] else None


def _sanitise(name: str) -> Path:
    return Path(_UNSAFE.sub("_", name).lstrip(".")[-_MAX_NAME_LENGTH:] or "cell")
