"""`environment.md`: every environment variable, from the settings objects of the three programs."""

import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from fatescope.language.settings import LanguageSettings
from fatescope.signing.settings import SigningSettings
from generators.markdown import code, sentence, table
from monitoring.settings import MonitoringSettings
from pipelines.settings import PipelineSettings
from service.otlp import TracingSettings
from service.settings import ServiceSettings

INTRODUCTION = """\
What differs from machine to machine is in the environment; what decides a result is in [params.yaml](params.md). An
empty variable counts as one that is not set (but `FATESCOPE_API_KEYS` and `FATESCOPE_KEYS`,
where it is an error), and a wrong value ends
the program with the variable and the reason.
"""
PROGRAMS: dict[str, type[BaseSettings]] = {
    "Service": ServiceSettings,
    "Signatures": SigningSettings,
    "Language models": LanguageSettings,
    "Traces": TracingSettings,
    "Pipeline": PipelineSettings,
    "Monitoring": MonitoringSettings,
}
OTHERS = {
    "MLFLOW_TRACKING_URI": "The MLflow server with runs and registry; without it, `mlflow.db` in the current folder.",
    "CUDA_VISIBLE_DEVICES": "The GPUs that may be used; `-1` for none.",
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY": "Keys of an S3 bucket, for MLflow's server and DVC.",
    "MLFLOW_S3_ENDPOINT_URL": "An S3 that is not Amazon's, for MLflow's server.",
    "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH": "The token of a Ray cluster, or its file; `~/.ray/auth_token` without.",
    "RAY_AUTH_MODE": "`token` unless set here; `disabled` allows a Ray cluster that asks nobody for a token.",
    "BENTOML_HOME": "Where BentoML keeps Bentos.",
}
"""Variables that libraries read → what they do here."""


def page(_: Path) -> str:
    """Return the page."""
    parts = ["# Environment", INTRODUCTION]
    for heading, settings in PROGRAMS.items():
        parts += [f"## {heading}", table(["variable", "meaning", "default"], _rows(settings))]
    others = [[", ".join(map(code, names.split(", "))), meaning] for names, meaning in OTHERS.items()]
    parts += ["## Read by libraries", table(["variable", "meaning"], others)]
    return "\n\n".join(parts)


def _rows(settings: type[BaseSettings]) -> Iterator[list[str]]:
    for name, field in settings.model_fields.items():
        spelled = [str(each) for each in _spelled(settings, name, field)]
        choices = [code(each) for each in _choices(field.annotation)]
        meaning = sentence(field.description) + (f" One of {', '.join(choices)}." if choices else "")
        yield [", ".join(map(code, spelled)), meaning, _default(field)]


def _spelled(settings: type[BaseSettings], name: str, field: FieldInfo) -> list[object]:
    """Return the variables that set a field."""
    alias = field.validation_alias or field.alias
    if isinstance(alias, AliasChoices):
        return list(alias.choices)
    return [alias or f"{settings.model_config.get('env_prefix', '')}{name}".upper()]


def _choices(annotation: object) -> list[str]:
    """Return the values of a Literal, also of one that may be None."""
    if typing.get_origin(annotation) is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    return [value for part in typing.get_args(annotation) for value in _choices(part)]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value == () else code(f"{value:g}" if isinstance(value, float) else value)
