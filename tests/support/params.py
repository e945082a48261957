"""Variations of the project's own parameters."""

import json

from ruamel.yaml import YAML

from tests.support.project import ROOT


def write_params(folder, changes=None):
    """Write a variation of the project's params.yaml, such as `{"train.epochs": 1}`, and return its path."""
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        section = content
        for name in parents:
            section = section[name]
        section[last] = value
    # JSON is YAML, and quoting needs no thought.
    (folder / "params.yaml").write_text(json.dumps(content))
    return folder / "params.yaml"
