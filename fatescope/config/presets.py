"""Presets: named values for fields of `params.yaml`, kept as YAML files in the folder `presets` beside this module.

A data preset sets the section `dataset` for a known export; a settings preset sets what a search and training cost.
The first line of each file is a comment that gives its title.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from fatescope.config import editing
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
    editing.set_fields(params, editing.round_trip().load(get_preset(name).path))


def _open(path: Path) -> Preset:
    title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
    kind: Literal["data", "settings"] = "data" if "dataset" in YAML(typ="safe", pure=True).load(path) else "settings"
    return Preset(path.stem, kind, title, path)
