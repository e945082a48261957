"""How often the same test groups have been looked at, and what a look may spend.

Every comparison with a champion draws another ticket on the same test cells: at 5 % each, ten challengers that are no
better would bring a promotion in one case of three. The k-th look therefore gets a part of that level that falls
with k squared, so that the parts of all looks together are the level (alpha spending, Lan and DeMets 1983).
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence

DIGITS = 8
"""Of a digest, in base 16."""


def digest(group: str) -> str:
    """Return what a verdict keeps of an acquisition group, so that later ones recognise it."""
    return hashlib.sha256(group.encode()).hexdigest()[:DIGITS]


def count_look(groups: Iterable[str], earlier: Sequence[Collection[str] | None]) -> int:
    """Return which look at `groups` this is: one more than the mean number of earlier ones at each, rounded up.

    `earlier` has the digests of the groups of each earlier comparison; None where they were not kept, which counts as a
    look at every group.
    """
    digests = {digest(group) for group in groups}
    looks = sum(len(digests) if seen is None else len(digests.intersection(seen)) for seen in earlier)
    return 1 + math.ceil(looks / len(digests))


def spend(level: float, look: int) -> float:
    """Return the part of `level` that a look gets; the parts of all looks add up to it."""
    return level * 6 / (math.pi * look) ** 2
