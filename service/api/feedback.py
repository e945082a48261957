"""Corrections of people: what a cell really is, kept for the next version of the data.

The folder is `FATESCOPE_FEEDBACK`, else `feedback` where the service was started. `corrections.jsonl` has a line a
correction: `time`, `task`, `model`, `version`, `sha256` (of the file), `label` (the true class), `called`, `path` (of
the image, where the person let it be kept). An image lies under a path that `dataset.pattern` reads as its true class,
so that `make adopt SRC=feedback` takes it into the data.
"""

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fatescope.data.paths import CORRECTIONS
from service.inference.errors import RequestError
from service.inference.model_pool import Model

FOLDER = "FATESCOPE_FEEDBACK"
DEFAULT = "feedback"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PARTS, _LENGTH = 4, 120

_WRITING = threading.Lock()


@dataclass(frozen=True)
class Correction:
    """What a person says of a cell."""

    file: str
    raw: bytes
    label: str
    called: str
    keep_image: bool


def store(correction: Correction, model: Model) -> dict[str, Any]:
    """Keep a correction; return `sha256`, `kept` and, where the image cannot be adopted, `reason`.

    Raises RequestError for a class that the model does not know, and where nothing can be kept.
    """
    spec = model.spec
    if correction.label not in spec.classes:
        raise RequestError(
            422, "unknown_class", f"'{correction.label}' is none of the classes of {spec.task}: {spec.classes}"
        )
    digest = hashlib.sha256(correction.raw).hexdigest()
    folder = Path(os.environ.get(FOLDER) or DEFAULT)
    place = _place(correction.file, correction.label, spec.params.get("dataset", {}))
    reason = None if place else "its name does not fit dataset.pattern, so `make adopt` cannot tell what it is"
    # Below its hash, because two cells may have the same name.
    path = Path(digest[:12]) / (place or _safe(Path(correction.file).name))
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
        with _WRITING:
            folder.mkdir(parents=True, exist_ok=True)
            if correction.keep_image:
                # A cell that is corrected again is no longer what it was said to be before.
                for old in folder.glob(f"{digest[:12]}/**/*"):
                    if old.is_file():
                        old.unlink()
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(correction.raw)
            with (folder / CORRECTIONS).open("a") as file:
                file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise RequestError(
            503, "feedback", f"corrections cannot be kept here ({error.strerror}); set {FOLDER} to a folder"
        ) from error
    return {"sha256": digest, "kept": correction.keep_image, "reason": reason if correction.keep_image else None}


def _place(file: str, label: str, dataset: dict[str, Any]) -> Path | None:
    """Return a safe relative path that the pattern of the data reads as `label`, if the name of the file allows one."""
    path = "/".join(_safe(part).name for part in Path(file).parts[-_PARTS:] if part not in ("/", "..", "."))
    match = re.compile(dataset["pattern"]).search(path) if dataset.get("pattern") else None
    codes = {name: code for code, name in dataset.get("classes", {}).items()}
    if match is None or label not in codes:
        return None
    start, end = match.span(dataset["label"])
    corrected = path[:start] + codes[label] + path[end:]
    again = re.compile(dataset["pattern"]).search(corrected)
    return Path(corrected) if again and again[dataset["label"]] == codes[label] else None


def _safe(part: str) -> Path:
    return Path(_UNSAFE.sub("_", part).lstrip(".")[-_LENGTH:] or "cell")
