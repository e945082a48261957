"""Small files that were read wrongly once, beside the project."""

import pytest

from tests.support.project import SHARED


def case(name):
    """Return the path of a file among the cases; skips where the folder of real images is not beside the project."""
    path = SHARED / "cases" / name
    if not path.exists():
        pytest.skip(f"the case is not here: {path}")
    return path
