"""All of `params.yaml`, and how it is loaded."""

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from fatescope.config import document
from fatescope.config.data import Dataset, Ingest, Quality, Simulate, Split, Validation
from fatescope.config.evaluation import Audit, Evaluate
from fatescope.config.production import Gate
from fatescope.config.section import Section
from fatescope.config.training import Calibrate, Ensemble, Pretrain, Train
from fatescope.config.tuning import Tune
from fatescope.errors import ParamsError

log = logging.getLogger(__name__)

RETIRED = {"audit": ["repeats"], "evaluate": ["repeats"], "gate": ["seed", "repeats"]}
"""Section → fields that files of earlier versions have, and that nothing reads any more."""
ADDED: dict[str, dict[str, Any]] = {
    "simulate": {
        "media": {"a": 1.0, "o": 1.0, "n": 1.0, "nt3": 1.0},
        "darkfield": False,
        "focus_shift": 0.0,
        "noise_shift": 0.0,
        "gain_shift": 0.0,
        "junk": 0.0,
        "frames": 1,
    },
    "train": {
        "freeze": False,
        "stem": "standard",
        "domain": "none",
        "groups": "pooled",
        "group_step": 1e-3,
        "distil": False,
    },
    "calibrate": {"folds": 3},
    "gate": {"min_groups": 3},
}
"""Section → field → the value of files that are older than the field."""
NEW: dict[str, dict[str, Any]] = {
    "quality": {"exclude": False, "loss": 0.02, "limits": {}},
    "pretrain": {
        "method": "none",
        "seed": 0,
        "epochs": 20,
        "minutes": 30,
        "batch_size": 256,
        "learning_rate": 3e-3,
        "weight_decay": 1e-3,
        "scale": 0.25,
        "shift": 6,
        "focus": 2.0,
        "noise": 0.5,
        "intensity": 0.4,
    },
}
"""Section → its fields, for files that are older than the section."""


class Params(Section):
    """All sections of `params.yaml`."""

    dataset: Dataset
    simulate: Simulate
    ingest: Ingest
    # A field named validate would hide a method of pydantic's models.
    validation: Validation = Field(alias="validate")
    quality: Quality
    split: Split
    audit: Audit
    pretrain: Pretrain
    train: Train
    tune: Tune
    ensemble: Ensemble
    calibrate: Calibrate
    evaluate: Evaluate
    gate: Gate

    def classes(self, task: str) -> list[str]:
        """Return the class names of `task` in the order of the model's outputs."""
        try:
            return self.dataset.tasks[task]
        except KeyError:
            raise ParamsError(f"task '{task}' is not in dataset.tasks, which has {list(self.dataset.tasks)}") from None


def load(path: Path) -> Params:
    """Read `params.yaml`.

    Raises ParamsError that lists every wrong field with the value received.
    """
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read the text of `params.yaml`; raises ParamsError where there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read as text: {error}") from error


def parse(text: str, source: str) -> Params:
    """Parse the text of `params.yaml`; `source` names the file in messages.

    Raises ParamsError that lists every wrong field with the value received.
    """
    written = document.read(text, source)
    content = _update(written)
    try:
        # Through JSON, whose arrays pydantic accepts as tuples in strict mode.
        params = Params.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [
            f"{source}: {'.'.join(map(str, e['loc']))}: {e['msg']} (got {json.dumps(e['input'])[:200]})"
            for e in error.errors(include_url=False)
        ]
        raise ParamsError("\n".join(lines)) from error
    _warn_of_input_channel(written, source)
    return params


def _warn_of_input_channel(written: object, source: str) -> None:
    dataset = written.get("dataset") if isinstance(written, dict) else None
    if isinstance(dataset, dict) and "input_channel" in dataset:
        channel = dataset["input_channel"]
        instead = "channels: null" if channel is None else f"channels: {{'{channel}': brightfield}}"
        log.warning("%s: dataset.input_channel is now dataset.channels; write %s in its place", source, instead)


def _update(content: object) -> object:
    """Return the content of a file as this version writes it; what is no file of settings stays as it is."""
    if not isinstance(content, dict):
        return content
    updated = NEW | content
    for name, section in content.items():
        if isinstance(section, dict):
            kept = {field: value for field, value in section.items() if field not in RETIRED.get(name, ())}
            updated[name] = ADDED.get(name, {}) | kept
    if isinstance(dataset := updated.get("dataset"), dict):
        updated["dataset"] = Dataset.update(dataset)
    return updated
