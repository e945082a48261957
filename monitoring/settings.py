"""The settings of the exporter and of the receiver of incidents: command-line options, else environment variables.

The addresses that the two programs listen on are options only: where a Kubernetes Service is named `fatescope`, its
pods have a variable FATESCOPE_PORT that means something else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from fatescope.environment import wrong_variables
from monitoring.findings import MIN_CELLS

_PREFIX = "FATESCOPE_"


def _refuse_off(records: Path) -> Path:
    if str(records) == "off":
        raise ValueError("with FATESCOPE_RECORDS=off the service keeps no prediction log, so that there is no drift")
    return records


class MonitoringSettings(BaseSettings):
    """Settings of monitoring; an empty variable counts as one that is not set."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    service: Annotated[str, Field(pattern=r"^https?://[^/]")] = "http://127.0.0.1:3000"
    """Address of the service to monitor."""
    api_key: SecretStr | None = None
    """Key for the service, where it requires one; not an option, because other users can see those."""
    records: Annotated[Path, AfterValidator(_refuse_off)] = Path("records")
    """Folder with the prediction log of the service."""
    feedback: Path = Path("feedback")
    """Folder with the corrections that users of the service send."""
    accuracy_floor: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Balanced accuracy that is promised, and below which an alert is raised; without it, what the model has shown."""
    window: Annotated[int, Field(ge=MIN_CELLS)] = 500
    """Cells of a task, the newest ones, that are compared with the reference of its model."""
    retention_incidents_days: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Days after its end for which an incident is kept, with its window and report; without it, for ever."""
    interval_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds between two evaluations."""

    @classmethod
    def read(cls, options: Mapping[str, object]) -> Self:
        """Return the settings given as `options` (field → value, None if not given), else in the environment.

        Raises ParamsError with one line for every invalid value.
        """
        given: dict[str, Any] = {field: value for field, value in options.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise wrong_variables(error, _option_or_variable, secret={"api_key"}) from None


_OPTIONS = {
    "service": "--service",
    "records": "--records",
    "feedback": "--feedback",
    "accuracy_floor": "--accuracy-floor",
    "window": "--window",
    "interval_s": "--every",
}


def _option_or_variable(field: str) -> str:
    return f"{_OPTIONS[field]} or {variable(field)}" if field in _OPTIONS else variable(field)


def _option(field: str) -> Any:  # noqa: ANN401  as typer.Option itself
    """Return the command-line option of a field; without it, the environment variable or the default counts."""
    described = MonitoringSettings.model_fields[field]
    default = "" if described.default is None else f", else {described.default}"
    text = f"{described.description} Without the option: {variable(field)}{default}."
    return typer.Option(_OPTIONS[field], help=text)


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return _PREFIX + field.upper()


def variables() -> dict[str, FieldInfo]:
    """Return environment variable → field, which has its default and its description."""
    return {variable(field): described for field, described in MonitoringSettings.model_fields.items()}


Service = Annotated[str | None, _option("service")]
Records = Annotated[Path | None, _option("records")]
Feedback = Annotated[Path | None, _option("feedback")]
Floor = Annotated[float | None, _option("accuracy_floor")]
Window = Annotated[int | None, _option("window")]
Every = Annotated[float | None, _option("interval_s")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
