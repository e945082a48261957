"""Tables of cells as a model describes them, drawn without images or a model."""

import numpy as np
import pandas as pd

from fatescope.data.features import ACQUISITION

GROUPS = 8


def population(count, seed, **changes):
    """Draw cells of GROUPS acquisition groups, each with a lamp of its own; `changes` are factors of figures."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, GROUPS, count)
    lamp = 700 + 20 * group
    table = pd.DataFrame(
        {name: rng.normal(1, 0.1, count) * (lamp if name != "saturation" else 0) for name in ACQUISITION}
    )
    table = table.assign(height=rng.integers(40, 50, count), width=rng.integers(55, 65, count))
    embedding = rng.normal(0, 1, (count, 8))
    share = rng.beta(0.5, 0.5, count)
    table = table.assign(
        group=[f"g{each}" for each in group],
        **{f"e{i}": embedding[:, i] for i in range(8)},
        p_a=share,
        p_b=1 - share,
        verdict=np.where(
            rng.random(count) < 0.02, "unlike_training", np.where(rng.random(count) < 0.3, "unsure", "sure")
        ),
    )
    for name, factor in changes.items():
        table[name] = table[name] + factor if name[0] == "e" and name[1:].isdecimal() else table[name] * factor
    return table
