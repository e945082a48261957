"""How often the drift detector raises an alarm without drift, and how often it finds drift.

Run with `fatescope bench drift` after `fatescope repro` on the default data; about 15 minutes. The detector is the one
that watches in production, with the bundle's own reference. New cells are drawn by `pipelines.commands.simulate` with
the lamp, gain and focus of the test groups of that reference (unseen cells of the same runs), and then changed. It
writes `docs/explanation/drift.md` and `reports/bench/drift.json`.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.drift_cells import CHANGES, SEED, Crops, Key, describe, draw
from benchmarks.drift_figures import (
    HALF,
    HELD,
    LIKE,
    LIKE_GROUP,
    LOOKS,
    SIZES,
    STREAMS,
    UNSEEN,
    WINDOW,
    WINDOWS,
    Measured,
    Shares,
)
from benchmarks.report import publish
from fatescope import command, config
from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from monitoring.drift import Detector
from monitoring.findings import Report

TASK = "binary"
"""Its model knows two of the four media, so that the others are new to it."""
NEW = ("n", "nt3")
KNOWN_CELLS, NEW_CELLS = 2000, 1000
"""Simulated cells of every known group, and of every group of a new medium."""
NEW_RUN, NEW_RUNS, RUN_CELLS = 90, 25, 500
"""The first number of runs that are not in the data, such runs of every medium and day of a test group, their cells."""


def raises_alert(report: Report) -> bool:
    """Return whether the report raises the alert."""
    return bool(report.input_drift)


def finds_mixture(report: Report) -> bool:
    """Return whether the report finds another mixture of classes."""
    return any(finding.statistic == "classes" and finding.drifted for finding in report.findings)


def draw_windows(
    pool: pd.DataFrame, size: int, count: int, *, grouped: bool = False, seed: int = SEED
) -> Iterator[pd.DataFrame]:
    """Yield windows of `pool`; with `grouped`, each of one group. Of too few cells, some come more than once."""
    rng = np.random.default_rng(seed)
    groups = list(pool.groupby("group").indices.values()) if grouped else [np.arange(len(pool))]
    for i in range(count):
        rows = groups[i % len(groups)]
        yield pool.iloc[rng.choice(rows, size, replace=size > len(rows))]


def rates(
    detector: Detector,
    pool: pd.DataFrame,
    *,
    grouped: bool = False,
    criterion: Callable[[Report], bool] = raises_alert,
) -> Shares:
    """Return the shares of windows of `pool` that meet the criterion, by size."""
    return [
        float(
            np.mean([criterion(detector.evaluate(each)) for each in draw_windows(pool, size, WINDOWS, grouped=grouped)])
        )
        for size in SIZES
    ]


def repeated(detector: Detector, pool: pd.DataFrame, *, grouped: bool = False) -> float:
    """Return the share of runs of LOOKS looks in which an alert is raised.

    The worst traffic for an alert that has to hold: batches that replace the window, and then none for HELD looks.
    """
    count = LOOKS // HELD
    windows = draw_windows(pool, WINDOW, STREAMS * count, grouped=grouped)
    alarms = np.array([raises_alert(detector.evaluate(each)) for each in windows])
    return float(alarms.reshape(STREAMS, count).any(1).mean())


def measure(folder: Path, settings: config.Simulate) -> Measured:
    """Measure with the model in `folder` and cells that are simulated with `settings`."""
    model = bundle.load(folder, 2)
    reference = pd.read_parquet(folder / bundle.REFERENCE)
    settings, detector = settings.model_copy(update={"marker_channels": 0, "darkfield": False}), Detector(reference)
    groups = [name.split("_") for name in reference.loc[~reference["seen"], "group"].unique()]
    keys = [(medium, int(day), int(run)) for medium, day, run in groups]
    known = draw(settings, keys, KNOWN_CELLS)
    like = describe(model, known)
    # With lamps of their own, as another culture's runs have.
    new = [(medium, day, run) for medium in NEW for _, day, run in keys[:2]]
    unlike = describe(model, draw(settings, new, NEW_CELLS))
    unseen: list[Key] = [(medium, day, NEW_RUN + i) for i in range(NEW_RUNS) for medium, day, _ in keys]
    others = pd.concat([describe(model, draw(settings, [key], RUN_CELLS)) for key in unseen], ignore_index=True)
    first = like["group"].str.split("_").str[0]
    return Measured(
        len(reference),
        reference["group"].nunique(),
        len(unseen),
        len(keys),
        {
            LIKE: rates(detector, like),
            LIKE_GROUP: rates(detector, like, grouped=True),
            UNSEEN: rates(detector, others, grouped=True),
        },
        {LIKE: repeated(detector, like), LIKE_GROUP: repeated(detector, like, grouped=True)},
        power(model, detector, known, like, unlike),
        rates(detector, like[first == first.iloc[0]], criterion=finds_mixture),
    )


def power(
    model: Bundle, detector: Detector, known: Crops, like: pd.DataFrame, unlike: pd.DataFrame
) -> dict[str, Shares]:
    """Return the rates at which changes are found."""
    count = min(len(like), len(unlike))
    half = pd.concat([table.sample(count, random_state=SEED) for table in (like, unlike)])
    return {
        **{name: rates(detector, describe(model, known, change)) for name, change in CHANGES.items()},
        "a new medium, all": rates(detector, unlike),
        "a new medium, one run": rates(detector, unlike, grouped=True),
        HALF: rates(detector, half),
    }


def main() -> None:
    """Measure with the model and the parameters of this project; print, and write the tables."""
    folder = Path("artifacts") / TASK / "bundle"
    try:
        simulated = bundle.load(folder, 2).spec.simulated
    except BundleError as error:
        sys.exit(f"{error}\nrun `fatescope repro` first")
    if not simulated:
        sys.exit(f"{folder}: a model of real cells; this benchmark simulates cells like those of the default data")
    measured = measure(folder, config.load(Path("params.yaml")).simulate)
    publish("drift", measured.rows(), ["scipy", "numpy"], SEED)
    measured.write(Path("docs/explanation/drift.md"))


if __name__ == "__main__":
    command.run(main)
