"""Names of native files and of the runs in them: what they keep of a path of another machine."""

import re

from fatescope.data.instruments import NATIVE

_MAX_NAME = 200


def is_native(path: str) -> bool:
    """Return whether a path is called like a .cif or .rif."""
    return path.lower().endswith(NATIVE)


def base_name(path: str) -> str:
    """Return the name of a file from its path on any system: its folders name people."""
    return re.split(r"[\\/]", path.strip())[-1][:_MAX_NAME]


def run_name(path: str) -> str:
    """Return the name of an acquisition from the path of its raw file."""
    return re.sub(r"\.rif$", "", base_name(path), flags=re.IGNORECASE)
