"""The environment variables of an endpoint of a language model, which pipeline, service and command line share."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fatescope.environment import wrong_variables
from fatescope.errors import ParamsError

PREFIX = "FATESCOPE_LANGUAGE_"


def _parse_address(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise ValueError("not an HTTP address; write for example http://127.0.0.1:8000/v1")
    # Messages and reports name the address.
    if isinstance(value, str) and "@" in value.split("/")[2]:
        raise ValueError(f"it holds a name or a password, which every message would repeat; use {variable('key')}")
    return value.rstrip("/") if isinstance(value, str) else value


def _parse_key(value: object) -> object:
    if isinstance(value, str) and not (value.strip().isascii() and value.strip().isprintable()):
        raise ValueError("it has characters that no header can hold; copy the key again")
    return value.strip() if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LanguageSettings(BaseSettings):
    """Which language model is asked, and how much may be spent on it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    url: Annotated[str, BeforeValidator(_parse_address)] | None = None
    """Address of an OpenAI-compatible endpoint, up to `/v1`: of vLLM, llama.cpp, Ollama or a provider. Without it no
    language model is asked."""
    model: str | None = None
    """Name of the model at that address."""
    key: Annotated[SecretStr, BeforeValidator(_parse_key)] | None = None
    """Key of the endpoint, sent as a bearer token; without it none is sent."""
    timeout_s: Seconds = 60.0
    """Seconds that one answer may take, from the first byte sent to the last one received."""
    tries: PositiveInt = 4
    """How often a request is tried that the endpoint is too busy for, or that fails on the way."""
    max_requests: PositiveInt = 1000
    """Requests that a process may send, tries included: the service in a day, a command while it runs."""
    max_tokens: PositiveInt = 2_000_000
    """Tokens that it may use in the same time, those of prompts and answers together."""
    max_cost: Amount | None = None
    """What it may spend in the same time, in the currency of the prices; needs both."""
    price_in: Amount | None = None
    """Price of a million tokens of prompts, in any currency."""
    price_out: Amount | None = None
    """Price of a million tokens of answers, in the same currency."""
    cache: Path | None = None
    """Folder that keeps answers, so that what was asked before costs nothing; without it none are kept."""

    @classmethod
    def read(cls) -> Self:
        """Read the settings from the environment; raises ParamsError with one line per invalid variable."""
        try:
            settings = cls()
        except ValidationError as error:
            raise wrong_variables(error, variable, secret={"key"}) from None
        if (settings.url is None) != (settings.model is None):
            raise ParamsError(f"{variable('url')} and {variable('model')} go together; set both or none")
        if settings.max_cost is not None and (settings.price_in is None or settings.price_out is None):
            raise ParamsError(
                f"{variable('max_cost')} needs {variable('price_in')} and {variable('price_out')}: without prices "
                "nothing says what a request costs"
            )
        return settings


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return PREFIX + field.upper()
