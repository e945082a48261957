"""What is otherwise in the environment of a rebuild than when the version was made."""

from pipelines.provenance.recipe import Recipe
from pipelines.verification.report import Difference


def find_differences(recorded: Recipe, used: Recipe) -> list[Difference]:
    """Return the facts of machines, and then the versions of packages, that differ between two recipes."""
    facts = [
        (name, str(before), str(after))
        for name, before in recorded.machine
        for after in [getattr(used.machine, name)]
        if before != after
    ]
    packages = [
        (name, recorded.packages.get(name), used.packages.get(name))
        for name in sorted(recorded.packages.keys() | used.packages.keys())
        if recorded.packages.get(name) != used.packages.get(name)
    ]
    return [Difference(name=name, recorded=before, used=after) for name, before, after in (*facts, *packages)]
