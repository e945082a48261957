"""The installed packages that requirements bring, directly or by what those need in turn."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: Iterable[str]) -> dict[str, str | None]:
    """Return canonical name → installed version of all packages that requirements such as `ray[data]>=2` need here.

    The version is None, and what the package needs is unknown, where it is not installed. What markers rule out for
    this Python and machine is left out. Versions that the requirements ask for are not compared.
    """
    waiting = [(line, "") for line in requirements]
    walked, found = set[tuple[str, str]](), dict[str, str | None]()
    while waiting:
        line, parent_extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in walked:
                continue
            walked.add((name, extra))
            try:
                found[name] = version(name)
                waiting += [(needed, extra) for needed in requires(name) or []]
            except PackageNotFoundError:
                found[name] = None
    return found
