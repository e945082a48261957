"""Change fields of `params.yaml` while its comments and its order stay."""

import io
from collections.abc import Mapping
from pathlib import Path
from shutil import copymode

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from fatescope.atomic import replacing
from fatescope.config.params import NEW, Params, parse, read_text
from fatescope.errors import ParamsError

RENAMED = {("dataset", "channels"): "input_channel"}
"""Section and field → its name in files of earlier versions."""
Values = Mapping[str, Mapping[str, object]]
"""Section → field → value."""


def set_fields(params: Path, values: Values) -> Params:
    """Write `values` into the file `params`, a field whole, and return what it says then.

    The file is replaced at once, and only by one that `fatescope.config.load` accepts. Raises ParamsError where the
    file or the result is not valid.
    """
    text = with_fields(read_text(params), values, str(params))
    result = parse(text, str(params))
    path = params.resolve()
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
        copymode(path, part)
    return result


def preview(params: Path, values: Values) -> Params:
    """Return what the file `params` would say with `values`; raises ParamsError where that is not valid."""
    return parse(with_fields(read_text(params), values, str(params)), str(params))


def with_fields(text: str, values: Values, source: str) -> str:
    """Return the `text` of a file with `values`; `source` names the file in messages. Raises ParamsError."""
    yaml = round_trip()
    try:
        content = yaml.load(text)
    except YAMLError as error:
        raise ParamsError(f"{source}: not YAML: {error}") from error
    for section, fields in values.items():
        if isinstance(content, CommentedMap) and section in NEW:
            added = {field: _as_yaml(value) for field, value in NEW[section].items()}
            content.setdefault(section, CommentedMap(added))
        target = content.get(section) if isinstance(content, CommentedMap) else None
        if not isinstance(target, CommentedMap):
            raise ParamsError(f"{source}: has no section '{section}', which is to be changed; restore the section")
        comments = fields.ca.items if isinstance(fields, CommentedMap) else {}
        for field, value in fields.items():
            if (earlier := RENAMED.get((section, field))) in target:
                _rename(target, str(earlier), field)
            target[field] = _as_yaml(value)
            if comment := comments.get(field):
                target.ca.items[field] = comment
    merged = io.StringIO()
    yaml.dump(content, merged)
    return merged.getvalue()


def _rename(section: CommentedMap, earlier: str, name: str) -> None:
    """Put the field `name` into the place of an `earlier` one, whose comment stays at the end of the line."""
    place, comment = list(section).index(earlier), section.ca.items.pop(earlier, None)
    del section[earlier]
    if name not in section:
        section.insert(place, name, None)
        if comment:
            section.ca.items[name] = comment


def round_trip() -> YAML:
    """Return what reads YAML with its comments and quotes."""
    yaml = YAML()
    yaml.preserve_quotes = True
    # Lines stay as long as they are.
    yaml.width = 4096
    return yaml


def _as_yaml(value: object) -> object:
    """Return `value` as the file spells it: lists and mappings in a line, but for mappings of those, in one each."""
    if isinstance(value, CommentedMap | CommentedSeq):
        return value
    if isinstance(value, Mapping):
        mapping = CommentedMap({key: _as_yaml(item) for key, item in value.items()})
        if not any(isinstance(item, list | tuple) for item in value.values()):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq([_as_yaml(item) for item in value])
        sequence.fa.set_flow_style()
        return sequence
    return SingleQuotedScalarString(value) if isinstance(value, str) and "\\" in value else value
