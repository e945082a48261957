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

from fatescope import plural
from fatescope.audit_log import DEFAULT as AUDIT_LOG
from fatescope.data.formats import MAX_PAGES
from fatescope.environment import absolute_paths, wrong_variables
from fatescope.errors import ParamsError
from fatescope.inference.cuda import MEMORY_SHARE
from fatescope.inference.engine_names import EngineChoice
from fatescope.language import settings as language
from fatescope.signing import settings as signing

_PREFIX = "FATESCOPE_"
_SECRET = frozenset({"api_keys", "runner_secret"})
"""Fields whose value an error message must not repeat."""
_NEVER_EMPTY = frozenset({"api_keys", "keys"})
"""Fields whose variable must not be set to nothing: it would open what it is there to close."""
MIN_SECRET = 32
"""Characters of a secret between gateway and runner: half of what `openssl rand -hex 32` prints."""
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
            length = plural.count(len(entry), "character")
            raise ValueError(
                f"an entry of {length} is not a SHA-256 hash in hexadecimal; make a key and its hash "
                "with `fatescope keys new`"
            )
    return tuple(bytes.fromhex(entry) for entry in hashes)


def _parse_key_file(value: object) -> object:
    if value == "":
        raise ValueError(
            "it is set but names no file, and a service without keys answers everyone; set it to the file that "
            "`fatescope keys new NAME` writes, or unset it"
        )
    return value


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


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _parse_address(value: object) -> object:
    if isinstance(value, str) and not re.match(r"https?://[^/]", value):
        raise ValueError("not an HTTP address; write for example http://fatescope-runner:3001")
    return value


Days = Annotated[float | None, Field(gt=0, allow_inf_nan=False)]


class ServiceSettings(BaseSettings):
    """Settings of the service; an empty variable counts as one that is not set, but for those of keys."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True)

    bundles: Path | None = None
    """Folder with one bundle per task (`DIR/binary`, ...), served instead of the champions of the registry."""
    pin: Annotated[dict[str, str] | None, NoDecode, BeforeValidator(_parse_pins)] = None
    """Versions or aliases to serve instead of all champions: `binary=3,multiclass=champion`."""
    poll_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds between two queries of the registry for new champions."""
    api_keys: Annotated[tuple[bytes, ...], NoDecode, BeforeValidator(_parse_key_hashes)] = ()
    """SHA-256 of each accepted key, separated by commas; without any, all may use the service, on 127.0.0.1 only."""
    keys: Annotated[Path | None, BeforeValidator(_parse_key_file)] = None
    """File of named keys with scopes and quotas, from `fatescope keys new NAME`; read again whenever it changes."""
    hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_hosts)] = ()
    """Names, separated by commas, that a service without keys has beside IP addresses and local names."""
    max_cells: Annotated[int, Field(ge=1, le=MAX_PAGES)] = 20_000
    """Largest number of cells in a request; each page of a file is a cell. Over 20,000 files are always refused."""
    engine: EngineChoice | None = None
    """Inference engine, `gpu` any on a GPU; without it, the first one that reproduces the predictions of the bundle."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = MEMORY_SHARE
    """Share of the memory of a GPU that each loaded network may take in ONNX Runtime; two are loaded during a swap."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads that run a network; without it, one per core that the process may use."""
    gateways: Annotated[int, Field(ge=1)] = 1
    """Gateway processes, which decode images and answer requests."""
    decoders: Annotated[int, Field(ge=0)] | None = None
    """Processes of each gateway that decode files; without it, one per core, up to 4; 0 decodes in the gateway."""
    feedback: Path = Path("feedback")
    """Folder for the corrections that users send."""
    feedback_mb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0
    """Megabytes on disk that the folder for corrections may take; beyond, corrections are refused."""
    records: Annotated[Path | None, BeforeValidator(_parse_records)] = Path("records")
    """Folder for the prediction log, from which drift is computed; `off` writes none."""
    retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Days after which files of the prediction log are deleted."""
    price_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of an hour of the machine, in any currency, for the cost of cells in metrics; without it there is none."""
    price_per_kwh: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a kWh, in the same currency, where its energy is not in that of the hour."""
    audit_log: Annotated[Path | None, BeforeValidator(_parse_records)] = AUDIT_LOG
    """Folder for the audit log of the service, of commands and of the pipeline; `off` keeps none."""
    retention_feedback_days: Days = None
    """Days after which corrections are deleted, with their images, and batches of cells to label; without it, never."""
    retention_images_days: Days = None
    """Days after which the images of corrections are deleted, which stay without them; without it, never."""
    retention_audit_log_days: Days = None
    """Days after which entries of the audit log are deleted, for which another one vouches; without it, never."""
    runner: Annotated[str | None, BeforeValidator(_parse_address)] = None
    """Address of the runner, for a gateway that runs as a server of its own."""
    runner_secret: Annotated[str, Field(min_length=MIN_SECRET), BeforeValidator(_strip)] | None = None
    """Secret of gateway and runner, 32 characters or more, where they start apart; together they make one each time."""
    runner_secret_file: Path | None = None
    """File with that secret. Without both it is in `~/.config/fatescope/runner-secret`, made at first use."""
    runner_process: bool | None = None
    """Whether networks run in a process of their own, which all gateways share; without it, where there is a GPU."""
    shadow: bool = False
    """Whether the version `challenger` answers what the champion does, unseen, in a further process a gateway."""
    canary: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the requests to /classify that the version `challenger` answers; taken back by itself on an alarm."""
    canary_by: Literal["request", "client"] = "request"
    """What decides whether the challenger answers: the request, or the client (its key or address) once for all."""
    canary_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Seconds after which the champion answers a decoded cell in place of the challenger."""

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
            # Not the chain: its message repeats what is secret.
            raise wrong_variables(error, variable, _SECRET, cls.model_fields) from None

    @property
    def challenged(self) -> bool:
        """Return whether challengers run at all."""
        return self.shadow or self.canary > 0

    @property
    def host(self) -> str:
        """Return the address to bind to by default: every interface only where a key is required."""
        return "0.0.0.0" if self.asks_for_key else "127.0.0.1"  # noqa: S104  on purpose

    @property
    def asks_for_key(self) -> bool:
        """Return whether requests need a key: also where the file of named ones has none."""
        return bool(self.api_keys) or self.keys is not None


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


def paths_from_here() -> dict[str, str]:
    """Return variable → value for all paths that the service reads, as they are meant in the current folder.

    BentoML starts its processes in the folder of the sources, where a name such as `records` would be another folder
    than the one that commands and the user mean. Raises ParamsError.
    """
    return (
        absolute_paths(ServiceSettings.read(), variable)
        | absolute_paths(signing.SigningSettings.read(), signing.variable)
        | absolute_paths(language.LanguageSettings.read(), language.variable)
    )
