"""The environment variables that the service reads, in one place.

Each program reads them once, where it starts (gateway, runner, `service.standalone`, `service.registry.registry_sync`,
`service.batch`), and passes on what its parts need. Libraries read two more: MLflow `MLFLOW_TRACKING_URI`, CUDA
`CUDA_VISIBLE_DEVICES`.
"""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fatescope.data.formats import MAX_PAGES
from fatescope.errors import ParamsError

EngineName = Literal["cuda", "torch-cuda", "openvino-bf16", "openvino", "onnxruntime", "torch"]
_PREFIX = "FATESCOPE_"
_SECRET = frozenset({"api_keys"})
"""Fields whose value an error message must not repeat."""
_NEVER_EMPTY = frozenset({"api_keys"})
"""Fields whose variable must not be set to nothing: it would open what it is there to close."""
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


def _parse_pins(value: object) -> object:
    if not isinstance(value, str):
        return value
    pins = {}
    for entry in value.split(","):
        task, _, version = (part.strip() for part in entry.partition("="))
        if not task or not version:
            raise ValueError(f"'{entry.strip()}' is not TASK=VERSION; write for example binary=3,multiclass=champion")
        pins[task] = version
    return pins


def _parse_key_hashes(value: object) -> object:
    if not isinstance(value, str):
        return value
    hashes = [entry.strip().lower() for entry in value.split(",") if entry.strip()]
    if not hashes:
        raise ValueError(
            "it is set but holds no key, and a service without keys answers everyone; set it to the hash of a key "
            "(`fatescope keys new`), or unset it"
        )
    for entry in hashes:
        if not re.fullmatch(r"[0-9a-f]{64}", entry):
            raise ValueError(
                f"an entry of {len(entry)} characters is not a SHA-256 hash in hexadecimal; make a key and its hash "
                "with `fatescope keys new`"
            )
    return tuple(bytes.fromhex(entry) for entry in hashes)


def _parse_records(value: object) -> object:
    return None if value == "off" else value


def _parse_hosts(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = tuple(entry.strip().lower() for entry in value.split(","))
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' is not a host name without scheme and port; write for example cells.example.org"
            )
    return names


def _parse_address(value: object) -> object:
    if isinstance(value, str) and not re.match(r"https?://[^/]", value):
        raise ValueError("not an HTTP address; write for example http://fatescope-runner:3001")
    return value


class ServiceSettings(BaseSettings):
    """Settings of the service; an empty variable counts as one that is not set, but for `FATESCOPE_API_KEYS`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True)

    bundles: Path | None = None
    """Folder with one bundle per task (`DIR/binary`, ...), served instead of the champions of the registry."""
    pin: Annotated[dict[str, str] | None, NoDecode, BeforeValidator(_parse_pins)] = None
    """Versions or aliases to serve instead of all champions: `binary=3,multiclass=champion`."""
    poll_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds between two queries of the registry for new champions."""
    api_keys: Annotated[tuple[bytes, ...], NoDecode, BeforeValidator(_parse_key_hashes)] = ()
    """SHA-256 of each accepted key, separated by commas; without any, all may use the service, on 127.0.0.1 only."""
    hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_hosts)] = ()
    """Names, separated by commas, that a service without keys has beside IP addresses and local names."""
    max_cells: Annotated[int, Field(ge=1, le=MAX_PAGES)] = 20_000
    """Largest number of cells in a request; each page of a file is a cell. Over 20,000 files are always refused."""
    engine: EngineName | None = None
    """Inference engine; without it, the first one for this machine that reproduces the predictions of the bundle."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of one inference; without it, one per core that the process may use."""
    gateways: Annotated[int, Field(ge=1)] = 1
    """Gateway processes, which decode images and answer requests."""
    feedback: Path = Path("feedback")
    """Folder for the corrections that users send."""
    feedback_mb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    """Megabytes on disk that the folder for corrections may take; beyond, corrections are refused."""
    records: Annotated[Path | None, BeforeValidator(_parse_records)] = Path("records")
    """Folder for the prediction log, from which drift is computed; `off` writes none."""
    retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Days after which files of the prediction log are deleted."""
    runner: Annotated[str | None, BeforeValidator(_parse_address)] = None
    """Address of the runner, for a gateway that runs as a server of its own."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in values.items() if value != "" or name in _NEVER_EMPTY}

    @classmethod
    def read(cls) -> Self:
        """Read the settings from the environment; raises ParamsError with one line per invalid variable."""
        try:
            return cls()
        except ValidationError as error:
            problems = error.errors(include_url=False)
        lines = []
        for problem in problems:
            field, rule = str(problem["loc"][0]), problem["msg"]
            value = "" if field in _SECRET else f"={problem['input']}"
            if problem["type"] == "value_error":
                rule = rule.removeprefix("Value error, ")
            else:
                rule = f"{rule[0].lower()}{rule[1:]}. {cls.model_fields[field].description}"
            lines.append(f"{variable(field)}{value}: {rule}")
        raise ParamsError("\n".join(lines))

    @property
    def host(self) -> str:
        """Return the address to bind to by default: every interface only where a key is required."""
        return "0.0.0.0" if self.api_keys else "127.0.0.1"  # noqa: S104  on purpose


def read_or_exit() -> ServiceSettings:
    """Read the settings, or end the program with the error."""
    try:
        return ServiceSettings.read()
    except ParamsError as error:
        sys.exit(f"error: {error}")


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return _PREFIX + field.upper()


def variables() -> dict[str, FieldInfo]:
    """Return environment variable → field, which has its default and its description."""
    return {variable(name): field for name, field in ServiceSettings.model_fields.items()}
