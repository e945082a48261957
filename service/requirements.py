"""Print what the service needs, pinned to what is installed here: `python -m service.requirements`.

`service/requirements.txt` holds it for the Bento, which has no use for training: PyTorch and its gigabytes stay out.
"""

import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def pinned() -> list[str]:
    """Return `name==version` of every package that the core and the extra `service` need, on this machine."""
    # Not the metadata of the installed package, which are those of the day it was installed.
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    waiting = [(line, "") for line in project["dependencies"] + project["optional-dependencies"]["service"]]
    resolved: set[tuple[str, str]] = set()
    while waiting:
        line, parent_extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in resolved:
                resolved.add((name, extra))
                waiting += [(needed, extra) for needed in requires(name) or []]
    return sorted({f"{name}=={version(name)}" for name, _ in resolved})


if __name__ == "__main__":
    print("\n".join(pinned()))
