"""What monitoring reads: the models and references of a service, and its prediction log."""

import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx
import pandas as pd

from fatescope.inference import record_files
from monitoring.settings import MonitoringSettings

_TIMEOUT_S = 30


@dataclass(frozen=True)
class ServedModel:
    """A model that the service has in use."""

    task: str
    name: str
    version: str
    trained: datetime | None
    """None where the bundle does not say."""
    data_hash: str
    """Hash of the training data; empty where the bundle does not say."""
    prior: tuple[float, ...] | None = None
    """Class shares that its probabilities assume; None from a service that does not say."""

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Self:
        """Return an entry of /models."""
        trained = datetime.fromisoformat(entry["made"]) if entry.get("made") else None
        model = entry["model"]
        prior = tuple(entry["prior"]) if entry.get("prior") else None
        return cls(entry["task"], model["name"], model["version"], trained, entry.get("data_hash", ""), prior)


def connect(settings: MonitoringSettings) -> httpx.Client:
    """Return an HTTP client of the service, with the API key where there is one."""
    key = settings.api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    return httpx.Client(base_url=settings.service, timeout=_TIMEOUT_S, headers=headers)


def fetch_models(client: httpx.Client) -> list[ServedModel]:
    """Return the models that the service has in use, one per task."""
    return [ServedModel.from_json(entry) for entry in client.get("/models").raise_for_status().json()]


def fetch_reference(client: httpx.Client, task: str) -> pd.DataFrame:
    """Return the reference of the model of `task`: the cells that windows are compared with."""
    return pd.read_parquet(io.BytesIO(client.get(f"/reference/{task}").raise_for_status().content))


def read_newest(records: Path, model: ServedModel, count: int) -> pd.DataFrame:
    """Return the newest `count` logged predictions of a model, the oldest first; an empty table if there are none."""
    return record_files.read_newest(records / model.task, model.version, count)
