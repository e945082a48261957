"""How often the drift detector raises an alarm without drift, and how often it finds drift.

Run with `fatescope bench drift` after `fatescope repro` on the default data; about half a minute. The detector is the
one that watches in production, with the bundle's own reference. New cells are drawn by `pipelines.commands.simulate`
with the lamp, gain and focus of the test groups of that reference (unseen cells of the same runs), and then changed. It
writes `docs/explanation/drift.md` and `reports/bench/drift.json`.
"""

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.report import Figure, publish
from fatescope import command, config
from fatescope.data import features, images
from fatescope.data.images import Pixels
from fatescope.errors import BundleError
from fatescope.inference import bundle
from fatescope.inference.bundle import Bundle
from monitoring.drift import Detector, Report
from monitoring.thresholds import ALPHA
from pipelines.commands import simulate

SEED = 0
TASK = "binary"
"""Its model knows two of the four media, so that the others are new to it."""
NEW = ("n", "nt3")
LIKE = "groups that the model was tested on, mixed"
LIKE_GROUP = "one of these groups"
SIZES = (50, 100, 200, 500)
WINDOWS = 200
CELLS_PER_GROUP = 400
"""Simulated cells of every group."""
NEW_RUN = 90
"""The first number of runs that are not in the data."""
NEW_RUNS = 5
"""Such runs of every medium and day."""

Crops = dict[str, list[Pixels]]
"""Group → native crops."""
Shares = list[float | None]
"""Shares of windows, one per size in SIZES; None where there are too few cells."""
Change = Callable[[Pixels, np.random.Generator], npt.NDArray[np.floating]]


def lamp(factor: float) -> Change:
    """Return a change of the lamp: all pixels brighter by a factor."""
    return lambda pixels, _: pixels * factor


def gain(factor: float) -> Change:
    """Return a change of the contrast: deviations from the background larger by a factor."""
    return lambda pixels, _: images.background(pixels[None])[0] * (1 - factor) + pixels * factor


def noise(counts: float) -> Change:
    """Return a change of the noise: a standard deviation of `counts` added to the noise of the camera."""
    return lambda pixels, rng: pixels + rng.normal(0, counts, pixels.shape)


