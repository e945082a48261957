"""What the README promises to work as it stands."""

import re

from ruamel.yaml import YAML

from tests.support.project import ROOT


def preset(name):
    """Return the `dataset` section that the README gives for `name`, as changes to params.yaml."""
    blocks = re.findall(r"```yaml\n# preset: (\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    section = YAML(typ="safe").load(dict(blocks)[name])["dataset"]
    return {f"dataset.{key}": value for key, value in section.items()}
