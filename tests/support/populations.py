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


def runs(count, cells, seed, *, medium=0.0):
    """Draw cells of `count` runs of a simulated instrument, each with a lamp, focus and embedding of its own.

    Cells of another `medium` lie elsewhere in the embedding, by that many standard deviations.
    """
    rng = np.random.default_rng(seed)

    def each(*shape):
        return rng.normal(0, 1, (count, cells, *shape)).reshape(count * cells, *shape)

    def of_run(values):
        return np.repeat(values, cells, axis=0)

    light = of_run(rng.uniform(620, 880, count)) * (1 + 0.035 * each())
    table = pd.DataFrame(
        {
            "background": light,
            "background_spread": 0.009 * light * (1 + 0.15 * each()),
            "mean": 0.99 * light + 2 * each(),
            "spread": 0.033 * light * (1 + 0.15 * each()),
            "darkest": 0.77 * light * (1 + 0.05 * each()),
            "brightest": 1.06 * light * (1 + 0.02 * each()),
            "focus": 2 + of_run(0.15 * rng.normal(size=count)) + 0.4 * each(),
            "saturation": 0.0,
            "height": np.rint(45 + 4.5 * each()),
            "width": np.rint(60 + 6 * each()),
        }
    )
    embedding = each(8) + of_run(0.15 * rng.normal(size=(count, 8)))
    embedding[:, 1:3] += medium
    share = 1 / (1 + np.exp(-4 * embedding[:, 0]))
    chance = rng.random(len(table))
    return table.assign(
        group=[f"r{i}" for i in np.repeat(np.arange(count), cells)],
        **{f"e{i}": embedding[:, i] for i in range(8)},
        p_a=share,
        p_b=1 - share,
        verdict=np.select([chance < 0.02, chance < 0.3], ["unlike_training", "unsure"], "sure"),
    )
