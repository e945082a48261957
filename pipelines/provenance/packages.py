"""The installed packages that training and the model need."""

from importlib.metadata import PackageNotFoundError, distributions, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("pipelines",)
"""Extras of fatescope that training needs."""


def installed() -> dict[str, str]:
    """Return name → version of what fatescope needs to train, as it is installed here.

    All that is installed, where fatescope itself is not, because then nothing says what it needs.
    """
    try:
        waiting = [(line, extra) for line in requires("fatescope") or [] for extra in ("", *EXTRAS)]
    except PackageNotFoundError:
        return dict(sorted((canonicalize_name(item.name), item.version) for item in distributions()))
    seen, found = set[tuple[str, str]](), dict[str, str]()
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for chosen in {"", *requirement.extras}:
            if (name, chosen) in seen:
                continue
            seen.add((name, chosen))
            try:
                found[name] = version(name)
                waiting += [(needed, chosen) for needed in requires(name) or []]
            except PackageNotFoundError:  # needed on other machines, or not installed
                continue
    return dict(sorted(found.items()))
