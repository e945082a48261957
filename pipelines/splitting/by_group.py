"""Deal acquisition groups to training, validation and test, so that no group is in two of them."""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from fatescope import plural
from fatescope.config import Split
from fatescope.data.splits import SPLITS
from fatescope.errors import SplitError
from pipelines.splitting.sides import Floats, Texts, shares

MIN_GROUPS = len(SPLITS)
"""A class needs a group in each split."""


def deal_groups(labels: Texts, groups: Texts, imported: Iterable[str], params: Split) -> dict[str, str]:
    """Return the split of each acquisition group of the (N,) cells.

    `imported` has groups in the order in which they were imported; those that it lacks follow, in the order of their
    names. A group goes where its classes have no group yet, else where most groups are missing to the shares, and a
    little by chance, which the seed decides: without it, the first days of an experiment would all be in training.
    Sizes do not count, because they change when cells are added.
    """
    classes_of = {
        str(name): sorted(of_group.unique()) for name, of_group in pd.Series(labels).groupby(groups, sort=True)
    }
    left_out = set(params.leave_out)
    if unknown := sorted(left_out - set(classes_of)):
        raise SplitError(f"split.leave_out names {unknown}, but the groups are {sorted(classes_of)[:20]}")
    wanted = shares(0.0 if left_out else params.test_share, params.validation_share)
    allowed = wanted > 0
    dealt = {name: np.zeros(len(SPLITS)) for name in np.unique(labels)}
    sides = dict.fromkeys(left_out, "test")
    for group in dict.fromkeys([*imported, *classes_of]):
        if group in sides or group not in classes_of:
            continue
        of_classes = np.array([dealt[name] for name in classes_of[group]])
        begun = of_classes.sum(1, keepdims=True)
        bare = ((of_classes == 0) & (begun > 0)).sum(0)
        missing = (wanted * (begun + 1) - of_classes).sum(0)
        side = np.lexsort((missing + _chance(group, params.seed), bare, allowed))[-1]
        sides[group] = SPLITS[side]
        for name in classes_of[group]:
            dealt[name][side] += 1
    return sides


def find_confounded(labels: Texts, groups: Texts, sides: dict[str, str]) -> dict[str, str]:
    """Return class → why its groups, which are dealt to `sides`, cannot split it."""
    confounded = {}
    for name in np.unique(labels):
        of_class = np.unique(groups[labels == name])
        lacking = [split for split in SPLITS if split not in {sides[group] for group in of_class}]
        if len(of_class) < MIN_GROUPS:
            confounded[str(name)] = f"{plural.count(len(of_class), 'group')}, {MIN_GROUPS} needed"
        elif lacking:
            confounded[str(name)] = f"none of its {len(of_class)} groups is for {' or '.join(lacking)}; add groups"
    return confounded


def _chance(group: str, seed: int) -> Floats:
    """Return (3,) numbers from 0 to 1 that `group` and the seed decide."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])]).random(len(SPLITS))
