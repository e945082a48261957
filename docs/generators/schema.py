"""JSON schemas in words."""

from collections.abc import Mapping
from typing import Any

from generators.markdown import anchor

_LIMITS = {
    "minimum": "≥ {:g}",
    "exclusiveMinimum": "> {:g}",
    "maximum": "≤ {:g}",
    "exclusiveMaximum": "< {:g}",
    "minLength": "not empty",
    "minItems": "not empty",
    "maxItems": "at most {:,} items",
    "pattern": "matching `{}`",
}
_LARGE = 10**15
"""A limit beyond this is there for machines and tells people nothing."""


def kind(schema: Mapping[str, Any], *, linked: bool = False) -> str:
    """Return what a value of `schema` is, with its limits; `linked` objects are links to their headings."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}](#{anchor(name)})" if linked else name
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(choice, linked=linked) for choice in choices))
    return _plain(schema, linked=linked) + _limits(schema)


def _plain(schema: Mapping[str, Any], *, linked: bool) -> str:
    name = schema.get("type", "anything")
    if name == "array" and "prefixItems" in schema:
        return "[" + ", ".join(kind(item, linked=linked) for item in schema["prefixItems"]) + "]"
    if name == "array":
        return f"list of {kind(schema.get('items', {}), linked=linked)}"
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {kind(schema['additionalProperties'], linked=linked)}"
    if name == "string":
        binary = schema.get("format") == "binary" or schema.get("contentMediaType")
        return {"date-time": "date and time"}.get(schema.get("format", ""), "file" if binary else "text")
    return {"null": "null", "boolean": "true or false", "integer": "integer", "number": "number"}.get(name, name)


def _limits(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return ""
    told = [
        text.format(schema[name])
        for name, text in _LIMITS.items()
        if name in schema and not (isinstance(schema[name], int | float) and abs(schema[name]) >= _LARGE)
    ]
    return f" ({', '.join(told)})" if told else ""
