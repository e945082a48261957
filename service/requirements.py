"""Print what the service needs, as constraints.txt pins it: `python -m service.requirements`.

`service/requirements.txt` holds it for the Bento, which has no use for training: PyTorch and its gigabytes stay out.
"""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fatescope import packages
from fatescope.errors import FatescopeError

ROOT = Path(__file__).parent.parent


def pinned() -> list[str]:
    """Return the pins, for every Python, of all packages that the core and the extra `service` need.

    Raises KeyError for a package that constraints.txt does not pin, and FatescopeError for one that is not installed.
    """
    needed = _needed()
    if absent := sorted(name for name, version in needed.items() if version is None):
        raise FatescopeError(
            f"{', '.join(absent)}: not installed, so that nothing says what else is needed; run "
            "`pip install -c constraints.txt -e '.[service]'`"
        )
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pins.setdefault(canonicalize_name(Requirement(line).name), []).append(line)
    return [line for name in sorted(needed) for line in pins[name]]


def _needed() -> dict[str, str | None]:
    # Not the metadata of the installed project, which are those of the day it was installed.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return packages.closure(project["dependencies"] + project["optional-dependencies"]["service"])


if __name__ == "__main__":
    print("\n".join(pinned()))
