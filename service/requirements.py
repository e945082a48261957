"""Print what the service needs, as constraints.txt pins it: `python -m service.requirements`.

`service/requirements.txt` holds it for the Bento, which has no use for training: PyTorch and its gigabytes stay out.
"""

import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pinned() -> list[str]:
    """Return the pins, for every Python, of all packages that the core and the extra `service` need.

    Raises KeyError for a package that constraints.txt does not pin.
    """
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pins.setdefault(canonicalize_name(Requirement(line).name), []).append(line)
    return [line for name in sorted(_closure()) for line in pins[name]]


def _closure() -> set[str]:
    """Return the canonical names of the packages, by what the packages installed here require."""
    # Not the metadata of the installed project, which are those of the day it was installed.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
    return {name for name, _ in resolved}


if __name__ == "__main__":
    print("\n".join(pinned()))