def blur(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return the mean over 3x3 px: out of focus by about a pixel."""
    padded = np.pad(pixels.astype(float), 1, mode="edge")
    height, width = pixels.shape
    return np.sum([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0) / 9


def crop(pixels: Pixels, _: np.random.Generator) -> npt.NDArray[np.floating]:
    """Return a crop that is 6 px smaller at each side."""
    return pixels[6:-6, 6:-6].astype(float)


CHANGES: dict[str, Change] = {
    "lamp, +3 %": lamp(1.03),
    "lamp, +10 %": lamp(1.1),
    "lamp, +30 %": lamp(1.3),
    "gain, +20 %": gain(1.2),
    "gain, +50 %": gain(1.5),
    "focus, 3x3 px mean": blur,
    "noise, 2 counts": noise(2.0),
    "noise, 5 counts": noise(5.0),
    "crop, 6 px less a side": crop,
}


def draw(settings: config.Simulate, keys: list[tuple[str, int, int]], folder: Path) -> Crops:
    """Simulate unseen cells of groups, (medium, day, run), imaged as the other cells of their group."""
    crops = {}
    for medium, day, run in keys:
        group = simulate.Group(medium, day, run, CELLS_PER_GROUP)
        simulate.draw_group(settings, group, folder)
        # Cells with the first numbers may be those of the data.
        used = settings.cells // len(simulate.groups(settings)) + 1 if run <= settings.runs else 0
        paths = (folder / group.sample).glob("*_Ch1.ome.tif")
        chosen = [path for path in paths if int(re.findall(r"_(\d+)_Ch1", path.name)[0]) > used]
        decoded = [images.decode(path.read_bytes(), path.name, 10**6)[0] for path in sorted(chosen)]
        crops[f"{medium}_{day}_{run}"] = [pixels for _, pixels in decoded]
    return crops


def describe(model: Bundle, known: Crops, change: Change | None = None) -> pd.DataFrame:
    """Return the rows of the prediction log for cells that are changed by `change`."""
    rng, depth = np.random.default_rng(SEED), model.spec.bit_depths[0]
    tables = []
    for group, cells in known.items():
        crops = cells
        if change is not None:
            crops = [np.clip(np.rint(change(cell, rng)), 0, 2**depth - 1).astype(np.uint16) for cell in cells]
        values = np.concatenate([features.acquisition(crop[None], depth) for crop in crops])
        manifest = pd.DataFrame(values, columns=list(features.ACQUISITION)).assign(label="", group=group)
        manifest = manifest.assign(height=[crop.shape[0] for crop in crops], width=[crop.shape[1] for crop in crops])
        centred = np.stack([images.center(crop, model.spec.canvas, group) for crop in crops])
        tables.append(bundle.build_reference(manifest, [model.predict(centred)], model.spec, model.outliers))
    return pd.concat(tables, ignore_index=True)


def raises_alert(report: Report) -> bool:
    """Return whether the report raises the alert."""
    return bool(report.input_drift)


def finds_mixture(report: Report) -> bool:
    """Return whether the report finds another mixture of classes."""
    return any(finding.statistic == "classes" and finding.drifted for finding in report.findings)


def rates(
    detector: Detector,
    pool: pd.DataFrame,
    *,
    grouped: bool = False,
    criterion: Callable[[Report], bool] = raises_alert,
) -> Shares:
    """Return the shares of windows of `pool` that meet the criterion; with `grouped`, every window is of one group."""
    rng, shares = np.random.default_rng(SEED), list[float | None]()
    groups = list(pool.groupby("group").indices.values()) if grouped else [np.arange(len(pool))]
    for size in SIZES:
        if min(map(len, groups)) < size:
            shares.append(None)
            continue
        windows = (rng.choice(groups[i % len(groups)], size, replace=False) for i in range(WINDOWS))
        shares.append(float(np.mean([criterion(detector.evaluate(pool.iloc[rows])) for rows in windows])))
    return shares


def alarms(model: Bundle, detector: Detector, known: Crops, others: Crops) -> dict[str, Shares]:
    """Return the rates of false alarms."""
    like = describe(model, known)
    return {
        LIKE: rates(detector, like),
        LIKE_GROUP: rates(detector, like, grouped=True),
        "one run that it has never seen": rates(detector, describe(model, others), grouped=True),
    }


def power(model: Bundle, detector: Detector, known: Crops, new: Crops) -> dict[str, Shares]:
    """Return the rates at which changes are found."""
    like, unlike = describe(model, known), describe(model, new)
    count = min(len(like), len(unlike)) // 2
    half = pd.concat([table.sample(count, random_state=SEED) for table in (like, unlike)])
    medium = like["group"].str.split("_").str[0]
    return {
        **{name: rates(detector, describe(model, known, change)) for name, change in CHANGES.items()},
        "a new medium, all": rates(detector, unlike),
        "a new medium, half": rates(detector, half),
        "one class alone: reported as another mixture, which is no fault": rates(
            detector, like[medium == medium.iloc[0]], criterion=finds_mixture
        ),
    }


def to_figures(rows: dict[str, Shares], bars: dict[str, str]) -> list[Figure]:
    """Return the cells of a table as figures."""
    return [
        Figure(f"{name}, {size} cells", share, bars.get(name))
        for name, shares in rows.items()
        for size, share in zip(SIZES, shares, strict=True)
        if share is not None
    ]


def table(rows: dict[str, Shares]) -> str:
    """Return a table as Markdown."""
    header = ["Windows of", *(f"{size} cells" for size in SIZES)]
    lines = [header, ["---"] * len(header)]
    lines += [[name, *("" if share is None else f"{share:.1%}" for share in shares)] for name, shares in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure, print and write the tables."""
    folder, settings = Path("artifacts") / TASK / "bundle", config.load(Path("params.yaml")).simulate
    try:
        model = bundle.load(folder, 2)
    except BundleError as error:
        sys.exit(f"{error}\nrun `fatescope repro` first")
    if not model.spec.simulated:
        sys.exit(f"{folder}: a model of real cells; this benchmark simulates cells like those of the default data")
    reference = pd.read_parquet(folder / bundle.REFERENCE)
    settings = settings.model_copy(update={"marker_channels": 0})
    # Groups that the model was tested on.
    groups = [name.split("_") for name in reference.loc[~reference["seen"], "group"].unique()]
    keys = [(medium, int(day), int(run)) for medium, day, run in groups]
    with tempfile.TemporaryDirectory(prefix="fatescope-bench-") as name:
        known = draw(settings, keys, Path(name))
        unseen = [(medium, day, NEW_RUN + i) for medium, day, _ in keys for i in range(NEW_RUNS)]
        others = draw(settings, unseen, Path(name))
        # With lamps of their own, as another culture's runs have.
        new = draw(settings, [(medium, day, run) for medium in NEW for _, day, run in keys[:2]], Path(name))
    detector = Detector(reference)
    false_alarms, found = alarms(model, detector, known, others), power(model, detector, known, new)
    # 200 windows at the stated level: three standard errors.
    bar = f"<= {ALPHA + 3 * float(np.sqrt(ALPHA * (1 - ALPHA) / WINDOWS)):.4f}"
    publish(
        "drift",
        to_figures(false_alarms, {LIKE: bar, LIKE_GROUP: bar}) + to_figures(found, {}),
        ["scipy", "numpy"],
        SEED,
    )
    text = TEXT.format(
        seed=SEED, windows=WINDOWS, task=TASK, cells=len(reference), tested=len(keys),
        groups=reference["group"].nunique(), alpha=ALPHA,
        quiet=table(false_alarms), power=table(found),
    )  # fmt: skip
    Path("docs/explanation/drift.md").write_text(text, encoding="utf-8")


TEXT = """# How often drift is found

Written by `fatescope bench drift` (seed {seed}) after `fatescope repro` on the default, simulated data: {windows}
windows each, {task} model, {cells} cells of {groups} acquisition groups in its reference, of which it was tested on
{tested}. Another model has other figures.

## False alarms

The stated level is {alpha:.0%} of windows of like cells.

{quiet}

A run that is in no data has a lamp of its own: the last row says how often the first sample of a new run raises an
alarm. Add cells of more runs to the data to make it rarer.

## Power

{power}

The thresholds allow for how much the acquisition groups of the reference differ: with few groups they are wide, and a
smaller change, or a medium that looks to the model like one that it knows, is not found. More runs of each class in the
data make them narrower. `novelty`, which finds the new media, was developed with these two in view; it was not tried on
others, or on real ones.
"""


if __name__ == "__main__":
    command.run(main)
