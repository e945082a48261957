"""`http-api.md`: every endpoint and every field of an answer, from the OpenAPI document of the service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generators.markdown import code, docstring, sentence, table
from generators.schema import kind
from service.api.app import build_app

INTRODUCTION = """\
The same document is served as `/openapi.json`, and as a page under `/docs`. [Send cells from a
program](../how-to/send-cells.md) has examples.

Where the service needs a key, send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Every answer has its number
in the header `X-Request-ID`. Besides the endpoints below there are the page (`/`), `/metrics` for Prometheus,
`/readyz` and `/livez`.
"""
METHODS = ("get", "post", "put", "delete")


def page(_: Path) -> str:
    """Return the page."""
    document = build_app().openapi()
    schemas = document["components"]["schemas"]
    parts = ["# HTTP API", INTRODUCTION, "## Endpoints"]
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                parts += [f"### {method.upper()} {path}", *_endpoint(methods[method], schemas)]
    parts += ["## Objects"]
    for name, schema in sorted(schemas.items()):
        if not name.startswith(("Body_", "HTTPValidation", "ValidationError")):
            parts += [f"### {name}", *_object(schema)]
    return "\n\n".join(part for part in parts if part)


def _endpoint(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    parts = [docstring(operation.get("description"))]
    if parameters := operation.get("parameters"):
        rows = [
            [code(each["name"]), each["in"], kind(each["schema"]), sentence(each.get("description"))]
            for each in parameters
        ]
        parts.append(table(["parameter", "in", "type", "meaning"], rows))
    if body := operation.get("requestBody"):
        rows = [[code(media), _body(each.get("schema", {}), schemas)] for media, each in body["content"].items()]
        parts.append(table(["body", "content"], rows))
    rows = [
        [code(status), "; ".join(filter(None, (_response(media, each) for media, each in _contents(answer))))]
        for status, answer in sorted(operation["responses"].items())
        if str(status).startswith("2")
    ]
    parts.append(table(["answer", "content"], rows))
    errors = {str(code_): each for code_, each in operation["responses"].items() if not str(code_).startswith("2")}
    if errors:
        shape = kind(errors[min(errors)]["content"]["application/json"]["schema"], linked=True)
        parts.append(f"Errors ({', '.join(sorted(errors))}) have the body {shape}.")
    return parts


def _contents(answer: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(answer.get("content", {}).items()) or [("", {})]


def _response(media: str, content: Mapping[str, Any]) -> str:
    schema = content.get("schema", {})
    return f"{code(media)} {kind(schema, linked=True) if schema else ''}".strip()


def _body(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if not name.startswith("Body_"):
            return kind(schema, linked=True)
        schema = schemas[name]
    required = schema.get("required", [])
    fields = [
        f"{code(name)} ({kind(each)}{'' if name in required else ', optional'})"
        + (f": {sentence(each.get('description')).removesuffix('.')}" if each.get("description") else "")
        for name, each in schema.get("properties", {}).items()
    ]
    return "; ".join(fields) or kind(schema)


def _object(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        [
            code(name),
            kind(each, linked=True),
            sentence(each.get("description")),
            "" if name in required else "may be absent",
        ]
        for name, each in schema.get("properties", {}).items()
    ]
    return [docstring(schema.get("description")), table(["field", "type", "meaning", ""], rows)]
