"""The installed packages that training and the model need."""

from importlib.metadata import distributions

from packaging.utils import canonicalize_name

from fatescope import packages

PROJECT, EXTRAS = "fatescope", "pipelines"
"""The package, and its extras that training needs."""


def installed() -> dict[str, str]:
    """Return name → version of what fatescope needs to train, as it is installed here.

    All that is installed, where fatescope itself is not, because then nothing says what it needs.
    """
    needed = packages.closure([f"{PROJECT}[{EXTRAS}]"])
    if needed.pop(PROJECT) is None:
        return dict(sorted((canonicalize_name(item.name), item.version) for item in distributions()))
    # What is not installed here is needed on other machines, or was left out.
    return {name: version for name, version in sorted(needed.items()) if version is not None}
