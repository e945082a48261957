"""Presets: named values for fields of `params.yaml`, kept as YAML files in the folder `presets` beside this module.

A data preset sets the section `dataset` for a known export; a settings preset sets what a search and training cost.
The first line of each file is a comment that gives its title.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copymode
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from fatescope.atomic import replacing
from fatescope.config.params import parse, read_text
from fatescope.errors import ParamsError

FOLDER = Path(__file__).with_suffix("")


@dataclass(frozen=True)
class Preset:
    """A named set of values for `params.yaml`."""

    name: str
    """The name of its file without the suffix."""
    kind: Literal["data", "settings"]
    """Whether it describes an export of images, or what a search and training cost."""
    title: str
    """One line for people."""
    path: Path
    """Its YAML file: section → field → value."""

    def values(self) -> dict[str, dict[str, Any]]:
        """Return section → field → value, as JSON types."""
        content: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(self.path)
        return content


def list_presets() -> list[Preset]:
    """Return all presets: those of data, then those of settings, each kind by name."""
    presets = [_open(path) for path in FOLDER.glob("*.yaml")]
    return sorted(presets, key=lambda preset: (preset.kind, preset.name))


def get_preset(name: str) -> Preset:
    """Return the preset `name`; raises ParamsError that lists the known ones where there is none."""
    presets = {preset.name: preset for preset in list_presets()}
    if name not in presets:
        raise ParamsError(f"preset '{name}' does not exist; choose one of {', '.join(presets)}")
    return presets[name]


def apply_preset(params: Path, name: str) -> None:
    """Write the values of the preset `name` into the file `params`, whose comments and order stay.

    A field takes the preset's value whole: the classes of a data preset replace those of the file. The file is
    replaced at once, and only by one that `fatescope.config.load` accepts.
    Raises ParamsError for an unknown name, or where the file or the result is not valid.
    """
    preset = get_preset(name)
    yaml = YAML()
    yaml.preserve_quotes = True
    # Lines stay as long as they are.
    yaml.width = 4096
    try:
        content = yaml.load(read_text(params))
    except YAMLError as error:
        raise ParamsError(f"{params}: not YAML: {error}") from error
    _merge(content, yaml.load(preset.path), params)
    merged = io.StringIO()
    yaml.dump(content, merged)
    parse(merged.getvalue(), str(params))
    _replace(params.resolve(), merged.getvalue())


def _open(path: Path) -> Preset:
    title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
    kind: Literal["data", "settings"] = "data" if "dataset" in YAML(typ="safe", pure=True).load(path) else "settings"
    return Preset(path.stem, kind, title, path)


def _merge(content: object, preset: Mapping[str, CommentedMap], params: Path) -> None:
    """Set the fields of `preset` in `content`, with the comments that the preset has at the end of their lines."""
    for section, fields in preset.items():
        target = content.get(section) if isinstance(content, CommentedMap) else None
        if not isinstance(target, CommentedMap):
            raise ParamsError(f"{params}: has no section '{section}', which the preset changes; restore the section")
        for field, value in fields.items():
            target[field] = value
            if comment := fields.ca.items.get(field):
                target.ca.items[field] = comment


def _replace(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
        copymode(path, part)
