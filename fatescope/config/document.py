"""The text of `params.yaml` as JSON types: names are text, whatever YAML takes them for.

YAML reads an unquoted `001` as the number 1, `1.10` as 1.1, and `null` and `true` as no text either. In the fields of
NAMES they are the labels and classes that somebody wrote, and are taken as they stand in the file. DVC reads the file
too; what it fails on has to be in quotes.
"""

from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tag import Tag

from fatescope.errors import ParamsError

NAMES = (
    ("dataset", "label"),
    ("dataset", "classes"),
    ("dataset", "group"),
    ("dataset", "ranges"),
    ("dataset", "tasks"),
    ("dataset", "hierarchy"),
    ("split", "leave_out"),
)
"""Sections and fields in which every key, and every value that is not a number of `ranges`, is a name."""
SIGNED = ("gate", "signed_off")
CHANNELS = (("dataset", "channels"), ("dataset", "marker_channels"), ("dataset", "input_channel"))
"""Names, or null; the last in files of earlier versions."""
_TEXT = "tag:yaml.org,2002:str"
_KINDS = {f"tag:yaml.org,2002:{name}": "number" for name in ("int", "float", "bool")}
"""Tags of keys that can be sorted together."""


def read(text: str, source: str) -> object:
    """Return the content of a YAML document; `source` names the file in messages.

    Raises ParamsError where it is not YAML, and where DVC, which reads the file too, needs a name to be in quotes.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        # As DVC and the presets read it: `001` and `1` would be one key there.
        yaml.load(text)
        node = yaml.compose(text)
        if unquoted := sorted({scalar.value for scalar in _unfit_for_dvc(node)}):
            quoted = ", ".join(f"'{value}'" for value in unquoted)
            raise ParamsError(
                f"{source}: {', '.join(unquoted)}: YAML does not read this as text; write {quoted} in quotes"
            )
        for name in _names(node):
            name.ctag = Tag(suffix=_TEXT)
        return _as_json(yaml.constructor.construct_document(node)) if node is not None else None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{source}: not YAML: {error}") from error


def _unfit_for_dvc(node: Node | None) -> Iterator[ScalarNode]:
    """Yield what DVC fails on, or reads as another name."""
    tasks = _field(node, ("dataset", "tasks"))
    # It would name the stages of such a task by what YAML makes of it.
    yield from _keys_that_are_no_text(tasks)
    yield from (scalar for scalar in _scalars(node) if scalar.tag == "tag:yaml.org,2002:timestamp")
    for mapping in _mappings(node):
        # It sorts the keys, which Python does not do with text and numbers, or nothing, side by side.
        kinds = {_KINDS.get(str(key.tag), str(key.tag)) for key, _ in mapping.value}
        if len(kinds) > 1:
            yield from _keys_that_are_no_text(mapping)


def _keys_that_are_no_text(node: Node | None) -> Iterator[ScalarNode]:
    for key, _ in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.tag != _TEXT:
            yield key


def _mappings(node: Node | None) -> Iterator[MappingNode]:
    """Yield all mappings from `node` on."""
    if isinstance(node, MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _mappings(item)


def _names(node: Node | None) -> Iterator[ScalarNode]:
    for path in NAMES:
        numbers = path[-1] == "ranges"
        yield from _scalars(_field(node, path), keys_alone=numbers)
    yield from _scalars(_field(node, SIGNED))
    for path in CHANNELS:
        channels = _field(node, path)
        if not (isinstance(channels, ScalarNode) and channels.tag == "tag:yaml.org,2002:null"):
            yield from _scalars(channels)


def _field(node: Node | None, path: tuple[str, ...]) -> Node | None:
    """Return the value at `path`, or None where there is none."""
    for name in path:
        entries = node.value if isinstance(node, MappingNode) else ()
        node = next((value for key, value in entries if key.value == name), None)
    return node


def _scalars(node: Node | None, *, keys_alone: bool = False) -> Iterator[ScalarNode]:
    """Yield all scalars below `node`, or the keys of a mapping alone."""
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            if not keys_alone:
                yield from _scalars(value)


def _as_json(content: object) -> object:
    """Return `content` with text in place of what JSON does not have: dates, and keys that are not text."""
    if isinstance(content, dict):
        return {key if isinstance(key, str) else str(key): _as_json(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_as_json(item) for item in content]
    return content if content is None or isinstance(content, bool | int | float | str) else str(content)
