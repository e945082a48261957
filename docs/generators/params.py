"""`params.md`: every field of params.yaml, from the sections of `fatescope.config`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from fatescope import config
from generators.markdown import code, docstring, sentence, table
from generators.schema import kind

_PLAIN = re.compile(r"[A-Za-z][\w/ ]*")
"""Texts that YAML reads as such without quotes."""
INTRODUCTION = """\
`params.yaml` holds everything that decides a result, and nothing else. Every field must be there: no value has a
default in the code. Unknown fields and wrong types are refused, with the place and the value received. Paths are in
`dvc.yaml`.

*Value* is that of the file in this version of the project: the quick settings. A preset changes several fields at
once ([Retrain, quickly or thoroughly](../how-to/retrain-thoroughly.md), [Write a
pattern](../how-to/write-a-pattern.md)).
"""


def page(root: Path) -> str:
    """Return the page."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(root / "params.yaml")
    schema = config.Params.model_json_schema(by_alias=True)
    parts = ["# Parameters", INTRODUCTION]
    for name, field in config.Params.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        spelled = field.alias or name
        parts += [f"## {spelled}", docstring(section.__doc__), _fields(spelled, section, schema, content[spelled])]
    parts += ["## Objects inside fields", *_nested(schema)]
    return "\n\n".join(parts)


def _fields(section: str, model: type[BaseModel], schema: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    properties = schema["$defs"][model.__name__]["properties"]
    return table(
        ["field", "meaning", "type", "value"],
        [
            [code(f"{section}.{name}"), sentence(field.description), kind(properties[name]), _shown(values[name])]
            for name, field in model.model_fields.items()
        ],
    )


def _nested(schema: Mapping[str, Any]) -> list[str]:
    """Return a table for each object that is no section itself."""
    sections = {field.annotation for field in config.Params.model_fields.values()}
    parts = []
    for name in schema["$defs"]:
        model = getattr(config, name)
        if model in sections:
            continue
        properties = schema["$defs"][name]["properties"]
        rows = [[code(key), sentence(each.get("description")), kind(each)] for key, each in properties.items()]
        parts += [f"### {name}", docstring(model.__doc__), table(["field", "meaning", "type"], rows)]
    return parts


def _shown(value: object) -> str:
    """Return a value of params.yaml in one line of YAML."""
    if isinstance(value, dict) and len(json.dumps(value)) > 160:
        return "<br>".join(code(f"{key}: {_line(each)}") for key, each in value.items())
    return code(_line(value))


def _line(value: object) -> str:
    """Return `value` as YAML spells it in one line, in its own order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_line(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_line, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else f"'{value}'"
    return json.dumps(value)
